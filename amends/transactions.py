"""Transaction ids of the cluster and those in the log: what a log needs that comes from another cluster.

The feed's order is (transaction, position). A dump that is restored into another cluster brings the transaction ids of
the old one along, and the new one counts from the beginning: its readers would not be shown those events, and what is
written now would come before them, where everybody has passed already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, LiteralString, NamedTuple

from psycopg import Connection, sql
from psycopg import errors as pg

from amends.database import Connection as AsyncConnection
from amends.errors import InvalidInput, StartupError

__all__ = ["MOST", "Advanced", "Ids", "advance", "ahead", "let_pass", "refuse_a_log_ahead"]

PASS = """
do $$ begin for n in 1..{} loop perform pg_current_xact_id(); commit; end loop; end $$
"""
"""Let so many transaction ids pass."""

IDS = """
select greatest((select max(xid) from amends.events), (select max(xid) from amends.checkpoints), '0')::text::bigint,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint
"""
"""The latest transaction that the log or one of its readers knows of, and the next one here."""

OF_THE_LOG = """
select coalesce((select max(xid) from amends.events), '0')::text::bigint,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint
"""
"""The same for somebody who may not look at the readers."""

BEFORE_ITS_TURN = """
select count(*) from amends.events e
where e.xid < pg_snapshot_xmax(pg_current_snapshot())
  and e.xmin::text::bigint = e.xid::text::bigint & 4294967295
"""
"""Events that were written in this cluster by the transaction that they name: rows of a dump are written by another."""

BLOCK = 250_000
"""Transaction ids that pass between two words about how far it is."""

MOST = 500_000_000
"""So many ids may pass; more would make the cluster freeze all its rows first."""


class Ids(NamedTuple):
    """How transaction ids stand.

    Args:
        known: the latest that the log or a checkpoint names.
        next: the one that this cluster gives out next.
    """

    known: int
    next: int

    @property
    def ahead(self) -> bool:
        """Whether the log is from another cluster, which was further."""
        return self.known >= self.next


class Advanced(NamedTuple):
    """What came of letting ids pass.

    Args:
        passed: how many.
        next: the one that this cluster gives out next.
        before_their_turn: events that were written before; who had read what the dump brought has passed them.
    """

    passed: int
    next: int
    before_their_turn: int


async def ahead(connection: AsyncConnection, query: LiteralString = IDS) -> Ids:
    """How the log's transaction ids stand to this cluster's.

    Args:
        connection: of the projector role.
        query: `IDS`, or `OF_THE_LOG` for the writer role.
    """
    row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return Ids(*row)


async def refuse_a_log_ahead(connection: AsyncConnection, *, readers: bool = True) -> None:
    """Let nobody write to a log whose transactions this cluster has not come to.

    Args:
        connection: of the projector role; of the writer role, without a look at the readers.
        readers: look at their checkpoints too.

    Raises:
        StartupError: it is such a log, or there is none yet.
    """
    try:
        ids = await ahead(connection, IDS if readers else OF_THE_LOG)
    except pg.UndefinedTable as error:
        raise StartupError(f"The schema is not up to date: {error}. Run `amends migrate` first") from error
    if ids.ahead:
        raise StartupError(
            f"The log is from another cluster: it knows of transaction {ids.known}, and this cluster is at {ids.next}. "
            "What is written now would come before it, and readers would pass it over; run `amends advance` first"
        )


def advance(
    connection: Connection[Any], past: int = 0, told: Callable[[int, int], None] = lambda done, total: None
) -> Advanced:
    """Let transaction ids pass until all that the log names are past; changes nothing that is stored.

    Args:
        connection: of the schema's owner, in autocommit.
        past: also this one, for positions that somebody holds although the log has lost their events.
        told: how many have passed, of how many.

    Raises:
        InvalidInput: they are too many to pass one by one.
    """
    ids = Ids(*_row(connection, IDS))
    goal = max(ids.known, past)
    lacking = max(0, goal + 1 - ids.next)
    if lacking > MOST:
        raise InvalidInput(
            {
                "transactions": f"the log names {goal}, this cluster is at {ids.next}: more than {MOST:,} would have "
                f"to pass. With the server stopped, `pg_resetwal --epoch={(goal >> 32) + 1}` on its data folder takes "
                "one step; or write the log with `amends export`, and `amends restore` it into an empty database here"
            }
        )
    early = int(_row(connection, BEFORE_ITS_TURN)[0]) if ids.ahead else 0
    for done in range(0, lacking, BLOCK):
        let_pass(connection, min(BLOCK, lacking - done))
        told(min(done + BLOCK, lacking), lacking)
    return Advanced(lacking, Ids(*_row(connection, IDS)).next, early)


def let_pass(connection: Connection[Any], ids: int) -> None:
    """Let transaction ids pass.

    Args:
        connection: in autocommit.
        ids: how many.
    """
    if ids > 0:
        connection.execute(sql.SQL(PASS).format(sql.Literal(ids)))


def _row(connection: Connection[Any], query: str) -> tuple[Any, ...]:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return tuple(row)
