"""Commands act once, whoever sends them, however often, at whatever moment somebody dies."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter as Tally
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from amends import Command, Context, InvalidInput, Receipt
from amends import handler as handler_module
from amends.database import open_pool
from amends.errors import CommandIdReused, Conflict, UnknownMessage
from amends.handler import CommandHandler
from amends.store import EventStore
from amends.values import MASK
from domain.order import Cancel, Order, Place
from domain.stock import ReceiveStock, ReleaseStock, ReserveStock, StockItem
from tests.kernel.kernel_shop import (
    Add,
    Counter,
    DropName,
    NameTaken,
    TakeNames,
    TooMuch,
    acting_as,
    blocked,
    context,
    processes,
    rows,
    unique,
    value,
)
from tests.kernel.lossy_proxy import lossy

# Conflicts


async def test_given_several_processes_on_one_stream_when_they_storm_it_then_each_command_acts_once(
    database_url: str,
) -> None:
    count, commands = 6, 300
    async with processes(database_url, count) as handlers:
        # given
        counter = unique()
        contexts = [context() for _ in range(commands)]
        # when
        receipts = await asyncio.gather(
            *(insist(handlers[n % count], Add(counter_id=counter), contexts[n]) for n in range(commands))
        )
        states = [await handler.state(Counter, counter) for handler in handlers]
    # then
    assert sorted(receipt.version for receipt in receipts) == list(range(1, commands + 1))
    assert not any(receipt.repeated for receipt in receipts)
    assert {(state.total, version) for state, version in states} == {(commands, commands)}
    stored = await rows(database_url, "select version, command_id from amends.events order by version")
    assert [version for version, _ in stored] == list(range(1, commands + 1))
    assert {command for _, command in stored} == {each.command_id for each in contexts}
    assert await value(database_url, "select count(*) from amends.commands") == commands
    # and a stream's order is the feed's order
    assert [row for (row,) in await rows(database_url, "select version from amends.events order by xid, position")] == [
        version for version, _ in stored
    ]


async def insist(handler: CommandHandler, command: Command, about: Context) -> Receipt:
    """As Temporal does: whoever lost too often in a row tries again, with the same id."""
    while True:
        try:
            return await handler.handle(command, about)
        except Conflict:
            continue


async def test_given_a_commit_between_the_head_and_the_delta_of_a_conflict_then_no_event_counts_twice(
    database_url: str,
) -> None:
    """Each statement of the append function sees what is committed by then: the delta must end at the head it told."""
    async with processes(database_url, 2) as [theirs, ours]:
        # given: we have seen version 1, they have written version 2
        counter = unique()
        await theirs.handle(Add(counter_id=counter), context())
        await ours.state(Counter, counter)
        await theirs.handle(Add(counter_id=counter), context())
        async with acting_as(database_url, "owner", autocommit=False) as third:
            # when: our append has read the head (2) and waits to read the delta, and a third one commits version 3
            await third.execute(b"lock table amends.events in access exclusive mode")
            adding = asyncio.create_task(ours.handle(Add(counter_id=counter), context()))
            await blocked(database_url)
            await third.execute(b"update amends.streams set version = 3, xid = pg_current_xact_id()")
            await third.execute(
                b"""insert into amends.events (stream, version, name, schema_version, data, correlation_id,
                                               causation_id, command_id, actor)
                    select stream, 3, name, schema_version, data, correlation_id, causation_id, command_id, actor
                    from amends.events where version = 2"""
            )
            await third.commit()
        receipt = await adding
        state, version = await ours.state(Counter, counter)
    # then
    assert (receipt.version, version) == (4, 4)
    assert (state.total, state.events_seen) == (4, 4)


async def test_given_two_processes_on_one_stream_when_both_are_busy_then_no_command_gives_up(
    database_url: str,
) -> None:
    async with processes(database_url, 2) as handlers:
        counter = unique()
        ends = await asyncio.gather(
            *(handlers[n % 2].handle(Add(counter_id=counter), context()) for n in range(600)), return_exceptions=True
        )
    given_up = sum(isinstance(end, Conflict) for end in ends)
    assert given_up == 0, f"{given_up} of {len(ends)} commands gave up"


async def test_given_more_streams_than_are_kept_warm_then_all_stay_right(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler_module, "CACHED_STREAMS", 3)
    async with processes(database_url, 1, size=8) as [handler]:
        counters = [unique() for _ in range(10)]
        for _ in range(3):
            await asyncio.gather(*(handler.handle(Add(counter_id=each), context()) for each in counters))
        assert len(handler._warm) <= 3
        assert [(await handler.state(Counter, each))[1] for each in counters] == [3] * 10
    assert not handler._turns, "turns of streams that nobody waits for are kept"


# Once


async def test_given_one_command_id_when_several_processes_handle_it_at_once_then_one_acts(database_url: str) -> None:
    async with processes(database_url, 5) as handlers:
        for command in (Add(counter_id=unique(), amount=3, times=2), Add(counter_id=unique(), amount=5000)):
            about = context()
            receipts = await asyncio.gather(*(handler.handle(command, about) for handler in handlers * 4))
            assert Tally(receipt.repeated for receipt in receipts) == {False: 1, True: 19}
            assert len({(receipt.outcome, receipt.version, receipt.position) for receipt in receipts}) == 1
            stored = "select count(*) from amends.commands where command_id = %s"
            assert await value(database_url, stored, about.command_id) == 1
    assert await value(database_url, "select count(*) from amends.events") == 2


async def test_given_the_answer_is_lost_after_the_commit_when_repeated_then_the_recorded_outcome_comes(
    database_url: str,
) -> None:
    command, about = Add(counter_id=unique()), context()
    # given: the connection breaks when the server has committed and before the client knows
    async with lossy(database_url) as (proxy, through), processes(through, 1, size=1) as [unlucky]:
        await unlucky.state(Counter, command.counter_id)
        proxy.lose_next_answer()
        with pytest.raises(psycopg.OperationalError):
            await unlucky.handle(command, about)
        assert proxy.answered.is_set()
        # when: somebody else, and the unlucky one itself, repeat it
        async with processes(database_url, 1) as [other]:
            again = [await other.handle(command, about), await unlucky.handle(command, about)]
            state, _ = await other.state(Counter, command.counter_id)
    # then
    assert [(receipt.outcome, receipt.repeated, receipt.version) for receipt in again] == [("done", True, 1)] * 2
    assert state.total == 1
    assert await value(database_url, "select count(*) from amends.events") == 1


async def test_given_a_task_cancelled_after_the_commit_when_repeated_then_the_recorded_outcome_comes(
    database_url: str,
) -> None:
    command, about = Add(counter_id=unique()), context()
    async with lossy(database_url) as (proxy, through), processes(through, 1, size=1) as [unlucky]:
        await unlucky.state(Counter, command.counter_id)
        # given: the server has committed, its answer is on the way, and the task is cancelled
        proxy.hold_next_answer()
        task = asyncio.create_task(unlucky.handle(command, about))
        await proxy.answered.wait()
        task.cancel()
        proxy.release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        # when
        again = await unlucky.handle(command, about)
        after = await unlucky.handle(Add(counter_id=command.counter_id), context())
    # then
    assert (again.outcome, again.repeated, again.version) == ("done", True, 1)
    assert (after.repeated, after.version) == (False, 2)


async def test_given_the_connection_breaks_before_the_commit_when_repeated_then_it_acts_now(database_url: str) -> None:
    command, about = Add(counter_id=unique()), context()
    async with processes(database_url, 1, size=1) as [unlucky]:
        await unlucky.handle(Add(counter_id=command.counter_id), context())
        async with acting_as(database_url, "owner", autocommit=False) as other:
            # given: the append waits for the stream's row, and its session dies
            await other.execute(b"select 1 from amends.streams for update")
            task = asyncio.create_task(unlucky.handle(command, about))
            await blocked(database_url)
            await other.execute(
                b"select pg_terminate_backend(pid) from pg_stat_activity where cardinality(pg_blocking_pids(pid)) > 0"
            )
            with pytest.raises(psycopg.OperationalError):
                await task
            await other.rollback()
        # when
        again = await unlucky.handle(command, about)
    # then
    assert (again.outcome, again.repeated, again.version) == ("done", False, 2)


async def test_given_a_refusal_when_repeated_then_it_is_the_recorded_one_whatever_has_changed(
    database_url: str,
) -> None:
    async with processes(database_url, 2) as [first, second]:
        # given
        holder, other, name, about = unique(), unique(), unique("name"), context()
        await first.handle(TakeNames(counter_id=holder, names=(name,)), context())
        refused = await first.handle(TakeNames(counter_id=other, names=(name,)), about)
        # and the reason goes away
        await first.handle(DropName(counter_id=holder, name=name), context())
        # when
        again = await second.handle(TakeNames(counter_id=other, names=(name,)), about)
    # then
    assert (refused.outcome, refused.repeated, again.outcome, again.repeated) == ("refused", False, "refused", True)
    assert again.refusal == refused.refusal
    with pytest.raises(NameTaken, match=name):
        again.raise_refusal()
    assert await rows(
        database_url, "select outcome, refusal ->> 'name', events from amends.commands where command_id = %s",
        about.command_id,
    ) == [("refused", "NameTaken", 0)]  # fmt: skip


async def test_given_a_refusal_of_the_rules_then_it_is_recorded_with_its_facts_and_changes_nothing(
    database_url: str,
) -> None:
    async with processes(database_url, 1) as [handler]:
        counter, about = unique(), context()
        await handler.handle(Add(counter_id=counter), context())
        receipt = await handler.handle(Add(counter_id=counter, amount=1001), about)
        assert (await handler.state(Counter, counter))[1] == 1
    assert (receipt.outcome, receipt.version) == ("refused", 1)
    with pytest.raises(TooMuch) as caught:
        receipt.raise_refusal()
    assert caught.value.facts == {"amount": 1001, "limit": 1000}
    recorded = await value(database_url, "select refusal from amends.commands where command_id = %s", about.command_id)
    assert recorded == {
        "name": "TooMuch",
        "message": "More than a counter counts at once (amount=1001, limit=1000)",
        "facts": {"amount": 1001, "limit": 1000},
    }


@pytest.mark.parametrize(
    "other",
    [
        lambda counter: Add(counter_id=unique()),
        lambda counter: TakeNames(counter_id=counter, names=(unique(),)),
        lambda counter: TakeNames(counter_id=unique(), names=(unique(),)),
    ],
    ids=["other_stream", "other_command", "both"],
)
async def test_given_a_command_id_when_used_for_another_command_then_that_is_an_error(
    database_url: str, other: object
) -> None:
    assert callable(other)
    async with processes(database_url, 2) as [first, second]:
        counter, about = unique(), context()
        await first.handle(Add(counter_id=counter), about)
        for handler in (first, second):
            with pytest.raises(CommandIdReused, match=f"{about.command_id}.*a new intent needs a new id"):
                await handler.handle(other(counter), about)
    assert await value(database_url, "select count(*) from amends.commands") == 1


async def test_a_command_that_no_aggregate_handles_is_an_error(database_url: str) -> None:
    class Stray(Command, name="kernel.stray"):
        counter_id: str

    async with processes(database_url, 1) as [handler]:
        with pytest.raises(UnknownMessage, match=r"No aggregate handles 'kernel\.stray'; list it in the app"):
            await handler.handle(Stray(counter_id="a"), context())


# Claims


async def test_given_two_claims_of_one_value_at_once_then_one_is_done_and_the_other_refused_on_record(
    database_url: str,
) -> None:
    async with processes(database_url, 2) as handlers:
        for _ in range(10):
            name = unique("name")
            contexts = [context(), context()]
            receipts = await asyncio.gather(
                *(
                    handler.handle(TakeNames(counter_id=unique(), names=(name,)), about)
                    for handler, about in zip(handlers, contexts, strict=True)
                )
            )
            assert sorted(receipt.outcome for receipt in receipts) == ["done", "refused"]
            [(loser, its_context)] = [
                (receipt, about)
                for receipt, about in zip(receipts, contexts, strict=True)
                if receipt.outcome == "refused"
            ]
            assert loser.refusal is not None
            assert (loser.refusal.name, loser.refusal.facts) == ("NameTaken", {"name": name})
            assert await rows(
                database_url,
                "select outcome, refusal ->> 'name' from amends.commands where command_id = %s",
                its_context.command_id,
            ) == [("refused", "NameTaken")]


async def test_given_one_of_several_claims_is_taken_then_none_is_made_and_the_right_refusal_comes(
    database_url: str,
) -> None:
    async with processes(database_url, 1) as [handler]:
        taken, free = unique("b"), [unique("a"), unique("c")]
        await handler.handle(TakeNames(counter_id=unique(), names=(taken,)), context())
        receipt = await handler.handle(TakeNames(counter_id=unique(), names=(free[0], taken, free[1])), context())
        assert receipt.refusal is not None
        assert receipt.refusal.facts == {"name": taken}
        for name in free:
            assert (await handler.handle(TakeNames(counter_id=unique(), names=(name,)), context())).outcome == "done"


async def test_given_a_value_given_back_then_others_can_have_it_but_only_its_holder_gives_it_back(
    database_url: str,
) -> None:
    async with processes(database_url, 1) as [handler]:
        holder, other, name = unique(), unique(), unique("name")
        await handler.handle(TakeNames(counter_id=holder, names=(name,)), context())
        # when a stranger gives it back, it stays taken
        await handler.handle(DropName(counter_id=unique(), name=name), context())
        assert (await handler.handle(TakeNames(counter_id=other, names=(name,)), context())).outcome == "refused"
        # when its holder does, it is free
        await handler.handle(DropName(counter_id=holder, name=name), context())
        assert (await handler.handle(TakeNames(counter_id=other, names=(name,)), context())).outcome == "done"
    assert await rows(database_url, "select stream from amends.claims") == [(f"kernel-{other}",)]


async def test_a_claim_keeps_no_value_in_clear(database_url: str) -> None:
    async with processes(database_url, 1) as [handler]:
        await handler.handle(TakeNames(counter_id=unique(), names=("ada@example.org",), quietly=True), context())
    [(claim,)] = await rows(database_url, "select c::text from amends.claims c")
    assert "example" not in claim


async def test_given_a_tombstone_then_a_late_claim_is_refused_and_a_taken_value_is_left_alone(
    database_url: str,
) -> None:
    async with processes(database_url, 1) as [handler]:
        counter, name, taken = unique(), unique("name"), unique("name")
        await handler.handle(TakeNames(counter_id=unique(), names=(taken,)), context())
        # when: the undo comes first
        undo = await handler.handle(TakeNames(counter_id=counter, names=(name, taken), quietly=True), context())
        # then: it is done, without events, and the late step is refused
        assert (undo.outcome, undo.version) == ("done", 0)
        late = await handler.handle(TakeNames(counter_id=counter, names=(name,)), context())
        assert late.outcome == "refused"


@asynccontextmanager
async def held_before_its_record(url: str, command_id: str) -> AsyncIterator[asyncio.Event]:
    """The append of this command waits, with its events and claims written and uncommitted, until the event is set."""
    go = asyncio.Event()
    async with acting_as(url, "owner") as owner:
        await owner.execute(
            f"""
            create function public.wait_here() returns trigger language plpgsql security definer as $$ begin
                if new.command_id = '{command_id}' then perform pg_advisory_xact_lock(4711); end if;
                return new;
            end $$;
            create trigger wait_here before insert on amends.commands
                for each row execute function public.wait_here();
            select pg_advisory_lock(4711)
            """.encode()
        )

        async def let_go() -> None:
            await go.wait()
            await owner.execute(b"select pg_advisory_unlock(4711)")

        letting = asyncio.create_task(let_go())
        try:
            yield go
        finally:
            go.set()
            await letting


async def test_given_an_undo_that_meets_its_step_under_way_then_nothing_stays_reserved(database_url: str) -> None:
    sku, reservation, step = unique("sku"), unique("r"), context()
    async with (
        stock_handlers(database_url) as (worker, rescuer),
        held_before_its_record(database_url, step.command_id) as go,
    ):
        await worker.handle(ReceiveStock(sku=sku, quantity=5), context())
        await rescuer.state(StockItem, sku)
        # given: the step has written its claim and event, but has not committed
        stepping = asyncio.create_task(
            worker.handle(ReserveStock(sku=sku, reservation_id=reservation, quantity=2), step)
        )
        await blocked(database_url, 1)
        # when: the undo, decided on the state before, waits for the same claim
        undoing = asyncio.create_task(rescuer.handle(ReleaseStock(sku=sku, reservation_id=reservation), context()))
        await blocked(database_url, 2)
        go.set()
        done, undone = await stepping, await undoing
        # then
        state, _ = await rescuer.state(StockItem, sku)
    assert (done.outcome, undone.outcome) == ("done", "done")
    assert state.open == {}, "the undo reports success, and the reservation stands for ever"
    assert state.available == 5


async def test_given_a_cancellation_that_meets_the_placing_of_a_new_order_then_the_order_is_cancelled(
    database_url: str,
) -> None:
    order, step = unique("order"), context()
    line = {"sku": "s", "quantity": 1, "unit_price": {"amount": 1, "currency": "EUR"}}
    async with (
        stock_handlers(database_url) as (worker, rescuer),
        held_before_its_record(database_url, step.command_id) as go,
    ):
        placing = asyncio.create_task(
            worker.handle(Place.model_validate({"order_id": order, "customer_id": "c", "lines": [line]}), step)
        )
        await blocked(database_url, 1)
        cancelling = asyncio.create_task(rescuer.handle(Cancel(order_id=order, reason="gone"), context()))
        await blocked(database_url, 2)
        go.set()
        await asyncio.gather(placing, cancelling)
        state, _ = await rescuer.state(Order, order)
    assert state.status == "cancelled"


@asynccontextmanager
async def stock_handlers(url: str) -> AsyncIterator[tuple[CommandHandler, CommandHandler]]:
    async with open_pool(url, "writer", 4) as one, open_pool(url, "writer", 4) as other:
        worker, rescuer = (CommandHandler(EventStore(pool), [StockItem, Order]) for pool in (one, other))
        yield worker, rescuer


async def test_given_claims_in_opposite_order_when_two_streams_make_them_at_once_then_nobody_deadlocks(
    database_url: str,
) -> None:
    async with processes(database_url, 2) as handlers:
        for _ in range(25):
            names = [unique("name") for _ in range(8)]
            receipts = await asyncio.gather(
                handlers[0].handle(TakeNames(counter_id=unique(), names=tuple(names)), context()),
                handlers[1].handle(TakeNames(counter_id=unique(), names=tuple(reversed(names))), context()),
            )
            assert sorted(receipt.outcome for receipt in receipts) == ["done", "refused"]
    assert await value(database_url, "select count(*) from amends.claims") == 25 * 8
    assert await value(
        database_url, "select deadlocks from pg_stat_database where datname = current_database()"
    ) in (0, None)  # fmt: skip


# Cancellation


async def test_given_three_hundred_commands_under_way_when_all_are_cancelled_then_they_end_and_the_rest_goes_on(
    database_url: str,
) -> None:
    async with open_pool(database_url, "writer", 16) as pool:
        handler, counters = CommandHandler(EventStore(pool), [Counter]), [unique() for _ in range(30)]
        contexts = [context() for _ in range(300)]
        commands = [Add(counter_id=counters[n % 30]) for n in range(300)]
        # given: some are done, some are with the server, most wait for their turn or a connection
        tasks = [
            asyncio.create_task(handler.handle(command, about))
            for command, about in zip(commands, contexts, strict=True)
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # when
        for task in tasks:
            task.cancel()
        async with asyncio.timeout(10):
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        # then
        assert {type(end) for end in ends} == {Receipt, asyncio.CancelledError}
        # and every one of them can be repeated, and acts once
        receipts = await asyncio.gather(*map(handler.handle, commands, contexts))
        assert {receipt.outcome for receipt in receipts} == {"done"}
        assert [(await handler.state(Counter, each))[0].total for each in counters] == [10] * 30


FAILING = """
import asyncio
from amends.database import open_pool
from amends.handler import CommandHandler
from amends.store import EventStore
from tests.kernel.kernel_shop import Add, Counter, context, unique

async def main():
    async with open_pool({url!r}, "writer", 16) as pool:
        handler = CommandHandler(EventStore(pool), [Counter])

        async def fail():
            while pool.get_stats()["connections_num"] < 4:  # until the pool grows
                await asyncio.sleep(0)
            raise LookupError("one of them fails")

        await asyncio.gather(fail(), *(handler.handle(Add(counter_id=unique()), context()) for _ in range(300)))

asyncio.run(main())
"""


async def test_given_a_growing_pool_when_one_of_three_hundred_fails_then_asyncio_run_ends(
    database_url: str,
) -> None:
    """The pool's workers take a cancellation for a failed connection attempt, so a pool left open would go on."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        FAILING.format(url=database_url),
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(20):
            _, said = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
        pytest.fail("asyncio.run hangs in _cancel_all_tasks")
    assert b"LookupError: one of them fails" in said


# What can't be stored


async def test_text_that_postgresql_can_t_store_is_invalid_input_and_not_retried_for_ever(
    database_url: str,
) -> None:
    async with processes(database_url, 1) as [handler]:
        with pytest.raises(InvalidInput, match="names"):
            await nul(handler)


async def nul(handler: CommandHandler) -> Receipt:
    return await handler.handle(TakeNames(counter_id=unique(), names=("a\x00b",)), context())


async def test_what_is_logged_of_a_command_has_no_personal_field(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with processes(database_url, 1) as [handler]:
        await handler.handle(TakeNames(counter_id=unique(), names=(unique(),), note="Ada Lovelace"), context())
    shown = capsys.readouterr()
    assert "Ada" not in shown.out + shown.err
    assert MASK in repr(await rows(database_url, "select payload from amends.commands"))
