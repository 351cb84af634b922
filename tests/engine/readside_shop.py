"""A small shop to read: facts, an aggregate that states them, and a projection of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

from psycopg import AsyncConnection
from pydantic import BaseModel
from sqlalchemy import BigInteger, Column, DateTime, Integer, Text
from sqlalchemy.dialects.postgresql import JSONB

from amends.aggregate import Aggregate, Decision
from amends.changes import Rows
from amends.database import conninfo
from amends.following import Follower
from amends.messages import Command, Event
from amends.projection import Projection
from amends.records import Context, Position, Recorded
from amends.schema import owner_engine


class Place(Command, name="readside.place"):
    order_id: str
    total: int


class Placed(Event, name="readside.placed"):
    order_id: str
    total: int


class Dropped(Event, name="readside.dropped"):
    order_id: str


class Noise(Event, name="readside.noise"):
    """Something that the projection does not care for."""


class Order(Aggregate[Place, Placed], category="readside", key="order_id"):
    placed: int = 0

    def decide(self, command: Place) -> Decision:
        return [Placed(order_id=command.order_id, total=command.total)]

    def evolve(self, event: Placed) -> Self:
        return self.having(placed=self.placed + 1)


class OrderRow(BaseModel):
    order_id: str
    status: str
    total: int
    net: int


def order_list(name: str = "readside_orders", version: int = 1) -> Projection:
    """A projection of its own for each test: the orders, each with its latest state."""
    history = Projection(name, version=version)
    orders = history.table(
        "readside_order",
        Column("order_id", Text, primary_key=True, comment="Which order."),
        Column("status", Text, nullable=False, server_default="new", comment="How far it's come; 100% or not."),
        Column("total", BigInteger, nullable=False, default=0, comment="In cents: all that was ordered."),
        Column("placed", Integer, nullable=False, default=0, comment="How often."),
        Column("at", DateTime(timezone=True), comment="When last."),
        Column("totals", JSONB, nullable=False, server_default="[]", comment="Each single total, in cents."),
        comment="One row an order.",
        computed={"net": ("total - total % 10", "Total in cents, rounded down to ten.")},
    )

    @history.on(Placed)
    def placed(event: Placed, fact: Recorded, rows: Rows) -> None:
        change = rows(orders, event.order_id).set(status="placed").greatest(at=fact.recorded_at)
        change.add(total=event.total, placed=1).append(totals=event.total)

    @history.on(Dropped)
    def dropped(event: Dropped, fact: Recorded, rows: Rows) -> None:
        rows(orders, event.order_id).delete()

    return history


def install(url: str, projection: Projection) -> None:
    with owner_engine(url).begin() as owner:
        projection.install(owner)


def context(command_id: str) -> Context:
    return Context(command_id=command_id, actor="test", correlation_id="test", causation_id="test")


APPEND = "select at_xid, at_position from amends.append(%s::jsonb)"


async def append(connection: AsyncConnection[Any], stream: str, expected: int, *events: Event) -> Position:
    """A raw append in the connection's transaction, which may stay open."""
    request: dict[str, Any] = {
        "command_id": f"{stream}:{expected}",
        "name": "readside.raw",
        "stream": stream,
        "expected": expected,
        "payload": {},
        "outcome": "done",
        "refusal": None,
        "events": [
            {"name": e.message_name, "version": e.schema_version, "data": e.model_dump(mode="json")} for e in events
        ],
        "claims": [],
        "frees": [],
        "snapshot": None,
        "attempt": 1,
        "started_at": "2026-01-01T00:00:00Z",
        **context("").model_dump(exclude={"command_id", "labels"}),
    }
    row = await (await connection.execute(APPEND, (json.dumps(request),))).fetchone()
    assert row is not None
    return Position(*row)


@asynccontextmanager
async def connect(url: str, *, autocommit: bool = True) -> AsyncIterator[AsyncConnection[Any]]:
    connection = await AsyncConnection.connect(conninfo(url, "owner"), autocommit=autocommit)
    try:
        yield connection
    finally:
        await connection.close()


async def fetch(url: str, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    async with connect(url) as connection:
        return await (await connection.execute(query.encode(), parameters or None)).fetchall()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Look again and again until it is so."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - a query tells, no event does
            await asyncio.sleep(0.005)


class Beats:
    """Signs of life of a projector, and a way to wait for one."""

    def __init__(self) -> None:
        self.positions: list[Position] = []
        self._beaten = asyncio.Event()

    def __call__(self, position: Position) -> None:
        self.positions.append(position)
        self._beaten.set()

    async def until(self, condition: Callable[[Beats], bool], seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while not condition(self):
                await self._beaten.wait()
                self._beaten.clear()


@asynccontextmanager
async def running(follower: Follower) -> AsyncIterator[Beats]:
    """A projector or process manager at work, stopped in good order at the end."""
    stop, beats = asyncio.Event(), Beats()
    task = asyncio.create_task(follower.run(stop, beats))
    beaten = asyncio.create_task(beats.until(lambda b: bool(b.positions)))
    try:
        await asyncio.wait({task, beaten}, return_when=asyncio.FIRST_COMPLETED)
        yield beats
    finally:
        beaten.cancel()
        stop.set()
        async with asyncio.timeout(10):
            await task
