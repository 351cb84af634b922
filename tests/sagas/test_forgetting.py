"""A customer who is forgotten: nothing personal is left in the database or in Temporal, and the books still balance."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from google.protobuf.json_format import MessageToJson
from psycopg import sql
from sqlalchemy import Column, Text
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError

from amends import Context, Recorded, Refused
from amends.changes import Rows
from amends.client_keys import CONNECTIONS
from amends.database import open_pool
from amends.errors import Forgotten, InvalidInput
from amends.feed import Feed
from amends.handler import CommandHandler
from amends.projection import Projection
from amends.projector import Projector
from amends.rebuild_request import RebuildRequest
from amends.rebuilding import rebuild
from amends.schema import owner_engine
from amends.settings import Settings
from amends.store import EventStore
from amends.swapping import drop_old
from amends.values import SEALED
from client import Shop
from domain.customer import (
    ChangeEmail,
    Customer,
    CustomerErased,
    CustomerRegistered,
    EmailTaken,
    RecordLogin,
    RegisterCustomer,
    UnknownCustomer,
)
from read_models.customer_profile import profile, search_page
from read_models.customers import customer as customer_of
from read_models.customers import customers
from tests.cli.typing_in import amends
from tests.conftest import RunWorker
from tests.sagas.given import rows, until
from tests.sagas.shopping import Market, card
from workflows.payment import PaymentMethod
from workflows.place_order import OrderRequest, PlaceOrder

TABLES = """
select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'm') and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
"""
AGAIN = RebuildRequest(name="customers", version=customers.version, actor="operator", reason="to see whether it can")

OPEN = "select count(*)::int from pg_stat_activity where application_name = %s and datname = current_database()"
REVENUE = "select sum(revenue)::bigint, count(*) from views.daily_revenue"
"""What the shop has earned."""


@pytest.fixture
async def market(settings: Settings, run_worker: RunWorker) -> AsyncIterator[Market]:
    assert settings.database_url is not None
    async with run_worker(), await Shop.connect(settings, actor="till") as shop:
        yield Market(shop, settings.database_url.get_secret_value())


def context(id: str) -> Context:
    return Context(command_id=id, actor="test", correlation_id=id, causation_id=id)


def dump(url: str) -> str:
    """All rows of all tables, as text."""
    with psycopg.connect(url) as connection:
        tables = [table for (table,) in connection.execute(TABLES)]
        parts = []
        for table in tables:
            name = sql.SQL(".").join(map(sql.Identifier, table.replace('"', "").split(".")))
            with connection.cursor().copy(sql.SQL("copy {} to stdout").format(name)) as copy:
                parts += [bytes(block).decode() for block in copy]
    return "\n".join(parts)


async def told(market: Market) -> str:
    """All that Temporal keeps of this shop: histories in clear, memos, search attributes, summaries."""
    client, queue = market.shop.client.temporal, market.shop.client.settings.task_queue
    parts = []
    async for found in client.list_workflows(f"TaskQueue = '{queue}'"):
        handle = client.get_workflow_handle(found.id, run_id=found.run_id)
        history = await handle.fetch_history()
        parts += [_text(history.to_json()), _text(MessageToJson(found.raw_info))]
    return "\n".join(parts)


def _decoded(value: Any) -> Any:
    match value:
        case {"data": str(data), **rest}:
            return {**rest, "data": base64.b64decode(data).decode(errors="replace")}
        case dict():
            return {key: _decoded(part) for key, part in value.items()}
        case list():
            return [_decoded(part) for part in value]
    return value


def _text(history: str) -> str:
    return json.dumps(_decoded(json.loads(history)), ensure_ascii=False)


async def test_given_a_customer_with_orders_when_forgotten_then_nothing_personal_is_left_and_the_books_are_the_same(
    market: Market,
) -> None:
    shop, mark = market.shop, uuid4().hex[:10]
    id, name, email, later = (
        f"c-{uuid4().hex[:8]}",
        f"Zoe Näme-{mark}",
        f"zoe.{mark}@example.org",
        f"z{mark}@example.net",
    )
    token = f"tok_secret_{mark}"
    await shop.execute(RegisterCustomer(customer_id=id, name=name, email=email))
    await shop.execute(ChangeEmail(customer_id=id, email=later))
    lines = await market.lines(2)
    placed = await shop.place_order(id, lines, card())
    await placed.result()
    declined = await shop.place_order(id, lines, PaymentMethod(token=token))
    await declined.result()
    shown = await shop.query(profile(id))
    assert shown is not None
    assert (shown.name, shown.email) == (name, later)
    sold = await rows(market.url, REVENUE)
    # before, too, neither what Temporal keeps nor the log has any of it in clear
    kept = await told(market)
    assert SEALED in kept
    for secret in (name, email, later, token, "tok_ok", json.dumps(name)):
        assert secret not in kept, secret
    assert await rows(market.url, "select count(*) from amends.events where data::text like %s", f"%{mark}%") == [(0,)]
    assert token not in dump(market.url)

    certificate = await shop.forget(id, "asked by letter", actor="clerk")

    again = await shop.forget(id, "asked by letter")
    assert again == certificate
    assert (certificate.erased.sealed, certificate.erased.in_clear) == (2, 0)
    left = dump(market.url) + await told(market)
    for secret in (name, email, later, mark, name.lower()):
        assert secret not in left, secret
    shown = await shop.query(profile(id))
    assert shown is not None
    assert (shown.name, shown.email, shown.total_orders) == ("[forgotten]", "[forgotten]", 1)
    assert await shop.query(customer_of(id)) is None
    assert (await shop.query(search_page(mark))).items == []
    assert await rows(market.url, REVENUE) == sold
    [erasure] = await rows(
        market.url,
        "select forgotten_by, reason, events_sealed, events_in_clear, certified_at is not null, key_destroyed_at "
        "from views.erasures where customer_id = %s",
        id,
    )
    assert erasure == ("clerk", "asked by letter", 2, 0, True, certificate.erased.at)
    with pytest.raises(InvalidInput, match="not registered"):
        await shop.place_order(id, lines, card())


async def test_given_a_forgotten_customer_when_read_models_are_rebuilt_then_they_show_the_same_placeholder(
    market: Market,
) -> None:
    shop, id = market.shop, await market.customer()
    await shop.execute(ChangeEmail(customer_id=id, email=f"{id}@later.example.org"))
    other = await market.customer()
    await shop.forget(id, "asked")
    before = await rows(market.url, "select * from views.customers order by customer_id")

    await rebuild(customers, market.url, AGAIN)

    assert await rows(market.url, "select * from views.customers order by customer_id") == before
    shown = {row[0]: row for row in before}
    assert "[forgotten]" in shown[id]
    assert "Ada" in shown[other]


async def test_given_a_forgotten_customer_when_commands_come_then_refused_and_the_address_is_free(
    market: Market,
) -> None:
    shop, id = market.shop, await market.customer()
    await shop.forget(id, "asked")
    email = f"{id}@example.org"

    with pytest.raises(Forgotten):
        await shop.execute(ChangeEmail(customer_id=id, email="someone@example.org"))
    with pytest.raises(Forgotten):
        await shop.execute(RegisterCustomer(customer_id=id, name="Ada", email=email))
    with pytest.raises(CustomerErased):
        await shop.execute(RecordLogin(customer_id=id, at="2031-01-01T00:00:00Z"))
    with pytest.raises(UnknownCustomer):
        await shop.forget(f"nobody-{uuid4().hex[:8]}", "asked")
    await shop.execute(RegisterCustomer(customer_id=f"new-{id}", name="Ada", email=email))
    with pytest.raises(EmailTaken):
        await shop.execute(RegisterCustomer(customer_id=f"third-{id}", name="Ada", email=email))


async def test_given_sealed_text_of_others_when_a_client_sends_it_as_its_own_then_refused(market: Market) -> None:
    shop, id = market.shop, await market.customer()
    [(stolen,)] = await rows(
        market.url, "select data ->> 'name' from amends.events where stream = %s", f"customer-{id}"
    )
    assert stolen.startswith(SEALED)

    with pytest.raises(InvalidInput, match="name"):
        await shop.execute(RegisterCustomer(customer_id=f"thief-{id}", name=stolen, email=f"t{id}@example.org"))
    with pytest.raises(InvalidInput, match="token"):
        await shop.place_order(id, await market.lines(1), PaymentMethod(token=stolen))


async def test_given_a_token_sealed_for_another_order_when_it_is_sent_to_the_server_itself_then_nobody_is_charged(
    market: Market,
) -> None:
    shop, lines = market.shop, await market.lines(1)
    placed = await shop.place_order(await market.customer(), lines, card())
    await placed.result()
    first = await market.saga(placed.order_id).fetch_history()
    [stolen] = set(re.findall(rf"{SEALED}order-{placed.order_id}:[\w=-]+", _text(first.to_json())))
    other, client = f"o-{uuid4().hex[:8]}", shop.client

    request = OrderRequest(
        order_id=other,
        customer_id=await market.customer(),
        lines=tuple(lines),
        payment=PaymentMethod.model_validate({"token": stolen}),
    )
    outcome = await client.temporal.execute_workflow(
        PlaceOrder.run, request, id=f"order-{other}", task_queue=client.settings.task_queue
    )

    assert outcome.status == "cancelled"
    assert await market.charges(other) == 0


async def test_given_a_record_that_poses_as_sealed_when_imported_then_rejected_and_the_others_are_taken_over(
    market: Market, tmp_path: Path
) -> None:
    id = uuid4().hex[:8]
    people = enumerate(("Ada", f"{SEALED}customer-x:y"))
    lines = [
        {"kind": "customer", "id": f"{id}-{n}", "name": who, "email": f"{id}.{n}@example.org"} for n, who in people
    ]
    file = tmp_path / "people.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))

    done = await amends("import", str(file), "--json", settings=market.shop.client.settings)

    assert done.exit_code == 3, done.output
    told = await rows(market.url, "select stream from amends.events where stream like %s", f"customer-{id}%")
    assert told == [(f"customer-{id}-0",)]


async def test_given_a_key_that_a_restore_brought_back_when_the_customer_is_forgotten_again_then_it_is_destroyed_again(
    market: Market,
) -> None:
    shop, id = market.shop, await market.customer()
    await shop.forget(id, "asked")
    made = "update amends.personal_keys set key = sha512('x'), destroyed_at = null where subject = %s returning 1"
    await rows(market.url, made, f"customer-{id}")

    await shop.forget(id, "asked again")

    kept = "select key from amends.personal_keys where subject = %s"
    assert await rows(market.url, kept, f"customer-{id}") == [(None,)]


async def test_given_requests_and_a_forgetting_at_once_then_whatever_comes_first_nothing_is_left(
    market: Market,
) -> None:
    shop, id, mark = market.shop, await market.customer(), uuid4().hex[:10]
    changes = [shop.execute(ChangeEmail(customer_id=id, email=f"{mark}.{n}@example.org")) for n in range(8)]

    done = await asyncio.gather(*changes[:4], shop.forget(id, "asked"), *changes[4:], return_exceptions=True)

    assert [each for each in done if isinstance(each, BaseException) and not isinstance(each, Refused)] == []
    await shop.forget(id, "asked")
    assert mark not in dump(market.url) + await told(market)
    client = shop.client.temporal
    failed = [w async for w in client.list_workflows(f"TaskQueue = '{shop.client.settings.task_queue}'")]
    assert all(w.status != WorkflowExecutionStatus.FAILED for w in failed)


async def test_given_a_build_that_is_kept_when_a_customer_is_forgotten_then_the_certificate_waits_until_it_is_dropped(
    market: Market,
) -> None:
    shop, id = market.shop, await market.customer()
    await rebuild(customers, market.url, AGAIN)
    forgetting = asyncio.create_task(shop.forget(id, "asked"))
    saga = shop.client.temporal.get_workflow_handle(f"forget-{id}")

    async def told_why() -> str | None:
        try:
            pending = (await saga.describe()).raw_description.pending_activities
        except RPCError:  # not there yet
            return None
        return next((each.last_failure.message for each in pending if each.attempt > 1), None)

    reason = await until("the saga says what it waits for", told_why)
    assert "drop-old customers" in str(reason)
    assert await rows(market.url, "select certified_at from views.erasures where customer_id = %s", id) == [(None,)]

    drop_old(market.url, "customers", "operator", "somebody is forgotten")

    certificate = await forgetting
    assert [build for build in certificate.read_models if build.startswith("customers")] == ["customers v3 build 2"]


async def test_given_a_lost_key_when_read_then_parked_and_nobody_is_taken_for_forgotten(market: Market) -> None:
    id = await market.customer()
    assert await market.shop.query(profile(id)) is not None
    await rows(market.url, "delete from amends.personal_keys where subject = %s returning 1", f"customer-{id}")

    done = await rebuild(customers, market.url, AGAIN)

    assert done.outcome == "differs"
    [(error,)] = await rows(market.url, "select error from amends.dead_letters where key = %s", f"customer-{id}")
    assert "PersonalKeyMissing" in error
    assert "Restore that table" in error


async def test_given_an_event_that_a_read_model_chokes_on_when_parked_then_the_reason_says_nothing_personal(
    database_url: str,
) -> None:
    name, email = f"Ada {uuid4().hex[:8]}", f"{uuid4().hex[:8]}@example.org"
    choosy = Projection("choosy", version=1)
    table = choosy.table("choosy", Column("id", Text, primary_key=True, comment="Who."), comment="Nobody.")

    @choosy.on(CustomerRegistered)
    def registered(event: CustomerRegistered, fact: Recorded, rows: Rows) -> None:
        raise ValueError(f"{event.name.upper()} <{event.email}> is none for {table.name}")

    with owner_engine(database_url).begin() as connection:
        choosy.install(connection)
    async with open_pool(database_url, "writer", 2) as pool:
        handler = CommandHandler(EventStore(pool), [Customer])
        await handler.handle(RegisterCustomer(customer_id="c", name=name, email=email), context("c"))
    async with open_pool(database_url, "projector", 2) as pool:
        await Projector(choosy, pool, database_url).catch_up(await Feed(pool).head())

    [(error,)] = await rows(database_url, "select error from amends.dead_letters")
    assert error == "ValueError: [personal] <[personal]> is none for choosy_v1"


async def test_given_a_client_that_registers_many_at_once_when_it_needs_keys_then_they_share_its_few_connections(
    market: Market,
) -> None:
    await asyncio.gather(*(market.customer() for _ in range(30)))

    [(connections,)] = await rows(market.url, OPEN, "amends-client")
    assert 1 <= connections <= CONNECTIONS
