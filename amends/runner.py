"""What workflow code runs in, in every worker and every replay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from temporalio import workflow
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from amends.received import beginning
from amends.updates import HearUpdates

__all__ = ["RUNNER"]


class _Runner(SandboxedWorkflowRunner):
    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        details = replace(det, interceptor_classes=[HearUpdates, *det.interceptor_classes])
        return _Quick(super().create_instance(details))


class _Quick(WorkflowInstance):
    """Tells no converter for which command it converts: none of ours asks, and every payload would.

    The answer is found by running code in the sandbox, which was a tenth of a worker's time. What ours asks is whether
    a workflow begins.
    """

    def __init__(self, inner: WorkflowInstance) -> None:
        self._inner = inner

    def activate(self, act: Any) -> Any:
        begins = not act.is_replaying and any(job.HasField("initialize_workflow") for job in act.jobs)
        with beginning(begins):
            return self._inner.activate(act)

    def get_serialization_context(self, command_info: object) -> None:
        return None

    def get_external_store_context(self, command_info: Any) -> Any:
        return self._inner.get_external_store_context(command_info)

    def get_info(self) -> workflow.Info:
        return self._inner.get_info()

    def get_thread_id(self) -> int | None:
        return self._inner.get_thread_id()


RUNNER = _Runner(restrictions=SandboxRestrictions.default.with_passthrough_all_modules())
"""Keeps workflow code deterministic; modules pass through, for reloading them costs 30 times as much."""
