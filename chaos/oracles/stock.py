"""Stock, counted by the load generator: what was on the shelves, came in, was sold and came back."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.client_book import ClientBook
from chaos.oracles.verdicts import by_payment, is_completed, returned
from chaos.orders import PRODUCTS, REORDER_AT, RUNS_LOW
from chaos.reading import Charge, LevelRow

__all__ = ["check_stock"]


def check_stock(book: ClientBook, ledger: Sequence[Charge], levels: Sequence[LevelRow]) -> list[str]:
    """Compare the shelves with the count.

    Args:
        book: of the clients.
        ledger: of the provider; says what became of orders that were terminated.
        levels: what the shop says of its stock.

    Returns:
        broken promises.
    """
    payments = by_payment(ledger)
    back = returned(book, payments)
    sold: dict[str, int] = {}
    for entry in book.accepted():
        if is_completed(entry, payments.get(entry.order_id, [])):
            for line in entry.plan.lines:
                sold[line.sku] = sold.get(line.sku, 0) + line.quantity
    broken = []
    shelves = {level.sku: level for level in levels}
    for sku, product in PRODUCTS.items():
        came = sum(each.quantity for each in book.restocks if each.sku == sku)
        should = product.pieces + came + back.get(sku, 0) - sold.get(sku, 0)
        level = shelves.get(sku)
        if level is None:
            broken.append(f"{sku}: not on the shelves")
            continue
        if level.on_hand != should:
            broken.append(f"{sku}: {level.on_hand} pieces on hand, {should} by count")
        if level.reserved:
            broken.append(f"{sku}: {level.reserved} pieces reserved, though no order is under way")
        if level.committed != sold.get(sku, 0):
            broken.append(f"{sku}: {level.committed} pieces have gone out, {sold.get(sku, 0)} were sold")
        if sku in RUNS_LOW and level.on_hand - level.reserved < REORDER_AT:
            broken.append(f"{sku}: {level.on_hand} pieces are too few, and nobody has ordered more")
        if level.on_hand < 0:
            broken.append(f"{sku}: more was sold than there was")
    broken += [
        f"{each.sku}: {each.quantity} pieces came in, which nobody confirmed" for each in book.restocks if not each.told
    ]
    return broken
