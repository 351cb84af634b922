"""What a command costs: in round trips, statements and rows, whatever came before it."""

from __future__ import annotations

from amends.handler import CommandHandler
from amends.store import EventStore
from domain.stock import CommitStock, ReceiveStock, ReserveStock, StockItem, StockReceived, StockReserved
from tests.kernel.kernel_shop import (
    context,
    traced_pool,
    unique,
    value,
)


async def test_given_ten_thousand_open_reservations_when_more_come_then_a_command_costs_what_it_cost_at_first(
    database_url: str,
) -> None:
    sku, opened, sample = unique("sku"), 10_000, 20

    def reserve(number: int) -> ReserveStock:
        return ReserveStock(sku=sku, reservation_id=f"later-{number:05}", quantity=1)

    async with traced_pool(database_url) as (pool, wire):
        handler = CommandHandler(EventStore(pool), [StockItem])
        await handler.handle(ReceiveStock(sku=sku, quantity=1_000_000), context(f"{0:036}"))
        numbers = iter(range(1, 10_000))

        async def cost(first: int) -> list[tuple[int, int]]:
            calls = []
            for number in range(first, first + sample):
                calls.append(handler.handle(reserve(number), context(f"{next(numbers):036}")))
                calls.append(
                    handler.handle(
                        CommitStock(sku=sku, reservation_id=f"later-{number:05}"), context(f"{next(numbers):036}")
                    )
                )
            return [(traffic.round_trips, traffic.sent) for traffic in await wire.during(calls)]

        # given: costs on an empty shelf, and then a full one
        at_first = await cost(10_000)
        version = (await handler.state(StockItem, sku))[1]
        await handler._store.append(
            f"stock-{sku}",
            version,
            reserve(0),
            context(),
            decision=[StockReserved(sku=sku, reservation_id=f"open-{n:05}", quantity=1) for n in range(opened)],
            started_at=await value(database_url, "select clock_timestamp()"),
        )
        assert len((await handler.state(StockItem, sku))[0].open) == opened
        # a snapshot of the full shelf is due once; that is what the events since have saved up for
        await handler.handle(ReceiveStock(sku=sku, quantity=1), context())
        # when
        at_last = await cost(20_000)
        state, _ = await handler.state(StockItem, sku)

    # then
    assert len(state.open) == opened
    assert {trips for trips, _ in at_first + at_last} == {1}
    grown = sum(sent for _, sent in at_last) - sum(sent for _, sent in at_first)
    assert abs(grown) <= 8 * len(at_last), "bytes for a command grow with the open reservations"


async def test_given_a_growing_state_then_its_snapshots_cost_each_event_a_bounded_number_of_bytes(
    database_url: str,
) -> None:
    sku, batches, size = unique("sku"), 40, 250
    async with traced_pool(database_url) as (pool, wire):
        handler = CommandHandler(EventStore(pool), [StockItem])
        version, sent, plain = 0, 0, 0
        # given: 10,000 reservations that stay open, written as batches of events
        for batch in range(batches):
            numbers = range(batch * size, (batch + 1) * size)
            events = [StockReserved(sku=sku, reservation_id=f"open-{n:05}", quantity=1) for n in numbers]
            await handler._store.append(
                f"stock-{sku}",
                version,
                ReceiveStock(sku=sku, quantity=1),
                context(),
                decision=[StockReceived(sku=sku, quantity=1), *events],
                started_at=await value(database_url, "select clock_timestamp()"),
            )
            # when: a command after each batch, which writes the snapshot when one is due
            [traffic] = await wire.during([handler.handle(ReceiveStock(sku=sku, quantity=1), context())])
            version = (await handler.state(StockItem, sku))[1]
            sent, plain = sent + traffic.sent, plain + 1
    # then: the snapshots of all these states together, shared among the events
    assert version == batches * (size + 2)
    assert sent / version < 200
