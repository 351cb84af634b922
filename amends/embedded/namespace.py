"""Makes a Temporal namespace usable: it exists and knows the search attributes sagas are listed by."""

import asyncio
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TypeAlias

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from amends.errors import ServerFailed

Types: TypeAlias = "Mapping[str, IndexedValueType.ValueType]"

__all__ = ["attempt_blocking", "make_usable"]

# Of a namespace that is made here; the server's own default for a development server.
RETENTION = timedelta(days=1)
PAUSE_SECONDS = 0.02


def attempt_blocking(address: str, namespace: str, attributes: Mapping[str, str], timeout: float) -> str | None:
    """`make_usable` for callers without an event loop, or with one they can't leave.

    Args:
        address: host:port.
        namespace: its name.
        attributes: name → type, as `make_usable` takes them.
        timeout: seconds.

    Returns:
        Why it is not usable yet; None when it is.

    Errors:
        ServerFailed: it can't become usable by waiting.
    """
    outcome: list[str | BaseException | None] = []

    def work() -> None:
        try:
            outcome.append(asyncio.run(make_usable(address, namespace, attributes, timeout)))
        except BaseException as problem:
            outcome.append(problem)

    thread = threading.Thread(target=work, name="temporal-ready")
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


async def make_usable(address: str, namespace: str, attributes: Mapping[str, str], timeout: float) -> str | None:
    """Makes the namespace and its search attributes where they are missing, and sees them answer a query.

    A server with stored data ignores the attributes it is started with, so they are added here.

    Args:
        address: host:port.
        namespace: its name.
        attributes: name → type: Text, Keyword, Int, Double, Bool, Datetime or KeywordList.
        timeout: seconds.

    Returns:
        Why it is not usable yet; None when it is.

    Errors:
        ServerFailed: an attribute is stored with another type, or the server refuses one.
    """
    deadline = time.monotonic() + timeout
    wanted = {name: _type_of(kind) for name, kind in attributes.items()}
    while True:
        try:
            client = await Client.connect(address, namespace=namespace)
            await _ensure_namespace(client, namespace)
            await _ensure_attributes(client, namespace, wanted)
            # The servers behind the front one have heard of an attribute when they can search by it.
            for name in wanted:
                await client.count_workflows(f"`{name}` IS NULL")
        except (RPCError, RuntimeError) as problem:
            # RuntimeError is how the client says that nobody listens yet.
            if time.monotonic() > deadline:
                return str(problem)
        else:
            return None
        await asyncio.sleep(PAUSE_SECONDS)


async def _ensure_namespace(client: Client, namespace: str) -> None:
    try:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
    except RPCError as problem:
        if problem.status is not RPCStatusCode.NOT_FOUND:
            raise
        request = RegisterNamespaceRequest(namespace=namespace)
        request.workflow_execution_retention_period.FromTimedelta(RETENTION)
        await client.workflow_service.register_namespace(request)


async def _ensure_attributes(client: Client, namespace: str, wanted: Types) -> None:
    listed = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=namespace))
    stored = listed.custom_attributes
    for name, kind in wanted.items():
        # The server says nothing to this, and would keep the old type.
        if name in stored and stored[name] != kind:
            raise ServerFailed(
                f"search attribute {name} is stored as {_name_of(stored[name])} and wanted as "
                f"{_name_of(kind)}: give it another name, or start with fresh data"
            )
    missing = {name: kind for name, kind in wanted.items() if name not in stored}
    if not missing:
        return
    request = AddSearchAttributesRequest(namespace=namespace, search_attributes=missing)
    try:
        await client.operator_service.add_search_attributes(request)
    except RPCError as problem:
        if problem.status is RPCStatusCode.INVALID_ARGUMENT:
            raise ServerFailed(f"the search attributes {', '.join(missing)} can't be added: {problem}") from problem
        if problem.status is not RPCStatusCode.ALREADY_EXISTS:
            raise


def _type_of(kind: str) -> "IndexedValueType.ValueType":
    spelled = {_name_of(value): value for value in IndexedValueType.values()}
    if kind not in spelled:
        raise ServerFailed(f"there is no search attribute type {kind!r}; there are {', '.join(sorted(spelled))}")
    return spelled[kind]


def _name_of(kind: "IndexedValueType.ValueType") -> str:
    words = IndexedValueType.Name(kind).removeprefix("INDEXED_VALUE_TYPE_").split("_")
    return "".join(word.capitalize() for word in words)
