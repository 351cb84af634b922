"""Appends that meet: each meeting is forced, by a transaction that stays open until the others wait for it.

What is true of many at once by chance is in test_handler.py, what readers see of it in tests/engine/test_feed.py.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter as Tally
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

import pytest
from psycopg import AsyncConnection
from psycopg import errors as pg

from amends import Claim, Context, Free
from amends.bulk import BulkHandler, Wanted
from amends.database import open_pool
from amends.errors import CommandIdReused
from amends.feed import Feed
from amends.handler import FREE_CONFLICTS, CommandHandler
from amends.records import START, Position
from amends.store import Appended, ClaimTaken, EventStore, append_request
from tests.kernel.kernel_shop import (
    Add,
    Added,
    Counter,
    NameTaken,
    TakeNames,
    TooMuch,
    acting_as,
    blocked,
    context,
    processes,
    rows,
    unique,
    until,
    value,
)

WRITERS = 5
NAMES = "kernel.name"

APPEND = b"select status, at_version, at_xid, at_position, detail from amends.append(%s::jsonb)"
QUICKLY = b"alter database {} set deadlock_timeout = '30ms'"
PLAIN_LOCK = b"lock table amends.streams in share mode"
"""Whoever writes a stream waits, and the holder has no transaction id of its own yet."""

Item = Added | Claim | Free


class Told(NamedTuple):
    """What the function answers."""

    status: str
    version: int
    position: Position
    detail: Any


def added(counter: str, amount: int = 1) -> Added:
    return Added(counter_id=counter, amount=amount)


def claim(name: str, *, quietly: bool = False) -> Claim:
    return Claim(NAMES, name, None if quietly else NameTaken(name=name))


async def store(
    events: EventStore, counter: str, expected: int, *decision: Item, about: Context | None = None, **more: Any
) -> Appended:
    """An append as the handler sends it, in a transaction of its own."""
    about, command, now = about or context(), Add(counter_id=counter), datetime.now(UTC)
    stream = f"kernel-{counter}"
    return await events.append(stream, expected, command, about, decision=decision, started_at=now, **more)


async def call(connection: AsyncConnection[Any], counter: str, expected: int, *decision: Item) -> Told:
    """The function itself, in the connection's transaction, which may stay open."""
    stream, command, now = f"kernel-{counter}", Add(counter_id=counter), datetime.now(UTC)
    request = append_request(stream, expected, command, context(), decision, started_at=now)
    row = await (await connection.execute(APPEND, (json.dumps(request, default=str),))).fetchone()
    assert row is not None
    return Told(row[0], row[1], Position(row[2] or 0, row[3] or 0), row[4])


@asynccontextmanager
async def stores(url: str, count: int) -> AsyncIterator[list[EventStore]]:
    async with AsyncExitStack() as stack:
        yield [EventStore(await stack.enter_async_context(open_pool(url, "writer", 4))) for _ in range(count)]


async def all_of(tasks: Sequence[asyncio.Task[Appended]]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


async def claimed(url: str) -> dict[str, int]:
    """How many values each stream holds."""
    return dict(await rows(url, "select stream, count(*)::int from amends.claims group by stream"))


async def recorded(url: str) -> int:
    return int(await value(url, "select count(*) from amends.commands"))


# One stream


@pytest.mark.parametrize("known", [0, 1], ids=["a_new_stream", "a_known_stream"])
@pytest.mark.parametrize("commits", [True, False], ids=["commits", "rolls_back"])
async def test_given_writers_that_wait_for_one_on_their_stream_when_it_ends_then_one_version_is_written_once(
    database_url: str, known: int, commits: bool
) -> None:
    counter = unique()
    async with stores(database_url, WRITERS) as writers:
        if known:
            await store(writers[0], counter, 0, added(counter, 100))
        # given: one has written and is under way, and all others decided on the same version
        async with acting_as(database_url, "writer", autocommit=False) as first:
            await call(first, counter, known, added(counter, 7))
            tasks = [asyncio.create_task(store(each, counter, known, added(counter))) for each in writers]
            await blocked(database_url, WRITERS)
            # when
            await (first.commit() if commits else first.rollback())
        ends = await all_of(tasks)
    # then: nobody's update is lost, and who comes too late learns just what was written
    won, lost = [e for e in ends if e.status == "appended"], [e for e in ends if e.status == "conflict"]
    assert (len(won), len(lost)) == ((0, WRITERS) if commits else (1, WRITERS - 1))
    assert all((each.version, each.since) == (known + 1, [added(counter, 7 if commits else 1)]) for each in lost)
    versions = [version for (version,) in await rows(database_url, "select version from amends.events order by 1")]
    assert versions == list(range(1, known + 2))
    assert await recorded(database_url) == known + 1


async def test_given_a_refusal_decided_while_its_stream_is_written_when_recorded_then_it_neither_waits_nor_misleads(
    database_url: str,
) -> None:
    counter = unique()
    async with stores(database_url, 1) as [events]:
        at = (await store(events, counter, 0, added(counter))).position
        async with acting_as(database_url, "writer", autocommit=False) as other:
            await call(other, counter, 1, added(counter))
            # what nobody can see yet does not matter: the refusal stands before it, in the log too
            early = await store(events, counter, 1, refused=TooMuch(amount=1, limit=0))
            await other.commit()
        late = await store(events, counter, 1, refused=TooMuch(amount=1, limit=0))
    assert (early.status, early.version, early.position) == ("appended", 1, at)
    assert (late.status, late.version, late.since) == ("conflict", 2, [added(counter)])


async def test_given_a_transaction_older_than_its_stream_s_head_when_it_appends_then_a_younger_one_does_it(
    database_url: str,
) -> None:
    """Otherwise the feed would show the stream's second event before its first."""
    counter = unique()
    async with stores(database_url, 1) as [events], acting_as(database_url, "writer", autocommit=False) as other:
        # given: an append that has its transaction's number, and waits before it looks at the stream
        await other.execute(PLAIN_LOCK)
        appending = asyncio.create_task(store(events, counter, 1, added(counter, 2)))
        await blocked(database_url)
        [(older,)] = await rows(
            database_url, "select min(backend_xid::text::bigint) from pg_stat_activity where backend_xid is not null"
        )
        # when: a later one writes what it builds on
        head = await call(other, counter, 0, added(counter, 1))
        assert head.position.xid > older
        await other.commit()
        done = await appending
    # then
    assert (done.status, done.version) == ("appended", 2)
    assert done.position.xid > head.position.xid, "it was written by the transaction that was too old"
    in_feed_order = await rows(database_url, "select version from amends.events order by xid, position")
    assert in_feed_order == [(1,), (2,)]


async def test_given_a_long_transaction_when_its_streams_were_written_since_then_its_commands_are_sent_again(
    database_url: str,
) -> None:
    bulk, busy, quiet = BulkHandler([Counter]), unique(), unique()
    wanted = [[Wanted(Add(counter_id=counter), context())] for counter in (busy, quiet)]
    async with stores(database_url, 1) as [events], acting_as(database_url, "writer", autocommit=False) as long:
        await long.execute(b"select pg_current_xact_id()")
        await store(events, busy, 0, added(busy))
        first = await bulk.handle(long, wanted)
        await long.commit()
        again = await bulk.handle(long, wanted)
        await long.commit()
    assert [[answer.status for answer in group] for group in first] == [["again"], ["done"]]
    assert [[answer.status for answer in group] for group in again] == [["done"], ["repeated"]]
    orders = "select stream, array_agg(version order by xid, position) from amends.events group by 1"
    assert dict(await rows(database_url, orders)) == {f"kernel-{busy}": [1, 2], f"kernel-{quiet}": [1]}


# One command id


@pytest.mark.parametrize("acts", [True, False], ids=["done", "refused"])
@pytest.mark.parametrize("commits", [True, False], ids=["commits", "rolls_back"])
async def test_given_a_command_under_way_when_others_send_it_too_then_it_is_recorded_once_and_all_hear_the_same(
    database_url: str, acts: bool, commits: bool
) -> None:
    counter, about, command = unique(), context(), Add(counter_id=unique("other"))
    what: dict[str, Any] = {} if acts else {"refused": TooMuch(amount=1, limit=0)}
    decision = [added(counter)] if acts else []
    stream, now = f"kernel-{counter}", datetime.now(UTC)
    request = append_request(stream, 0, command, about, decision, what.get("refused"), started_at=now)
    async with stores(database_url, WRITERS) as writers:
        # given
        async with acting_as(database_url, "writer", autocommit=False) as first:
            await first.execute(APPEND, (json.dumps(request, default=str),))
            tasks = [asyncio.create_task(store(each, counter, 0, *decision, about=about, **what)) for each in writers]
            await blocked(database_url, WRITERS)
            # when
            await (first.commit() if commits else first.rollback())
        ends = await all_of(tasks)
        settled = [e if e.status != "conflict" else await store(writers[0], counter, 1, about=about) for e in ends]
    # then
    expected = {"repeated": WRITERS} if commits else {"repeated": WRITERS - 1, "appended": 1}
    assert Tally(each.status for each in settled) == expected
    assert len({(each.version, each.position, each.outcome) for each in settled}) == 1
    assert await recorded(database_url) == 1
    assert await value(database_url, "select count(*) from amends.events") == int(acts)


async def test_given_one_command_id_on_several_streams_at_once_then_one_has_it_and_the_others_are_errors(
    database_url: str,
) -> None:
    about, counters = context(), [unique() for _ in range(WRITERS)]
    async with stores(database_url, WRITERS) as writers, acting_as(database_url, "owner", autocommit=False) as holder:
        # given: all of them have written events and claims, and wait to record the command
        await holder.execute(b"lock table amends.commands in share mode")
        tasks = [
            asyncio.create_task(store(each, counter, 0, claim(unique("name")), added(counter), about=about))
            for each, counter in zip(writers, counters, strict=True)
        ]
        await blocked(database_url, WRITERS)
        # when
        await holder.commit()
        ends = await all_of(tasks)
    # then: nothing is left of the others
    done, reused = [e for e in ends if isinstance(e, Appended)], [e for e in ends if isinstance(e, CommandIdReused)]
    assert (len(done), len(reused)) == (1, WRITERS - 1), ends
    [(stream,)] = await rows(database_url, "select stream from amends.commands")
    assert await rows(database_url, "select stream from amends.events") == [(stream,)]
    assert await rows(database_url, "select stream from amends.streams") == [(stream,)]
    assert await claimed(database_url) == {stream: 1}


# Claims


@pytest.mark.parametrize("commits", [True, False], ids=["commits", "rolls_back"])
async def test_given_a_claim_under_way_when_other_streams_want_the_value_then_one_gets_it(
    database_url: str, commits: bool
) -> None:
    name, holder, counters = unique("name"), unique(), [unique() for _ in range(WRITERS)]
    async with stores(database_url, WRITERS) as writers:
        async with acting_as(database_url, "writer", autocommit=False) as first:
            await call(first, holder, 0, claim(name), added(holder))
            tasks = [
                asyncio.create_task(store(each, counter, 0, claim(name), added(counter)))
                for each, counter in zip(writers, counters, strict=True)
            ]
            await blocked(database_url, WRITERS)
            await (first.commit() if commits else first.rollback())
        ends = await all_of(tasks)
    taken = [end for end in ends if isinstance(end, ClaimTaken)]
    assert len(taken) == (WRITERS if commits else WRITERS - 1)
    assert all(each.refused.facts == {"name": name} for each in taken)
    [(stream, held)] = (await claimed(database_url)).items()
    assert held == 1
    assert await rows(database_url, "select stream from amends.events") == [(stream,)], "a loser's event is left"
    assert (stream == f"kernel-{holder}") == commits


@pytest.mark.parametrize("commits", [True, False], ids=["commits", "rolls_back"])
async def test_given_a_value_that_is_being_given_back_when_another_wants_it_then_it_waits_for_what_becomes_of_that(
    database_url: str, commits: bool
) -> None:
    name, holder, other = unique("name"), unique(), unique()
    async with stores(database_url, 1) as [events]:
        await store(events, holder, 0, claim(name), added(holder))
        async with acting_as(database_url, "writer", autocommit=False) as freeing:
            await call(freeing, holder, 1, Free(NAMES, name), added(holder))
            wanting = asyncio.create_task(store(events, other, 0, claim(name), added(other)))
            await blocked(database_url)
            await (freeing.commit() if commits else freeing.rollback())
        [end] = await all_of([wanting])
    assert isinstance(end, Appended if commits else ClaimTaken)
    assert await claimed(database_url) == {f"kernel-{other if commits else holder}": 1}


async def test_given_a_tombstone_that_meets_the_giving_back_of_its_value_when_recorded_then_on_what_is_true_then(
    database_url: str,
) -> None:
    """A claim without events holds no stream: when it has had to wait, its decision may be out of date."""
    name, counter = unique("name"), unique()
    async with stores(database_url, 1) as [events]:
        await store(events, counter, 0, claim(name), added(counter))
        async with acting_as(database_url, "writer", autocommit=False) as freeing:
            await call(freeing, counter, 1, Free(NAMES, name), added(counter))
            resting = asyncio.create_task(store(events, counter, 1, claim(name, quietly=True)))
            await blocked(database_url)
            await freeing.commit()
        done = await resting
    assert (done.status, done.version) == ("conflict", 2)
    assert await claimed(database_url) == {}


async def test_given_two_streams_that_swap_their_values_at_once_then_they_end_and_nobody_holds_what_another_has(
    database_url: str,
) -> None:
    """Each deletes what it has and waits for the other's: a deadlock, which the database breaks. Both are refused, for
    either comes first, and then the other's value is taken."""
    names, counters = [unique("name"), unique("name")], [unique(), unique()]
    await deadlocks_are_found_quickly(database_url)
    async with stores(database_url, 2) as writers, acting_as(database_url, "owner", autocommit=False) as holder:
        for each, name, counter in zip(writers, names, counters, strict=True):
            await store(each, counter, 0, claim(name), added(counter))
        # given: each has given its own value back in a transaction, and neither has taken the other's yet
        await held_back(holder)
        tasks = [
            asyncio.create_task(store(each, counter, 1, Free(NAMES, own), claim(wanted), added(counter)))
            for each, counter, own, wanted in zip(writers, counters, names, reversed(names), strict=True)
        ]
        await blocked(database_url, 2)
        # when
        await holder.commit()
        ends = await all_of(tasks)
    # then
    assert [type(end) for end in ends] == [ClaimTaken, ClaimTaken]
    assert await value(database_url, "select count(*) from amends.events") == 2
    assert await claimed(database_url) == {f"kernel-{counter}": 1 for counter in counters}
    assert await found_deadlocks(database_url) >= 1, "the meeting was not the one that was wanted"


async def test_given_claims_in_opposite_orders_held_at_the_first_when_both_go_on_then_no_deadlock_is_met(
    database_url: str,
) -> None:
    names, counters = [unique("name") for _ in range(6)], [unique(), unique()]
    async with stores(database_url, 2) as writers:
        async with acting_as(database_url, "writer", autocommit=False) as holder:
            # given: what both are to take first is being taken by a third, so that both wait there
            first, stranger = min(names, key=lambda name: sha256(name.encode()).hexdigest()), unique()
            await call(holder, stranger, 0, claim(first), added(stranger))
            tasks = [
                asyncio.create_task(store(each, counter, 0, *map(claim, order), added(counter)))
                for each, counter, order in zip(writers, counters, (names, list(reversed(names))), strict=True)
            ]
            await blocked(database_url, 2)
            # when neither has taken anything yet
            await holder.rollback()
        ends = await all_of(tasks)
    assert sorted(type(end).__name__ for end in ends) == ["Appended", "ClaimTaken"]
    assert list((await claimed(database_url)).values()) == [6]
    assert await found_deadlocks(database_url) == 0


async def test_given_two_transactions_that_take_two_streams_in_opposite_orders_then_one_is_told_to_do_it_again(
    database_url: str,
) -> None:
    one, two = unique(), unique()
    await deadlocks_are_found_quickly(database_url)
    async with (
        acting_as(database_url, "writer", autocommit=False) as ours,
        acting_as(database_url, "writer", autocommit=False) as theirs,
    ):
        await call(ours, one, 0, added(one))
        await call(theirs, two, 0, added(two))
        going = asyncio.create_task(call(ours, two, 0, added(two)))
        await blocked(database_url)
        coming = asyncio.create_task(call(theirs, one, 0, added(one)))
        ends = await asyncio.gather(going, coming, return_exceptions=True)
        # the one that goes on waits for the other's end, and each rolls back what is broken
        [broken] = [n for n, end in enumerate(ends) if isinstance(end, BaseException)]
        assert isinstance(ends[broken], pg.DeadlockDetected)
        winner, loser = (ours, theirs) if broken else (theirs, ours)
        await loser.rollback()
        await winner.commit()
        again = [await call(loser, counter, 0, added(counter)) for counter in (two, one)]
        assert [(told.status, told.version, len(told.detail)) for told in again] == [("conflict", 1, 1)] * 2
        assert [(await call(loser, counter, 1, added(counter))).status for counter in (two, one)] == ["appended"] * 2
        await loser.commit()
    assert await rows(database_url, "select stream, version from amends.streams order by stream") == sorted(
        [(f"kernel-{one}", 2), (f"kernel-{two}", 2)]
    )


async def test_given_who_has_a_stream_to_himself_when_a_value_is_taken_then_he_is_refused_at_once(
    database_url: str,
) -> None:
    """The refusal is recorded by the session that has the turn; any other one would wait for it to end."""
    counter, name = unique(), unique("name")
    async with processes(database_url, 1) as [theirs], open_pool(database_url, "writer", 2) as pool:
        await theirs.handle(TakeNames(counter_id=unique(), names=(name,)), context())
        ours = CommandHandler(Outrun(pool, theirs, counter), [Counter])
        # when: as often as one may lose, somebody else is faster
        receipt = await ours.handle(TakeNames(counter_id=counter, names=(name,)), context())
    # then
    assert receipt.refusal is not None
    assert (receipt.outcome, receipt.refusal.facts, receipt.version) == ("refused", {"name": name}, FREE_CONFLICTS)
    assert await value(database_url, "select count(*) from pg_locks where locktype = 'advisory'") == 0


class Outrun(EventStore):
    """A store whose user finds that somebody was faster, each time before it has the stream to itself."""

    def __init__(self, pool: Any, others: CommandHandler, counter: str) -> None:
        super().__init__(pool)
        self._others, self._counter, self._left = others, counter, FREE_CONFLICTS

    async def append(self, *arguments: Any, **more: Any) -> Appended:
        if self._left:
            self._left -= 1
            await self._others.handle(Add(counter_id=self._counter), context())
        return await super().append(*arguments, **more)


# What readers see meanwhile


@pytest.mark.parametrize("taken", [True, False], ids=["is_refused", "succeeds"])
async def test_given_an_append_that_waits_when_others_commit_then_the_feed_shows_them_once_it_has_ended(
    database_url: str, taken: bool
) -> None:
    name, holder, waiter, other = unique("name"), unique(), unique(), unique()
    async with stores(database_url, 1) as [events], open_pool(database_url, "projector", 1) as projector:
        feed = Feed(projector)
        before = (await store(events, other, 0, added(other))).position
        async with acting_as(database_url, "writer", autocommit=False) as first:
            await call(first, holder, 0, claim(name), added(holder))
            # given: an append in progress has written its events and waits; a later one is committed
            waiting = asyncio.create_task(store(events, waiter, 0, added(waiter), claim(name)))
            await blocked(database_url)
            after = (await store(events, other, 1, added(other))).position
            # then: what is in progress is not shown, nor what comes after it
            assert [row.position for row in await feed.read(START, 10)] == [before]
            await (first.commit() if taken else first.rollback())
        [end] = await all_of([waiting])
        # when it has ended, either way: all that happened is shown, and nothing is waited for that never comes
        shown: list[tuple[str, Position]] = []

        async def all_shown() -> bool:
            shown[:] = [(row.stream, row.position) for row in await feed.read(START, 10)]
            return bool(shown) and shown[-1][1] >= after

        await until(all_shown)
    assert isinstance(end, ClaimTaken if taken else Appended)
    assert [stream for stream, _ in shown] == [f"kernel-{each}" for each in (other, holder if taken else waiter, other)]


# How a meeting is forced


async def deadlocks_are_found_quickly(url: str) -> None:
    """By default the database looks for one after a second."""
    name = await value(url, "select quote_ident(current_database())")
    async with acting_as(url, "owner") as owner:
        await owner.execute(QUICKLY.replace(b"{}", name.encode()))


async def held_back(holder: AsyncConnection[Any]) -> None:
    """Whoever claims waits right before it does, with all written that comes earlier, until the holder commits."""
    await holder.execute(
        b"""
        create function public.wait_here() returns trigger language plpgsql security definer as $$ begin
            perform pg_advisory_xact_lock_shared(4712);
            return null;
        end $$;
        create trigger wait_here before insert on amends.claims for each statement execute function public.wait_here();
        """
    )
    await holder.commit()
    await holder.execute(b"select pg_advisory_xact_lock(4712)")


async def found_deadlocks(url: str) -> int:
    """As the database counts them, once those who met them have told."""
    async with acting_as(url, "owner") as owner:
        await owner.execute(b"select pg_stat_force_next_flush()")
    return int(await value(url, "select deadlocks from pg_stat_database where datname = current_database()"))
