"""Conflicts: whoever decides on a stale state learns what it has missed, and decides again."""

from __future__ import annotations

import pytest

from amends.handler import CommandHandler
from amends.store import EventStore, append_request
from tests.kernel.kernel_shop import (
    Add,
    Added,
    Counter,
    context,
    processes,
    rows,
    traced_pool,
    unique,
    value,
)


async def test_given_a_stale_state_when_appended_then_the_missing_events_come_back_and_only_those(
    database_url: str,
) -> None:
    async with processes(database_url, 2) as [ours, theirs]:
        # given: 100 events that both know, and 3 that only they know
        counter = unique()
        await ours.handle(Add(counter_id=counter, times=100), context())
        await theirs.handle(Add(counter_id=counter, amount=7, times=3), context())
        # when
        done = await ours._store.append(
            f"kernel-{counter}",
            100,
            Add(counter_id=counter),
            about := context(),
            decision=[Added(counter_id=counter, amount=1)],
            started_at=await value(database_url, "select clock_timestamp()"),
        )
    # then
    assert (done.status, done.version) == ("conflict", 103)
    assert done.since == [Added(counter_id=counter, amount=7)] * 3
    assert await rows(database_url, "select 1 from amends.commands where command_id = %s", about.command_id) == []


@pytest.mark.parametrize(("behind", "brought"), [(500, 500), (501, 0)])
async def test_given_a_state_far_behind_when_appended_then_no_events_come_back(
    database_url: str, behind: int, brought: int
) -> None:
    async with processes(database_url, 2) as [ours, theirs]:
        # given
        counter = unique()
        await ours.handle(Add(counter_id=counter), context())
        await theirs.handle(Add(counter_id=counter, times=behind), context())
        # when
        done = await ours._store.append(
            f"kernel-{counter}",
            1,
            Add(counter_id=counter),
            context(),
            decision=[Added(counter_id=counter, amount=1)],
            started_at=await value(database_url, "select clock_timestamp()"),
        )
    # then
    assert (done.status, done.version, len(done.since)) == ("conflict", 1 + behind, brought)


async def test_given_code_that_does_not_say_how_many_it_wants_when_far_behind_then_it_gets_them_all(
    database_url: str,
) -> None:
    """Older workers go on beside newer ones, and would take none for nothing new."""
    async with processes(database_url, 2) as [ours, theirs]:
        counter = unique()
        await ours.handle(Add(counter_id=counter), context())
        await theirs.handle(Add(counter_id=counter, times=700), context())
        now = await value(database_url, "select clock_timestamp()")
        stream, command = f"kernel-{counter}", Add(counter_id=counter)
        request = append_request(stream, 1, command, context(), [Added(counter_id=counter, amount=1)], started_at=now)
        del request["at_most"]
        status, version, _, _, since = await ours._store._call(request)
    assert (status, version, len(since)) == ("conflict", 701, 700)


async def test_given_a_state_far_behind_when_handled_then_it_is_loaded_anew_from_its_snapshot(
    database_url: str,
) -> None:
    async with traced_pool(database_url) as (pool, wire), processes(database_url, 1) as [theirs]:
        # given
        ours, counter = CommandHandler(EventStore(pool), [Counter]), unique()
        await ours.handle(Add(counter_id=counter), context())
        for _ in range(4):
            await theirs.handle(Add(counter_id=counter, times=300), context())
        # when
        [traffic] = await wire.during([ours.handle(Add(counter_id=counter), context())])
        # then: told that it is behind, loaded, appended
        assert traffic.round_trips == 3
        state, version = await ours.state(Counter, counter)
        assert (state.total, state.events_seen, version) == (1202, 1202, 1202)


async def test_given_a_stale_state_when_handled_then_it_is_decided_again_on_the_delta_alone(database_url: str) -> None:
    async with traced_pool(database_url) as (pool, wire), processes(database_url, 1) as [theirs]:
        # given
        ours, counter = CommandHandler(EventStore(pool), [Counter]), unique()
        await ours.handle(Add(counter_id=counter, times=150), context())
        await theirs.handle(Add(counter_id=counter, amount=7), context())
        # when
        [traffic] = await wire.during([ours.handle(Add(counter_id=counter), context())])
        # then: the attempt that failed brought the delta, so nothing is loaded
        assert traffic.round_trips == 2
        state, version = await ours.state(Counter, counter)
        assert (state.total, state.events_seen, version) == (158, 152, 152)
