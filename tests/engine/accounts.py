"""Accounts to project: a handler that can't read some notes, and a table that refuses totals of 1000 and more."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Text
from sqlalchemy.dialects.postgresql import JSONB

from amends.changes import Rows
from amends.messages import Event
from amends.projection import Projection
from amends.records import Position, Recorded
from tests.engine.readside_shop import append, connect

WHO = ("Grace", "the parser is mended")
ROWS = "select account, total, notes from views.accounts order by account"
LETTERS = (
    "select key, event, error is not null, attempts, state from views.dead_letters order by generation, xid, position"
)
COUNTED = (
    "select dead_letters from amends.checkpoints where projection = 'accounts' and role <> 'kept' order by generation"
)
STATUS = """
select generation, state, healthy, problem, last_error is not null, position, dead_letters from views.projection_status
where projection = 'accounts' and served
"""


class Paid(Event, name="letters.paid"):
    account: str
    amount: int


class Noted(Event, name="letters.noted"):
    account: str
    note: str


class Parser:
    """What the handlers can read; mended by a deploy."""

    def __init__(self, *unreadable: str) -> None:
        self.unreadable = set(unreadable)

    def read(self, text: str) -> str:
        if text in self.unreadable:
            raise ValueError(f"can't read {text}")
        return text


def accounts(parser: Parser | None = None, *, version: int = 1, partitions: int = 1) -> Projection:
    projection, parser = Projection("accounts", version=version, partitions=partitions), parser or Parser()
    table = projection.table(
        "accounts",
        Column("account", Text, primary_key=True, comment="Which."),
        Column("total", BigInteger, nullable=False, default=0, comment="Paid in all."),
        Column("notes", JSONB, nullable=False, server_default="[]", comment="What was noted, in order."),
        CheckConstraint("total < 1000"),
        comment="One row an account.",
    )

    @projection.on(Paid, key="account")
    def paid(event: Paid, fact: Recorded, rows: Rows) -> None:
        rows(table, event.account).add(total=event.amount)

    @projection.on(Noted, key="account")
    def noted(event: Noted, fact: Recorded, rows: Rows) -> None:
        change = rows(table, event.account).append(notes="…")  # half of it is done when the other half fails
        change.append(notes=parser.read(event.note))

    return projection


async def happens(url: str, *events: Paid | Noted) -> Position:
    """Each in a stream of its own: the key is a field."""
    async with connect(url) as connection:
        [(before,)] = await (await connection.execute("select count(*) from amends.events")).fetchall()
        for n, event in enumerate(events, before):
            at = await append(connection, f"stream-{n}", 0, event)
    return at
