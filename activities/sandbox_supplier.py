"""A pretend supplier with real books: what was ordered and delivered can be counted without asking anybody else.

Like a real one it keeps books of its own (schema `supplier`), acts once for each idempotency key, and delivers when it
likes: when `deliver` is called. It misbehaves when told to, by product: see `refuse` and `lose_answers`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb
from pydantic_core import to_json, to_jsonable_python
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from activities.suppliers import AlreadyDelivered, NotSupplied, Promise, Suppliers, SupplierUnavailable, SupplyOrder
from amends import Context, InvalidInput
from amends.database import Connection as Session
from amends.database import Pool

__all__ = ["LEAD_DAYS", "LEAD_DAYS_CHASED", "BookedOrder", "SandboxSupplier", "books", "install"]

LEAD_DAYS = 5
"""How many days the supplier asks for at first."""

LEAD_DAYS_CHASED = 2
"""How many more it asks for each time it is chased."""

books = MetaData(schema="supplier")
"""The sandbox's books."""

requests = Table(
    "requests",
    books,
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False, comment="Hash of the request, to tell a repeat from another request."),
    Column("answer", JSONB(none_as_null=False), comment="What was answered, and will be again."),
    comment="Idempotency keys: each acts once.",
)
products = Table(
    "products",
    books,
    Column("sku", Text, primary_key=True),
    Column("refused", Boolean, nullable=False, server_default=text("false"), comment="Orders of it are not taken."),
    Column("to_lose", Integer, nullable=False, server_default=text("0"), comment="So many answers get lost."),
    comment="Products about which the sandbox was told to misbehave.",
)
orders = Table(
    "orders",
    books,
    Column("order_id", Text, primary_key=True),
    Column("sku", Text, comment="Null when it was cancelled before it came."),
    Column("quantity", BigInteger, nullable=False, server_default=text("0"), comment="Pieces ordered."),
    Column("status", Text, CheckConstraint("status in ('open', 'delivered', 'cancelled')"), nullable=False),
    Column("delivered", BigInteger, nullable=False, server_default=text("0"), comment="Pieces delivered."),
    Column("chased", Integer, nullable=False, server_default=text("0"), comment="How often it was asked after."),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("(delivered > 0) = (status = 'delivered')", name="delivered_once"),
    comment="Orders, one row each.",
)

TAKE_KEY = """
insert into supplier.requests (key, fingerprint) values (%s, %s)
on conflict (key) do update set fingerprint = requests.fingerprint
returning fingerprint, answer is not null, answer
"""
"""Take turns on a key, and see what was answered under it."""

ANSWER = "update supplier.requests set answer = %s where key = %s"
"""Keep the answer for repeats."""

IS_REFUSED = "select refused from supplier.products where sku = %s"
"""Whether orders of a product are not taken."""

ADD_ORDER = """
insert into supplier.orders (order_id, sku, quantity, status) values (%s, %s, %s, 'open')
on conflict (order_id) do nothing returning true
"""
"""Take an order, unless it was taken or cancelled before."""

PROMISED = "select status from supplier.orders where order_id = %s and sku is not null and status <> 'cancelled'"
"""Whether there is such an order that stands."""

CHASE = """
update supplier.orders set chased = chased + 1 where order_id = %s and sku is not null and status <> 'cancelled'
returning status
"""
"""Note that somebody asked after an order that stands."""

CANCEL = """
insert into supplier.orders (order_id, status) values (%s, 'cancelled')
on conflict (order_id) do update
set status = case when orders.status = 'delivered' then 'delivered' else 'cancelled' end
returning status
"""
"""Cancel an order that was not delivered; one that never came can't come later."""

DELIVER = """
update supplier.orders set status = 'delivered', delivered = coalesce(%(quantity)s, quantity)
where order_id = %(order_id)s and status = 'open' returning delivered
"""
"""Send the goods of an open order."""

LOSE = """
update supplier.products set to_lose = to_lose - 1 where to_lose > 0 and sku in
    (select sku from supplier.orders where order_id = %s)
returning true
"""
"""Whether the answer about an order gets lost on its way."""

MISBEHAVE = """
insert into supplier.products (sku, refused, to_lose)
values (%(sku)s, coalesce(%(refused)s, false), coalesce(%(to_lose)s, 0))
on conflict (sku) do update
set refused = coalesce(%(refused)s, products.refused), to_lose = coalesce(%(to_lose)s, products.to_lose)
"""
"""Tell the supplier how to behave about a product."""

ORDERS_OF = """
select order_id, sku, quantity, status, delivered, chased from supplier.orders
where sku = any(%s) order by created_at, order_id
"""
"""What was ordered of some products, and what became of it."""


class BookedOrder(NamedTuple):
    """An order as the supplier's books show it, in pieces."""

    order_id: str
    sku: str
    quantity: int
    status: str
    delivered: int
    chased: int


def install(connection: Connection) -> None:
    """Create the sandbox's books where they are missing, and let the writer role keep them.

    Args:
        connection: of the database's owner; the roles must be there. All happens in its transaction.
    """
    connection.execute(select(func.pg_advisory_xact_lock(func.hashtext("supplier.install"))))
    connection.execute(text("create schema if not exists supplier"))
    books.create_all(connection)
    connection.execute(text("grant usage on schema supplier to amends_writer"))
    connection.execute(text("grant select, insert, update on all tables in schema supplier to amends_writer"))


class SandboxSupplier(Suppliers):
    """The pretend supplier.

    Args:
        pool: autocommitting connections of the writer role.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def order(self, order: SupplyOrder, context: Context) -> Promise:
        """Take an order, once.

        Raises:
            NotSupplied: the sandbox was told not to sell the product, or the order was cancelled or came before.
            SupplierUnavailable: the answer got lost.
            InvalidInput: the key stands for another request.
        """

        async def take(connection: Session) -> Promise:
            refused = await (await connection.execute(IS_REFUSED, (order.sku,))).fetchone()
            taken = (order.order_id, order.sku, order.quantity)
            if refused == (True,) or not (await (await connection.execute(ADD_ORDER, taken)).fetchone()):
                raise NotSupplied(order_id=order.order_id, sku=order.sku)
            return Promise(days=LEAD_DAYS)

        return Promise.model_validate(await self._once(context.command_id, "order", order, order.order_id, take))

    async def status(self, order_id: str, context: Context) -> Promise | None:
        """When an order that stands will be delivered; this answer never gets lost."""
        async with self._pool.connection() as connection:
            found = await (await connection.execute(PROMISED, (order_id,))).fetchone()
        return Promise(days=LEAD_DAYS) if found else None

    async def chase(self, order_id: str, context: Context) -> Promise:
        """Promise it anew.

        Raises:
            NotSupplied: there is no such order that stands.
            SupplierUnavailable: the answer got lost.
            InvalidInput: the key stands for another request.
        """

        async def remind(connection: Session) -> Promise:
            if not await (await connection.execute(CHASE, (order_id,))).fetchone():
                raise NotSupplied(order_id=order_id)
            return Promise(days=LEAD_DAYS_CHASED)

        return Promise.model_validate(await self._once(context.command_id, "chase", order_id, order_id, remind))

    async def cancel(self, order_id: str, context: Context) -> None:
        """Cancel an order, whether it came or not.

        Raises:
            AlreadyDelivered: it is too late for that.
            SupplierUnavailable: the answer got lost.
            InvalidInput: the key stands for another request.
        """

        async def cancel(connection: Session) -> None:
            if await (await connection.execute(CANCEL, (order_id,))).fetchone() == ("delivered",):
                raise AlreadyDelivered(order_id=order_id)

        await self._once(context.command_id, "cancel", order_id, order_id, cancel)

    async def deliver(self, order_id: str, quantity: int | None = None) -> int:
        """Have the supplier send the goods of an open order.

        Args:
            order_id: which order.
            quantity: pieces; as ordered when not given.

        Returns:
            the pieces sent.

        Raises:
            NotSupplied: there is no such open order.
        """
        sending = {"order_id": order_id, "quantity": quantity}
        async with self._pool.connection() as connection:
            sent = await (await connection.execute(DELIVER, sending)).fetchone()
        if sent is None:
            raise NotSupplied(order_id=order_id)
        return int(sent[0])

    async def refuse(self, sku: str, refused: bool = True) -> None:
        """Tell the supplier not to take orders of a product, or to take them again."""
        await self._misbehave(sku, refused=refused)

    async def lose_answers(self, sku: str, times: int) -> None:
        """Let the next answers about a product get lost, after the supplier has done what it was asked for."""
        await self._misbehave(sku, to_lose=times)

    async def orders_of(self, skus: Sequence[str]) -> list[BookedOrder]:
        """What the books say of some products, oldest order first."""
        async with self._pool.connection() as connection:
            found = await (await connection.execute(ORDERS_OF, (list(skus),))).fetchall()
        return [BookedOrder(*row) for row in found]

    async def _misbehave(self, sku: str, *, refused: bool | None = None, to_lose: int | None = None) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(MISBEHAVE, {"sku": sku, "refused": refused, "to_lose": to_lose})

    async def _once(
        self, key: str, kind: str, request: object, order_id: str, act: Callable[[Session], Awaitable[Promise | None]]
    ) -> Any:
        """Act once for each key, and answer a repeat as the first time; the answer may get lost on its way."""
        fingerprint = sha256(f"{kind} ".encode() + to_json(request)).hexdigest()
        async with self._pool.connection() as connection, connection.transaction():
            taken = await (await connection.execute(TAKE_KEY, (key, fingerprint))).fetchone()
            assert taken is not None
            if taken[0] != fingerprint:
                raise InvalidInput({"key": f"stands for another request than this {kind}"})
            answered, answer = taken[1:]
            if not answered:
                answer = to_jsonable_python(await act(connection))
                await connection.execute(ANSWER, (Jsonb(answer), key))
            lost = await (await connection.execute(LOSE, (order_id,))).fetchone()
        if lost:
            raise SupplierUnavailable(f"No answer about the order {order_id}")
        return answer
