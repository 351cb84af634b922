"""Scenarios of the processes that orders are made of, each by itself, and of those that events start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from amends import Money
from amends.testing.faults import Ended, Scenario, World
from domain.replenishment import Replenishment
from domain.stock import ReserveStock, StockItem
from tests.faults.shop import CURRENCY, DELIVERED, ON_THE_SHELF, PRICE, filled_shelves, kept, shelved
from workflows.inventory_reservation import InventoryReservation, Reservation
from workflows.lease import Lease, ReservationLease
from workflows.payment import Payment, PaymentMethod, PaymentRequest
from workflows.reactions import workflow_of
from workflows.replenish import Replenish, ReplenishRequest

__all__ = ["LEASE", "PAYMENT_BY_CARD", "PAYMENT_BY_TRANSFER", "REPLENISHMENT", "RESERVATION"]

SUPPLIED = "select status from supplier.orders where order_id = %s"
"""What the supplier's books say of an order."""

REFUSED = """
select from views.saga_runs r where r.workflow_id = %s and r.reason = 'RefusedByTest'
and not exists (select from amends.commands c where c.correlation_id = r.workflow_id and c.kind = 'step')
"""
"""Whether a lease was refused its first step, which no rule of ours does: it would be of no goods that are held."""

HELD_FOR = timedelta(days=2)


def _payment(name: str, method: PaymentMethod) -> Scenario[PaymentRequest]:
    async def request(world: World, key: str) -> PaymentRequest:
        amount = Money(amount=PRICE, currency=CURRENCY)
        return PaymentRequest(payment_id=key, order_id=key, customer_id="ada", amount=amount, method=method)

    async def check(ended: Ended[PaymentRequest]) -> None:
        await kept(ended.world, ended.request.payment_id, PRICE if ended.completed else 0)

    return Scenario(name, Payment, request, check)


async def _goods(world: World, key: str) -> Reservation:
    return Reservation(reservation_id=key, lines=await filled_shelves(world, key, 2, 3))


async def _reserved_or_back(ended: Ended[Reservation]) -> None:
    for line in ended.request.lines:
        stock = await ended.world.state(StockItem, line.sku)
        held = line.quantity if ended.completed else 0
        assert (stock.on_hand, stock.reserved, sum(stock.open.values())) == (ON_THE_SHELF, held, held), stock


async def _held(world: World, key: str) -> Lease:
    """Goods that are reserved for two days, and nobody confirms."""
    [line] = await filled_shelves(world, key, 2)
    hold = int(HELD_FOR.total_seconds())
    await world.execute(ReserveStock(sku=line.sku, reservation_id=key, quantity=line.quantity, hold=hold))
    return Lease(sku=line.sku, reservation_id=key, until=datetime.now(UTC) + HELD_FOR)


async def _lapsed(ended: Ended[Lease]) -> None:
    """The goods are back on the shelf, however the lease ended."""
    stock = await ended.world.state(StockItem, ended.request.sku)
    refused = await ended.world.rows(REFUSED, ended.saga_id)
    assert stock.on_hand == ON_THE_SHELF, stock
    assert stock.open == ({ended.request.reservation_id: 2} if refused else {}), stock


async def _low(world: World, key: str) -> ReplenishRequest:
    return ReplenishRequest(replenishment_id=key, sku=f"{key}-1", quantity=DELIVERED)


async def _delivered_or_called_off(ended: Ended[ReplenishRequest]) -> None:
    """The goods are on the shelf, or nothing is on order any more."""
    world, id = ended.world, ended.request.replenishment_id
    supplied = {status for (status,) in await world.rows(SUPPLIED, id)}
    replenishment = await world.state(Replenishment, id)
    if ended.completed:
        assert (supplied, replenishment.status) == ({"open"}, "delivered")
    else:
        assert supplied <= {"cancelled"}, supplied
        assert replenishment.status in ("new", "cancelled"), replenishment
    await shelved(world, ended.request.sku, DELIVERED if ended.completed else 0)


PAYMENT_BY_CARD = _payment("payment_card", PaymentMethod(kind="card", token="tok_ok"))
PAYMENT_BY_TRANSFER = _payment("payment_transfer", PaymentMethod(kind="transfer", token="tok_transfer"))
RESERVATION = Scenario("reservation", InventoryReservation, _goods, _reserved_or_back)
LEASE = Scenario("reservation_lease", ReservationLease, _held, _lapsed, reaction=True)
REPLENISHMENT = Scenario(
    "replenishment", Replenish, _low, _delivered_or_called_off, workflow_id=workflow_of, reaction=True
)
