"""SQL of the projection benchmark: the log it reads, and what hand-written projections send."""

from __future__ import annotations

__all__ = [
    "APPLY",
    "CHECKPOINT",
    "CLEAR",
    "FILL",
    "INSERT_SELECT",
    "NEXT",
    "READ_BACK",
    "RESET",
    "TABLES",
    "UNFILL",
]

UNFILL = "alter table amends.events disable trigger user; delete from amends.events"
"""Empty the log, as only its owner can, and no application does."""

FILL = """
insert into amends.events (stream, version, name, schema_version, data, correlation_id, causation_id, command_id, actor,
                           recorded_at)
select e.stream, e.version, e.name, e.schema_version, e.data, id, id, id || '.' || e.name, 'bench',
       timestamptz '2026-01-01 12:00+00' + make_interval(days => n %% %(days)s)
from generate_series(0, %(orders)s - 1) as n,
     lateral (select 'o' || n as id, 'S' || n %% %(skus)s as sku, 1 + n %% 3 as pieces) as o,
     lateral (select jsonb_build_object('amount', pieces * %(price)s, 'currency', 'EUR') as total,
                     jsonb_build_object('amount', %(price)s::integer, 'currency', 'EUR') as unit) as m,
     lateral (values
         (1, 'order-' || id, 1, 'order.placed', 1, jsonb_build_object(
             'order_id', id, 'customer_id', 'c' || 1 + n / 50, 'total', total, 'lines',
             jsonb_build_array(jsonb_build_object('sku', sku, 'quantity', pieces, 'unit_price', unit)))),
         (2, 'stock-' || id, 1, 'stock.reserved', 2, jsonb_build_object(
             'sku', sku, 'reservation_id', id, 'quantity', pieces, 'hold', null)),
         (3, 'payment-' || id, 1, 'payment.processed', 1, jsonb_build_object(
             'payment_id', id, 'order_id', id, 'amount', total, 'provider_ref', 'p')),
         (4, 'stock-' || id, 2, 'stock.committed', 1, jsonb_build_object(
             'sku', sku, 'reservation_id', id, 'quantity', pieces)),
         (5, 'order-' || id, 2, 'order.completed', 1, jsonb_build_object('order_id', id))
     ) as e (step, stream, version, name, schema_version, data)
order by n, step
"""
"""A log of completed orders."""

TABLES = """
create schema read_models;
create table read_models.bench_history_v1 (order_id text primary key, status text, total bigint not null default 0,
    paid bigint not null default 0) with (fillfactor = 50);
create table read_models.bench_inventory_v1 (sku text primary key, reserved bigint not null default 0,
    committed bigint not null default 0) with (fillfactor = 50);
create table read_models.bench_revenue_v1 (day text primary key, orders bigint not null default 0,
    amount bigint not null default 0) with (fillfactor = 50);
"""
"""The projection's tables, in a database without the engine."""

CLEAR = "truncate read_models.bench_history_v1, read_models.bench_inventory_v1, read_models.bench_revenue_v1"
"""Before each round."""

RESET = "update amends.checkpoints set xid = '0', position = 0, events = 0 where projection = 'bench_orders'"
"""From the start again."""

NEXT = """
select e.xid::text, e.position, e.name, e.data, to_char(e.recorded_at at time zone 'UTC', 'YYYY-MM-DD')
from amends.events e
where (e.xid, e.position) > (%s::xid8, %s) and e.xid < pg_snapshot_xmin(pg_current_snapshot())
order by e.xid, e.position limit 2000
"""
"""The next events."""

CHECKPOINT = """
update amends.checkpoints set xid = %s::xid8, position = %s, events = events + 1 where projection = 'bench_orders'
"""
"""How far it has come."""

PLACED = """
insert into read_models.bench_history_v1 as t (order_id, status, total) values (%(order_id)s, 'placed', %(amount)s)
on conflict (order_id) do update set status = excluded.status, total = excluded.total
"""
"""A new order."""

RESERVED = """
insert into read_models.bench_inventory_v1 as t (sku, reserved) values (%(sku)s, %(quantity)s)
on conflict (sku) do update set reserved = t.reserved + excluded.reserved
"""
"""Goods set aside."""

PAID = """
insert into read_models.bench_history_v1 as t (order_id, paid) values (%(order_id)s, %(amount)s)
on conflict (order_id) do update set paid = t.paid + excluded.paid
"""
"""Money taken for an order."""

EARNED = """
insert into read_models.bench_revenue_v1 as t (day, orders, amount) values (%(day)s, 1, %(amount)s)
on conflict (day) do update set orders = t.orders + 1, amount = t.amount + excluded.amount
"""
"""Money taken on a day."""

COMMITTED = """
insert into read_models.bench_inventory_v1 as t (sku, reserved, committed)
values (%(sku)s, -%(quantity)s::bigint, %(quantity)s)
on conflict (sku) do update set reserved = t.reserved + excluded.reserved, committed = t.committed + excluded.committed
"""
"""Goods left."""

COMPLETED = """
insert into read_models.bench_history_v1 as t (order_id, status) values (%(order_id)s, 'completed')
on conflict (order_id) do update set status = excluded.status
"""
"""Ended well."""

APPLY = {
    "order.placed": (PLACED,),
    "stock.reserved": (RESERVED,),
    "payment.processed": (PAID, EARNED),
    "stock.committed": (COMMITTED,),
    "order.completed": (COMPLETED,),
}
"""What each event does."""

INSERT_SELECT = (
    """
insert into read_models.bench_history_v1 (order_id, status, total, paid)
select data ->> 'order_id',
       case when bool_or(name = 'order.completed') then 'completed' else 'placed' end,
       coalesce(sum((data #>> '{total,amount}')::bigint) filter (where name = 'order.placed'), 0),
       coalesce(sum((data #>> '{amount,amount}')::bigint) filter (where name = 'payment.processed'), 0)
from amends.events where name in ('order.placed', 'payment.processed', 'order.completed') group by 1
""",
    """
insert into read_models.bench_inventory_v1 (sku, reserved, committed)
select data ->> 'sku',
       sum(case when name = 'stock.reserved' then 1 else -1 end * (data ->> 'quantity')::bigint),
       coalesce(sum((data ->> 'quantity')::bigint) filter (where name = 'stock.committed'), 0)
from amends.events where name in ('stock.reserved', 'stock.committed') group by 1
""",
    """
insert into read_models.bench_revenue_v1 (day, orders, amount)
select to_char(recorded_at at time zone 'UTC', 'YYYY-MM-DD'), count(*), sum((data #>> '{amount,amount}')::bigint)
from amends.events where name = 'payment.processed' group by 1
""",
)
"""All of it, a statement a table."""

READ_BACK = """
select 'history', order_id, status, total, paid from read_models.bench_history_v1
union all select 'inventory', sku, '', reserved, committed from read_models.bench_inventory_v1
union all select 'revenue', day, '', orders, amount from read_models.bench_revenue_v1
"""
"""The rows that are compared."""
