"""Versions of the workers' code, several at once: running sagas stay with theirs, new ones take the current one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.deployment.v1 import WorkerDeploymentInfo
from temporalio.api.enums.v1 import WorkerDeploymentVersionStatus
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    ResetActivityRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkerDeploymentConfig

from amends.errors import StartupError
from amends.settings import Settings
from amends.visibility import quoted

__all__ = ["Version", "deployment_config", "follow_current", "make_current", "versions_of"]

PAUSE = 0.2
"""Seconds between two looks at what the server knows."""

NOT_YET = {RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION}
"""What the server answers as long as it has not heard of all that a version's worker polls."""

PINNED_TO = (
    "TemporalWorkerDeploymentVersion = '{}:{}' and TemporalWorkflowVersioningBehavior = 'Pinned'"
    " and ExecutionStatus = 'Running'"
)
"""Workflows that need a version, for they finish on the code they began on."""

SUPERVISORS = (
    "WorkflowType in ('RunProjection', 'RunProcessManager') and TaskQueue = {} and ExecutionStatus = 'Running'"
)
"""What keeps the followers of the feed going."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the workers' code.

    Args:
        build_id: its name.
        status: current (takes what is new), ramping, draining (not current any more, but sagas may still need it),
            drained (none does, says the server, which looks every few minutes) or inactive (it never was current).
        sagas: how many running sagas are pinned to it, children included.
        created_at: when its first worker came.
    """

    build_id: str
    status: str
    sagas: int
    created_at: datetime


def deployment_config(settings: Settings) -> WorkerDeploymentConfig | None:
    """What makes a worker one of a version: its sagas are pinned to it; None when versioning is off.

    Args:
        settings: the deployment and the build id.

    Raises:
        StartupError: only one of them is set.
    """
    if settings.deployment is None and settings.build_id is None:
        return None
    if settings.deployment is None or settings.build_id is None:
        raise StartupError("Set both AMENDS_DEPLOYMENT and AMENDS_BUILD_ID, or neither: together they name a version")
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(settings.deployment, settings.build_id),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


def follow_current(settings: Settings, workflows: Sequence[type[Any]]) -> None:
    """Let workflows of the engine go on with the current version instead of staying with theirs.

    A server takes that from workers with a version alone, so it can't stand in the workflows' own declarations.

    Args:
        settings: say whether this worker has a version.
        workflows: those that live longer than any version.
    """
    behavior = VersioningBehavior.UNSPECIFIED if settings.build_id is None else VersioningBehavior.AUTO_UPGRADE
    for each in workflows:
        object.__setattr__(workflow._Definition.must_from_class(each), "versioning_behavior", behavior)


async def make_current(client: Client, settings: Settings, build_id: str, patience: float) -> None:
    """Let new sagas start on a version, and hand projections and process managers over to it.

    Args:
        client: connected to Temporal.
        settings: the deployment, and the task queue.
        build_id: the version; an older one takes a deployment back.
        patience: seconds to wait for the version's first worker.

    Raises:
        StartupError: no deployment is set, or the server has not heard of all of the version's worker in time.
    """
    name, deadline = _deployment(settings), time.monotonic() + patience
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace, deployment_name=name, build_id=build_id, identity=client.identity
    )
    while True:
        try:
            await client.workflow_service.set_worker_deployment_current_version(request)
            break
        except RPCError as error:
            if error.status not in NOT_YET:
                raise
            if time.monotonic() > deadline:
                raise StartupError(
                    f"{build_id} is not the current version of {name}, after {patience:g} s: {error.message}. It takes "
                    f"a worker with AMENDS_DEPLOYMENT={name} and AMENDS_BUILD_ID={build_id} on the same task queue"
                ) from error
            await asyncio.sleep(PAUSE)
    await _hand_over(client, settings.task_queue)


async def versions_of(client: Client, settings: Settings) -> Sequence[Version]:
    """The versions of a deployment, newest first.

    Args:
        client: connected to Temporal.
        settings: the deployment.

    Raises:
        StartupError: no deployment is set, or no worker of it has ever come.
    """
    name = _deployment(settings)
    request = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=name)
    try:
        answer = await client.workflow_service.describe_worker_deployment(request)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        raise StartupError(f"No worker of the deployment {name} has ever come") from error
    found = [await _version(client, name, summary) for summary in answer.worker_deployment_info.version_summaries]
    return sorted(found, key=lambda version: version.created_at, reverse=True)


async def _version(client: Client, name: str, summary: WorkerDeploymentInfo.WorkerDeploymentVersionSummary) -> Version:
    build_id = summary.deployment_version.build_id
    count = await client.count_workflows(PINNED_TO.format(name, build_id))
    status = WorkerDeploymentVersionStatus.Name(summary.status).removeprefix("WORKER_DEPLOYMENT_VERSION_STATUS_")
    return Version(build_id, status.lower(), count.count, summary.create_time.ToDatetime(UTC))


async def _hand_over(client: Client, task_queue: str) -> None:
    """Have the followers of the feed begin anew on the current version, each from its checkpoint.

    Their workflows follow that version by themselves, but only when their activity ends, and that one has no end.
    """
    async for found in client.list_workflows(SUPERVISORS.format(quoted(task_queue))):
        execution = WorkflowExecution(workflow_id=found.id, run_id=found.run_id)
        request = ResetActivityRequest(
            namespace=client.namespace, execution=execution, match_all=True, identity=client.identity
        )
        try:
            await client.workflow_service.reset_activity(request)
        except RPCError as error:
            if (
                error.status is not RPCStatusCode.NOT_FOUND
            ):  # it is between two activities, and takes the next one there
                raise


def _deployment(settings: Settings) -> str:
    if settings.deployment is None:
        raise StartupError("Say which deployment: set AMENDS_DEPLOYMENT, as its workers have it")
    return settings.deployment
