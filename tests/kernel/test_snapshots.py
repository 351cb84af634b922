"""Snapshots: a stream is loaded from the latest one that fits this code."""

from __future__ import annotations

import pytest

from amends.handler import SNAPSHOT_EVENTS
from tests.kernel.kernel_shop import (
    Add,
    Counter,
    TakeNames,
    acting_as,
    context,
    processes,
    rows,
    unique,
)


async def test_given_a_long_stream_when_loaded_then_from_its_snapshot_on_and_the_state_is_the_same(
    database_url: str,
) -> None:
    async with processes(database_url, 1) as [handler]:
        # given
        counter = unique()
        for _ in range(5):
            await handler.handle(Add(counter_id=counter, times=SNAPSHOT_EVENTS // 4), context())
        await handler.handle(TakeNames(counter_id=counter, names=("n" + unique(),)), context())
        total = SNAPSHOT_EVENTS // 4 * 5 + 1
        # when
        store = handler._store
        loaded = await store.load(f"kernel-{counter}", Counter.snapshot_version)
        everything = await store.load(f"kernel-{counter}", snapshot_schema=99)
    # then
    assert loaded.version == everything.version == total
    assert loaded.snapshot_version >= SNAPSHOT_EVENTS
    assert len(loaded.events) == total - loaded.snapshot_version < total
    assert (everything.state, len(everything.events)) == (None, total)
    assert loaded.state is not None
    from_snapshot = Counter.model_validate_json(loaded.state).replay(loaded.events)
    assert from_snapshot == Counter().replay(everything.events)


async def test_given_a_snapshot_of_other_code_when_loaded_then_it_is_ignored_and_replaced(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = unique()
    async with processes(database_url, 1) as [handler]:
        await handler.handle(Add(counter_id=counter, times=SNAPSHOT_EVENTS), context())
        # given: the state's fields change their meaning, and the old snapshot would lie
        async with acting_as(database_url, "owner") as owner:
            await owner.execute(b"""update amends.snapshots set state = '{"total": -1}'""")
    monkeypatch.setattr(Counter, "snapshot_version", 2)
    # when
    async with processes(database_url, 1) as [newer]:
        state, version = await newer.state(Counter, counter)
        # then
        assert (state.total, version) == (SNAPSHOT_EVENTS, SNAPSHOT_EVENTS)
        await newer.handle(Add(counter_id=counter), context())
    found = await rows(database_url, "select schema_version, version, state ->> 'total' from amends.snapshots")
    assert found == [(2, SNAPSHOT_EVENTS + 1, str(SNAPSHOT_EVENTS + 1))]
