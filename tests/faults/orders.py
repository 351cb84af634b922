"""Scenarios of whole orders: placed and paid in every way, and brought back; what has to be true of each in the end."""

from __future__ import annotations

from activities.gateway import Charge
from activities.sandbox_gateway import SandboxGateway
from amends import Money
from amends.testing.faults import Ended, Scenario, World
from client import Shop
from domain.order import Complete, Order, Place
from domain.payment import RecordPayment, RequestPayment
from domain.stock import CommitStock, ReserveStock
from domain.values import Line, PricedLine, total_of
from tests.faults.shop import CURRENCY, ON_THE_SHELF, PRICE, filled_shelves, kept, shelved
from workflows.payment import PaymentMethod
from workflows.place_order import OrderRequest, PlaceOrder
from workflows.refund_order import RefundOrder, RefundRequest

__all__ = ["BY_CARD", "BY_TRANSFER", "HELD", "RETURN"]

CUSTOMER = "ada"
BOUGHT, RETURNED = 3, 2


def _placed(name: str, payment: PaymentMethod, *quantities: int) -> Scenario[OrderRequest]:
    """An order for new products, paid in this way."""

    async def request(world: World, key: str) -> OrderRequest:
        lines = await filled_shelves(world, key, *quantities)
        return OrderRequest(order_id=key, customer_id=CUSTOMER, lines=lines, payment=payment)

    return Scenario(
        name,
        PlaceOrder,
        request,
        _all_or_nothing,
        workflow_id="order-{}".format,
        cancel=_cancel,
        attributes=lambda request: {"OrderId": request.order_id, "CustomerId": request.customer_id},
    )


async def _all_or_nothing(ended: Ended[OrderRequest]) -> None:
    """Paid, and the goods gone; or neither."""
    world, id, lines = ended.world, ended.request.order_id, ended.request.lines
    status = (await world.state(Order, id)).status
    assert status == "completed" if ended.completed else status in ("new", "cancelled"), status
    await kept(world, id, PRICE * sum(line.quantity for line in lines) if ended.completed else 0)
    for line in lines:
        await shelved(world, line.sku, ON_THE_SHELF - line.quantity if ended.completed else ON_THE_SHELF)


async def _cancel(world: World, request: OrderRequest) -> None:
    await Shop(world.client).cancel(request.order_id)


async def _bought(world: World, key: str) -> RefundRequest:
    """An order that was completed and paid, of which some pieces come back."""
    [line] = await filled_shelves(world, key, BOUGHT)
    goods = (PricedLine(sku=line.sku, quantity=BOUGHT, unit_price=Money(amount=PRICE, currency=CURRENCY)),)
    paid, payment_id = total_of(goods), key
    await world.execute(
        Place(order_id=key, customer_id=CUSTOMER, lines=goods),
        RequestPayment(payment_id=payment_id, order_id=key, customer_id=CUSTOMER, amount=paid, method="card"),
    )
    charge = Charge(payment_id=payment_id, amount=paid, token="tok_ok")
    taken = await SandboxGateway(world.pool).charge(f"{key}/charge", charge)
    await world.execute(
        RecordPayment(payment_id=payment_id, amount=paid, provider_ref=taken.provider_ref or ""),
        ReserveStock(sku=line.sku, reservation_id=key, quantity=BOUGHT),
        Complete(order_id=key),
        CommitStock(sku=line.sku, reservation_id=key),
    )
    return RefundRequest(refund_id=f"{key}-back", order_id=key, lines=(Line(sku=line.sku, quantity=RETURNED),))


async def _money_for_goods(ended: Ended[RefundRequest]) -> None:
    """What came back is on the shelf and its money is with the customer; or nothing has changed."""
    world, order_id, lines = ended.world, ended.request.order_id, ended.request.lines
    assert lines is not None
    back = RETURNED if ended.completed else 0
    order = await world.state(Order, order_id)
    assert (sum(order.returned.values()), order.returning) == (back, {}), order
    await kept(world, order_id, PRICE * (BOUGHT - back))
    await shelved(world, lines[0].sku, ON_THE_SHELF - BOUGHT + back)


BY_CARD = _placed("place_order_card", PaymentMethod(kind="card", token="tok_ok"), 2, 3)
HELD = _placed("place_order_held", PaymentMethod(kind="card", token="tok_ok", mode="authorise"), 2)
BY_TRANSFER = _placed("place_order_transfer", PaymentMethod(kind="transfer", token="tok_transfer"), 2)
RETURN = Scenario("refund_order", RefundOrder, _bought, _money_for_goods, workflow_id="refund-{}".format)
