"""`amends show`: a thing then and now, event by event, without anybody's personal data."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from amends import Command, Context
from amends.database import open_pool
from amends.errors import InvalidInput, NothingRecorded
from amends.handler import CommandHandler
from amends.inspecting import history_of, moment
from amends.settings import Settings
from amends.store import EventStore
from app import app
from domain.customer import ChangeEmail, RecordLogin, RegisterCustomer
from domain.stock import ReceiveStock, ReleaseStock, ReserveStock
from tests.cli.typing_in import amends


def url_of(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


async def done(settings: Settings, *commands: Command) -> None:
    """Have commands done, one after the other."""
    async with open_pool(url_of(settings), "writer", 1) as pool:
        handler = CommandHandler(EventStore(pool), app.aggregates)
        for number, command in enumerate(commands, start=1):
            context = Context(command_id=f"c{number}", actor="ann", correlation_id="corr", causation_id="test")
            (await handler.handle(command, context)).raise_refusal()


MUGS = (
    ReceiveStock(sku="MUG", quantity=10),
    ReserveStock(sku="MUG", reservation_id="r1", quantity=3),
    ReleaseStock(sku="MUG", reservation_id="r1"),
)


async def test_given_a_stream_when_shown_then_each_event_is_told_with_the_state_after_it(settings: Settings) -> None:
    # given
    await done(settings, *MUGS)

    # when
    shown = await amends("show", "stock-MUG", "--json", settings=settings)

    # then
    assert shown.exit_code == 0, shown.stderr
    told = json.loads(shown.stdout)
    assert (told["stream"], told["aggregate"], told["version"]) == ("stock-MUG", "StockItem", 3)
    assert [event["name"] for event in told["events"]] == ["stock.received", "stock.reserved", "stock.released"]
    assert [event["version"] for event in told["events"]] == [1, 2, 3]
    assert [event["command"] for event in told["events"]] == ["stock.receive", "stock.reserve", "stock.release"]
    assert [event["command_id"] for event in told["events"]] == ["c1", "c2", "c3"]
    assert {event["actor"] for event in told["events"]} == {"ann"}
    assert told["events"][1]["facts"]["quantity"] == 3
    free = [event["state"]["on_hand"] - event["state"]["reserved"] for event in told["events"]]
    assert free == [10, 7, 10]
    assert told["now"] == told["events"][2]["state"]
    assert (told["then_version"], told["then"]) == (None, None)


async def test_given_a_version_or_a_time_when_shown_then_the_state_then_and_the_state_now_are_told(
    settings: Settings,
) -> None:
    # given
    await done(settings, *MUGS)
    with psycopg.connect(url_of(settings)) as connection:
        times = [
            row[0]
            for row in connection.execute("select recorded_at from amends.events where stream = 'stock-MUG' order by 1")
        ]
    states = [
        event["state"]
        for event in json.loads((await amends("show", "stock-MUG", "--json", settings=settings)).stdout)["events"]
    ]

    for at, version in [
        ("2", 2),
        (times[1].isoformat(), 2),
        ((times[2] - timedelta(microseconds=1)).isoformat(), 2),
        ("2999-01-01", 3),
    ]:
        # when
        told = json.loads((await amends("show", "stock-MUG", "--at", at, "--json", settings=settings)).stdout)
        # then
        assert (told["then_version"], told["then"], told["now"]) == (version, states[version - 1], states[2]), at

    # when: before anything has happened
    told = json.loads(
        (await amends("show", "stock-MUG", "--at", "1999-01-01T00:00", "--json", settings=settings)).stdout
    )
    # then: a thing that nothing has happened to yet
    assert told["then_version"] == 0
    assert told["then"]["on_hand"] == 0


async def test_given_a_terminal_when_shown_then_people_can_read_it(settings: Settings) -> None:
    await done(settings, *MUGS)
    shown = (await amends("show", "stock-MUG", "--at", "1", settings=settings)).stdout
    for line in ("stock-MUG  StockItem, version 3", "stock.reserved", "by ann", "stock.reserve  c2", "0 → 10", "3 → 0"):
        assert line in shown
    assert shown.index("state at version 1") < shown.index("stock.reserved") < shown.index("state now, at version 3")


async def test_given_many_events_when_the_last_are_asked_for_then_the_states_are_those_of_all(
    settings: Settings,
) -> None:
    await done(settings, *MUGS)
    everything = json.loads((await amends("show", "stock-MUG", "--json", settings=settings)).stdout)
    some = json.loads(
        (await amends("show", "stock-MUG", "--last", "1", "--at", "1", "--json", settings=settings)).stdout
    )
    assert some["events"] == everything["events"][2:]
    assert (some["version"], some["now"]) == (3, everything["now"])
    assert some["then"] == everything["events"][0]["state"]
    assert some["before"] == everything["events"][1]["state"]


async def test_given_a_customer_when_shown_then_no_personal_data_are_seen(settings: Settings) -> None:
    # given: a name that is one letter, and addresses, which the customer's state holds too
    await done(
        settings,
        RegisterCustomer(customer_id="c", name="Q", email="quinn@example.org"),
        ChangeEmail(customer_id="c", email="q@example.net"),
        RecordLogin(customer_id="c", at=datetime(2031, 5, 1, tzinfo=UTC)),
    )
    for arguments in (["--json"], [], ["--at", "1"], ["--at", "1", "--json"], ["--last", "1"]):
        # when
        shown = (await amends("show", "customer-c", *arguments, settings=settings)).stdout
        # then
        assert "customer.login_recorded" in shown
        assert "example" not in shown
        assert "Q" not in shown
        assert "[personal]" in shown


async def test_given_an_event_of_newer_code_when_shown_then_it_says_so_and_knows_no_state(settings: Settings) -> None:
    # given
    await done(settings, *MUGS[:1])
    with psycopg.connect(url_of(settings), autocommit=True) as connection:
        connection.execute(
            "insert into amends.events (stream, version, name, schema_version, data, correlation_id, causation_id,"
            " command_id, actor) values ('stock-MUG', 2, 'stock.received', 99, '{\"secret\": 1}', 'x', 'x', 'x', 'x')"
        )
    # when
    shown = await amends("show", "stock-MUG", "--json", settings=settings)
    # then
    told = json.loads(shown.stdout)
    assert told["events"][0]["state"] is not None
    assert told["events"][1]["facts"] is told["events"][1]["state"] is told["now"] is None
    assert "MessageFromTheFuture" in told["events"][1]["problem"]
    assert "secret" not in shown.stdout
    assert "not known" in (await amends("show", "stock-MUG", settings=settings)).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["stock-NOTHING"], 1, "NothingRecorded: Nothing has happened in the stream 'stock-NOTHING'"),
        (["nothing-4711"], 2, "InvalidInput: stream: 'nothing-4711' is none; streams are called customer-…"),
        (["stock"], 2, "InvalidInput: stream: 'stock' is none"),
        (["stock-MUG", "--at", "yesterday"], 2, "InvalidInput: at: 'yesterday' is neither a version"),
        (["stock-MUG", "--at", "4"], 2, "InvalidInput: at: the stream has 3 versions, none is 4"),
        (["stock-MUG", "--at", "-1"], 2, "neither a version"),
        (["stock-MUG", "--last", "0"], 2, "--last"),
    ],
)
async def test_given_what_is_not_there_when_shown_then_it_is_told_without_a_stack_trace(
    arguments: list[str], code: int, told: str, settings: Settings
) -> None:
    await done(settings, *MUGS)
    shown = await amends("show", *arguments, settings=settings)
    assert shown.exit_code == code
    assert told in shown.stderr.replace("\n", "")
    assert "Traceback" not in shown.stderr
    assert shown.stdout == ""


async def test_given_the_functions_when_called_then_their_errors_are_typed(settings: Settings) -> None:
    async with open_pool(url_of(settings), "writer", 1) as pool:
        with pytest.raises(NothingRecorded):
            await history_of(pool, app.aggregates, "stock-NOTHING")
        with pytest.raises(InvalidInput) as wrong:
            await history_of(pool, app.aggregates, "nothing-at-all")
    assert list(wrong.value.problems) == ["stream"]
    with pytest.raises(InvalidInput):
        moment("²")
