import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from amends.embedded import EmbeddedTemporal, free_port
from amends.errors import PortTaken, ServerFailed
from tests.embedded.helpers import alive, processes_of, until

STATUS = SearchAttributeKey.for_keyword("SagaStatus")
TOTAL = SearchAttributeKey.for_int("Total")

Make = Callable[..., EmbeddedTemporal]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Starts a server on the same data again and again."""
    made: list[EmbeddedTemporal] = []

    def start(**options: Any) -> EmbeddedTemporal:
        if made:
            made[-1].stop(0.0)
        with_data = {"db_path": tmp_path / "temporal.db", "search_attributes": {"SagaStatus": "Keyword"}}
        made.append(EmbeddedTemporal(tmp_path, free_port(), None, **{**with_data, **options}))
        made[-1].start()
        made[-1].wait_ready()
        return made[-1]

    yield start
    for server in made:
        server.stop(0.0)
    until("nothing is left", lambda: not processes_of(tmp_path))


async def begin(server: EmbeddedTemporal, name: str, *attributes: SearchAttributePair[Any]) -> None:
    client = await Client.connect(server.address, namespace=server.namespace)
    await client.start_workflow(
        "Anything", id=name, task_queue="nobody", search_attributes=TypedSearchAttributes(attributes)
    )


async def test_its_search_attributes_can_be_used_at_once(make: Make) -> None:
    server = make(namespace="shop")

    await begin(server, "order-1", SearchAttributePair(STATUS, "running"))

    client = await Client.connect(server.address, namespace="shop")
    assert (await client.count_workflows("SagaStatus = 'gone'")).count == 0


async def test_a_workflow_stays_after_an_orderly_end_and_after_kill_9(make: Make) -> None:
    server = make()
    await begin(server, "order-1", SearchAttributePair(STATUS, "running"))
    server.stop()
    assert server.pid is None

    server = make()
    await begin(server, "order-2", SearchAttributePair(STATUS, "running"))
    assert server.pid is not None
    pid = server.pid
    os.kill(pid, signal.SIGKILL)
    assert until("its death is noticed", server.poll) == -signal.SIGKILL
    assert not alive(pid)

    client = await Client.connect(make().address)
    for name in ("order-1", "order-2"):
        found = await client.get_workflow_handle(name).describe()
        assert found.status == WorkflowExecutionStatus.RUNNING
        assert found.typed_search_attributes[STATUS] == "running"


async def test_later_starts_may_add_search_attributes_and_namespaces(make: Make) -> None:
    make()
    both = {"SagaStatus": "Keyword", "Total": "Int"}
    server = make(search_attributes=both)

    await begin(server, "order-1", SearchAttributePair(STATUS, "running"), SearchAttributePair(TOTAL, 5))

    server = make(search_attributes=both, namespace="later")
    await begin(server, "order-1", SearchAttributePair(TOTAL, 5))
    client = await Client.connect(server.address)
    listed = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace="later"))
    assert set(listed.custom_attributes) == set(both)


def test_a_search_attribute_that_changed_its_type_is_refused(make: Make) -> None:
    make()

    with pytest.raises(ServerFailed, match="SagaStatus is stored as Keyword and wanted as Int"):
        make(search_attributes={"SagaStatus": "Int"})


def test_a_type_that_is_none_is_refused(make: Make) -> None:
    with pytest.raises(ServerFailed, match='type "Colour"'):
        make(search_attributes={"SagaStatus": "Colour"})


async def test_in_memory_it_keeps_nothing(make: Make, tmp_path: Path) -> None:
    server = make(db_path=None, time_skipping=True)
    await begin(server, "order-1")

    client = await Client.connect(make(db_path=None).address)

    assert [one async for one in client.list_workflows()] == []
    assert not (tmp_path / "temporal.db").exists()


def test_it_shows_a_web_ui(tmp_path: Path) -> None:
    server = EmbeddedTemporal(tmp_path, free_port(), free_port(), db_path=None)
    try:
        server.start()
        server.wait_ready()

        assert server.web_ui is not None
        with urllib.request.urlopen(server.web_ui, timeout=10) as page:
            assert "<html" in page.read().decode().lower()
    finally:
        server.stop()


def test_a_taken_port_is_named(make: Make, tmp_path: Path) -> None:
    first = make()
    second = EmbeddedTemporal(tmp_path, first.port, None, db_path=None)
    second.start()
    try:
        with pytest.raises(PortTaken, match=f"port {first.port} .*AMENDS_TEMPORAL_PORT"):
            second.wait_ready()
    finally:
        second.stop()
