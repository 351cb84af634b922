"""Requests that our own client has not checked: of another language, another version, or too large for anybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr
from pydantic_core import to_json
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from amends import Command
from amends.client import MAX_REQUEST
from amends.connect import connect
from amends.errors import InvalidInput, NoAnswer
from amends.received import beginning, invalid_in
from amends.settings import Settings
from client import Shop
from domain.values import Line
from tests.conftest import RunWorker
from tests.sagas.given import replays, rows
from tests.sagas.shopping import STORED, Market, card
from workflows.place_order import PlaceOrder


def nested(depth: int) -> dict[str, Any]:
    data: dict[str, Any] = {"a": 1}
    for _ in range(depth):
        data = {"a": data}
    return data


def raw(json: bytes) -> RawValue:
    """JSON as another language has written it, which our own would not."""
    return RawValue(Payload(metadata={"encoding": b"json/plain"}, data=json))


REGISTER = {"customer_id": "c1", "name": "Ada", "email": "ada@example.org"}

COMMANDS: dict[str, tuple[Any, str]] = {
    "a field that can't be": ({"name": "customer.register", "data": {**REGISTER, "customer_id": "a b"}}, "customer_id"),
    "a field too many": ({"name": "customer.register", "data": {**REGISTER, "admin": True}}, "admin"),
    "a field too few": ({"name": "customer.register", "data": {"customer_id": "c1", "name": "Ada"}}, "email"),
    "no money": ({"name": "product.add", "data": {"sku": "s", "name": "n", "price": nested(100)}}, "price.amount"),
    "money too large": (
        {"name": "product.add", "data": {"sku": "s", "name": "n", "price": {"amount": 10**30, "currency": "EUR"}}},
        "price.amount",
    ),
    "a NUL": ({"name": "customer.register", "data": {**REGISTER, "name": "a\x00b"}}, "name"),
    "too deep": (raw(b'{"name": "customer.register", "data": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001), "input"),
    "no JSON": (raw(b'{"name": "customer.regi'), "input"),
    "half a pair": (raw(to_json({"name": "n", "data": REGISTER}).replace(b"Ada", b"\\ud800")), "input"),
    "no finite number": (raw(b'{"name": "stock.receive", "data": {"sku": "s", "quantity": NaN}}'), "quantity"),
    "what is no sign": (raw(to_json({"name": "n", "data": REGISTER}).replace(b"Ada", b"\xff")), "input"),
    "too long": ({"name": "customer.register", "data": {**REGISTER, "name": "x" * 1_000_000}}, "name"),
    "a request with more": ({"name": "customer.register", "data": REGISTER, "actor": "root"}, "actor"),
    "a request with less": ({"name": "customer.register"}, "data"),
    "a list": ([1, 2], "input"),
    "nothing": (None, "input"),
}


@pytest.fixture
async def client(settings: Settings, run_worker: RunWorker) -> AsyncIterator[Client]:
    async with run_worker():
        yield await connect(settings)


async def failed(client: Client, settings: Settings, workflow: str, request: Any) -> ApplicationError:
    """How a workflow ends that begins with this; it must not be tried again and again."""
    id = f"{workflow}-{uuid4().hex}"
    handle = await client.start_workflow(workflow, request, id=id, task_queue=settings.task_queue)
    with pytest.raises(WorkflowFailureError) as ended:
        await asyncio.wait_for(handle.result(), 30)
    assert isinstance(ended.value.cause, ApplicationError), ended.value.cause
    return ended.value.cause


async def test_given_commands_that_no_client_of_ours_has_checked_when_sent_then_they_fail_at_once_by_field(
    client: Client, settings: Settings, database_url: str
) -> None:
    before = await rows(database_url, STORED)
    for case, (request, field) in COMMANDS.items():
        error = await failed(client, settings, "ExecuteCommand", request)
        wrong = invalid_in(error)
        assert wrong is not None, (case, error)
        assert field in wrong.problems, (case, wrong)
        assert len(str(error)) < 500, case
    unknown = await failed(client, settings, "ExecuteCommand", {"name": "projection.rebuild", "data": {}})
    assert (unknown.type, unknown.non_retryable) == ("UnknownMessage", True)
    assert await rows(database_url, STORED) == before


@pytest.mark.parametrize("workflow", ["PlaceOrder", "RefundOrder"])
async def test_given_an_order_that_no_client_of_ours_has_checked_when_begun_then_it_fails_at_once_by_field(
    workflow: str, client: Client, settings: Settings, database_url: str
) -> None:
    before = await rows(database_url, STORED)
    lines = [{"sku": f"s{n}", "quantity": 1} for n in range(10_000)]
    payment = {"token": "tok_ok"}
    for request, field in (
        ({"order_id": "o'; drop table amends.events; --", "lines": lines, "payment": payment}, "order_id"),
        ({"order_id": "o1", "customer_id": "c1", "refund_id": "r1", "lines": lines, "payment": payment}, "lines"),
        ({"order_id": "o1", "refund_id": "r1", "lines": [{"sku": "a", "quantity": 2**64}]}, "lines.0.quantity"),
    ):
        wrong = invalid_in(await failed(client, settings, workflow, request))
        assert wrong is not None
        assert field in wrong.problems
    assert await rows(database_url, STORED) == before


class Wide(Command, name="edges.wide"):
    """A command of an app that bounds nothing."""

    wide_id: str
    text: str


async def test_given_a_command_of_3_mb_when_executed_then_it_is_refused_at_once_and_nothing_is_stored(
    settings: Settings, database_url: str
) -> None:
    before = await rows(database_url, STORED)
    async with await Shop.connect(settings) as shop:  # nobody works: it must not get as far as that
        for length in (3 * 2**20, MAX_REQUEST + 1):
            with pytest.raises(InvalidInput, match=r"request: is of [0-9,]+ bytes, and Temporal takes 1,500,000"):
                await shop.execute(Wide(wide_id="w1", text="x" * length))
        with pytest.raises(InvalidInput, match="actor: must be a text of at most 200 characters"):
            await shop.execute(Wide(wide_id="w1", text="x"), actor="x" * (3 * 2**20))
    assert await rows(database_url, STORED) == before


async def test_given_a_command_as_large_as_may_be_when_sent_then_temporal_takes_it_encrypted_or_not(
    settings: Settings,
) -> None:
    # given
    text = "x" * (MAX_REQUEST - 200)
    for keys in (None, SecretStr("k1:" + "A" * 43 + "=")):
        hasty = settings.model_copy(update={"answer_seconds": 0.2, "payload_keys": keys})
        async with await Shop.connect(hasty) as shop:
            # when, then: it waits for a worker, of which there is none
            with pytest.raises(NoAnswer):
                await shop.execute(Wide(wide_id="w1", text=text))


async def test_given_an_order_of_10_000_lines_when_placed_or_returned_then_it_is_refused_at_once_by_field(
    settings: Settings, database_url: str
) -> None:
    before = await rows(database_url, STORED)
    lines = [Line(sku=f"s{n}", quantity=1) for n in range(10_000)]
    async with await Shop.connect(settings) as shop:
        with pytest.raises(InvalidInput, match="lines: Tuple should have at most 100 items"):
            await shop.place_order("c1", lines, card())
        with pytest.raises(InvalidInput, match="lines: Tuple should have at most 100 items"):
            await shop.refund_order("o1", lines)
    assert await rows(database_url, STORED) == before


async def test_given_a_saga_that_runs_when_it_is_replayed_by_code_that_can_not_read_its_request_then_it_is_not_failed(
    settings: Settings, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has done something, which its undo must not be lost for: newer code may read it."""
    begun: list[bool] = []

    def noted(begins: bool) -> AbstractContextManager[None]:
        begun.append(begins)
        return beginning(begins)

    monkeypatch.setattr("amends.runner.beginning", noted)
    async with run_worker(), await Shop.connect(settings) as shop:
        assert settings.database_url is not None
        market = Market(shop, settings.database_url.get_secret_value())
        order = await market.place(card())
        assert (await order.result()).status == "completed"
        live = begun.count(True)
        # when: the same histories are replayed, as after a restart
        begun.clear()
        await replays([market.saga(order.order_id)], [PlaceOrder], settings)
    assert live > 0
    assert begun
    assert not any(begun)


def test_given_failures_of_other_kinds_when_looked_through_then_none_is_taken_for_wrong_input() -> None:
    assert invalid_in(None) is None
    assert invalid_in(ValueError("x")) is None
    assert invalid_in(ApplicationError("x", type="Refused")) is None
    told = invalid_in(ApplicationError("it is wrong", type="InvalidInput"))
    assert told is not None
    assert told.problems == {"input": "it is wrong"}
