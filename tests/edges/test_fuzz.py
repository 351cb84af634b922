"""Every edge, handed what nobody should: a typed error that names the field, no stack trace, and nothing stored."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example
from hypothesis import given as forall
from hypothesis import strategies as st
from pydantic import SecretStr

import read_models
from activities.webhooks import MAX_BODY, PaymentNews, WebhookMalformed, read_webhook, sign
from amends.errors import AmendsError, InvalidInput, NoAnswer, Refused, SagaError, ServerFailed, Unavailable
from amends.importing.reading import candidates, read_jsonl
from amends.messages import Command
from amends.query import Query
from amends.records import Position
from amends.settings import Settings
from app import app
from client import Shop
from domain.stock import SetReorderPoint
from read_models.customer_orders import orders_of_customer
from tests.cli.typing_in import amends
from tests.conftest import RunWorker
from tests.edges.odd import TRICKS, awaited, fuzzed, json_values, nested, odd_texts, odd_values
from tests.sagas.given import rows
from tests.sagas.shopping import STORED, card
from workflows.refund_order import RefundRequest

NOT_THE_CALLER_S = (ServerFailed, Unavailable, NoAnswer)
"""Errors that say that a server is to blame."""

LONGEST = 2_000
"""Most characters of a message: what was handed in is not given back as a whole."""

Wait = Callable[[Awaitable[Any]], Any]

BY_US = "select count(*) from amends.commands where actor = 'fuzz'"

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

COMMANDS = sorted((kind for each in app.aggregates for kind in each.commands), key=lambda kind: kind.message_name)

RIGHT: dict[str, Any] = {
    "sku": "s1",
    "customer_id": "c1",
    "order_id": "o1",
    "payment_id": "p1",
    "reservation_id": "r1",
    "refund_id": "f1",
    "replenishment_id": "n1",
    "name": "Ada",
    "reason": "because",
    "email": "ada@example.org",
    "quantity": 1,
    "at": NOW,
    "price": {"amount": 1, "currency": "EUR"},
    "amount": {"amount": 1, "currency": "EUR"},
    "lines": [{"sku": "s1", "quantity": 1, "unit_price": {"amount": 1, "currency": "EUR"}}],
    "provider_ref": "x",
    "method": "card",
    "return_id": "f1",
    "refunded": {"amount": 0, "currency": "EUR"},
    "paid": {"amount": 1, "currency": "EUR"},
    "taken": {"amount": 1, "currency": "EUR"},
    "placed_at": NOW,
    "ended_at": NOW,
    "status": "completed",
    "key_destroyed_at": NOW,
    "events_sealed": 1,
    "events_in_clear": 0,
    "read_models": ["customers v1 build 1"],
}
"""Fields as they may be, so that a command is wrong in one of them only."""


def right(kind: type[Command]) -> dict[str, Any]:
    """Fields of which a command can be made."""
    fields = {name: RIGHT[name] for name in kind.model_fields if name in RIGHT}
    return fields | ({"at": 1} if kind is SetReorderPoint else {})


async def typed(asked: Awaitable[Any]) -> Any:
    """What came of it; an error has to be one of ours, short, and not put the blame on a server."""
    try:
        return await asked
    except AmendsError as caught:
        error = caught
    assert not isinstance(error, NOT_THE_CALLER_S), repr(error)
    assert type(error) is not SagaError, repr(error)
    assert len(str(error)) < LONGEST, str(error)[:LONGEST]
    return error


def built(make: Callable[[], Any], fields: set[str]) -> Any:
    """What is made, or the error, which names one of the fields."""
    try:
        return make()
    except InvalidInput as caught:
        error = caught
    assert error.problems
    assert {field.partition(".")[0] for field in error.problems} <= fields | {"input"}, error.problems
    assert len(str(error)) < LONGEST, str(error)[:LONGEST]
    return error


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with await Shop.connect(settings, actor="fuzz") as shop:
        yield shop


@st.composite
def almost(draw: st.DrawFn) -> tuple[type[Command], dict[str, Any]]:
    """A command and fields for it, right but for one or more."""
    kind = draw(st.sampled_from(COMMANDS))
    fields = right(kind)
    wrong = draw(st.lists(st.sampled_from([*kind.model_fields, "more"]), min_size=1, max_size=2, unique=True))
    return kind, fields | {name: draw(odd_values) for name in wrong}


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.message_name)
def test_given_the_fields_that_are_right_when_a_command_is_made_of_them_then_it_is_one(kind: type[Command]) -> None:
    assert kind(**right(kind))


@fuzzed
@forall(almost())
@example((COMMANDS[0], {name: nested(150) for name in COMMANDS[0].model_fields}))
def test_whatever_a_command_is_made_of_it_is_one_or_the_wrong_fields_are_named(
    made: tuple[type[Command], dict[str, Any]],
) -> None:
    kind, fields = made
    command = built(lambda: kind(**fields), set(fields) | set(kind.model_fields))
    if isinstance(command, Command):  # what was taken can be kept, and read again
        assert Command.registry.read(kind.message_name, kind.schema_version, command.model_dump_json()) == command


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.message_name)
def test_given_each_trick_when_it_is_a_key_then_it_is_refused_by_the_field_s_name(kind: type[Command]) -> None:
    for trick in TRICKS:
        if trick in ("x" * 64, "null", "NaN", "1e400"):
            continue  # names like others
        with pytest.raises(InvalidInput) as refused:
            kind(**right(kind) | {kind.key_field: trick})
        assert kind.key_field in refused.value.problems, trick


async def test_whatever_command_is_executed_it_is_done_or_refused_and_what_is_refused_is_not_stored(
    shop: Shop, run_worker: RunWorker, database_url: str
) -> None:
    @fuzzed
    @forall(almost(), odd_values, odd_values)
    def fuzz(wait: Wait, made: tuple[type[Command], Any], request_id: Any, actor: Any) -> None:
        kind, fields = made
        before = wait(rows(database_url, BY_US))
        command = built(lambda: kind(**fields), set(fields) | set(kind.model_fields))
        if isinstance(command, InvalidInput):  # and one that is right, under an odd id, for an odd actor
            command = kind(**right(kind))
            ended = wait(typed(shop.execute(command, request_id=request_id, actor=actor)))
        else:
            ended = wait(typed(shop.execute(command)))
        if isinstance(ended, InvalidInput):
            assert set(ended.problems) <= {"request_id", "actor"}, ended.problems
            assert wait(rows(database_url, BY_US)) == before

    async with run_worker():
        await awaited(lambda wait: _given(fuzz, wait))


VERBS: dict[str, Callable[[Shop, Any, Any], Coroutine[Any, Any, Any]]] = {
    "place_order by customer": lambda shop, one, two: shop.place_order(one, two, card()),
    "place_order by payment": lambda shop, one, two: shop.place_order("c1", one, two),
    "place_order by request": lambda shop, one, two: shop.place_order("c1", [], card(), request_id=one, actor=two),
    "refund_order": lambda shop, one, two: shop.refund_order(one, two),
    "refund_order by request": lambda shop, one, two: shop.refund_order("o1", two, request_id=one),
    "refund_order by kind": lambda shop, one, two: shop.refund_order("o 1", restock=one, actor=two),
    "result": lambda shop, one, _: shop.result(one),
    "cancel": lambda shop, one, _: shop.cancel(one),
    "refund_result": lambda shop, one, _: shop.refund_result(one),
    "payment_settled": lambda shop, one, _: shop.payment_settled(one),
    "delivery_arrived": lambda shop, one, two: shop.delivery_arrived(one, two),
    "status": lambda shop, one, _: shop.status(one),
    "watch": lambda shop, one, two: anext(shop.watch(one, two)),
    "at_least": lambda shop, one, two: shop.at_least(Position(1, 1), 0, key=one, projections=two),
    "webhook": lambda shop, one, two: shop.webhook(one, two),
}


async def test_whatever_the_shop_is_asked_for_it_is_a_typed_refusal_before_anybody_works_for_it(
    settings: Settings, database_url: str
) -> None:
    before = await rows(database_url, STORED)
    hasty = settings.model_copy(update={"webhook_secret": SecretStr("whsec"), "answer_seconds": 0.2})
    async with await Shop.connect(hasty) as shop:

        @fuzzed
        @forall(st.sampled_from(sorted(VERBS)), odd_values, odd_values)
        def fuzz(wait: Wait, verb: str, one: Any, two: Any) -> None:
            try:
                ended = wait(typed(VERBS[verb](shop, one, two)))
            except AssertionError:  # a return that is right but for its order, which is for a worker to find out
                assert verb.startswith("refund_order")
                RefundRequest(refund_id="f1", order_id=one if verb == "refund_order" else "o1", lines=two)
            else:
                assert isinstance(ended, (InvalidInput, Refused)) or verb == "at_least", (verb, ended)

        await awaited(lambda wait: _given(fuzz, wait))
    assert await rows(database_url, STORED) == before


@fuzzed
@forall(
    json_values | st.fixed_dictionaries({"type": st.just("payment.changed"), "payment_id": json_values}), st.binary()
)
@example({"type": "payment.changed", "payment_id": "p1"}, b" " * 70_000)
def test_whatever_a_webhook_says_that_the_provider_has_signed_it_is_news_or_malformed(news: Any, tail: bytes) -> None:
    for body in (json.dumps(news).encode(), tail, json.dumps(news).encode() + tail):
        read: PaymentNews | Refused
        try:
            read = read_webhook(body, sign(body, "secret", NOW), "secret", NOW)
        except Refused as refused:
            read = refused
        assert isinstance(read, WebhookMalformed if len(body) > MAX_BODY else (PaymentNews, WebhookMalformed))
        assert len(str(read)) < LONGEST


@fuzzed
@forall(
    st.lists(st.dictionaries(st.sampled_from(["kind", "id", *RIGHT]), json_values | odd_texts, max_size=6), max_size=3)
)
def test_whatever_a_file_to_import_holds_each_line_is_a_record_or_its_wrong_fields_are_named(
    tmp_path_factory: pytest.TempPathFactory, lines: list[dict[str, Any]]
) -> None:
    file = tmp_path_factory.mktemp("import") / "records.jsonl"
    kinds = [record.kind for record in app.imports]
    told = [{**line, "kind": line.get("kind", kinds[n % len(kinds)])} for n, line in enumerate(lines)]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in told))
    read = list(candidates(read_jsonl(file), app.imports))
    assert len(read) == len(lines)
    for each in read:
        assert (each.record is None) == bool(each.problems)
        assert len(str(each.problems)) < LONGEST
        if each.record is not None:
            built(each.record.commands, set(RIGHT) | {"id", "member_since"})


@pytest.mark.parametrize(
    "text", ["1:2:3", "１:２", "1:-2", " 1:2", "1:2\n", "9" * 5_000 + ":1", f"{2**63}:1", ":", "", None, 5]
)
def test_given_a_text_that_is_no_position_when_parsed_then_it_is_refused_by_name(text: Any) -> None:
    with pytest.raises(InvalidInput, match=r"position: .{0,60} is no position") as refused:
        Position.parse(text)
    assert set(refused.value.problems) == {"position"}


@fuzzed
@forall(odd_texts | st.from_regex(r"[0-9]{0,25}:[0-9]{0,25}", fullmatch=True))
def test_whatever_is_parsed_as_a_position_is_one_that_writes_itself_so_or_is_refused(text: str) -> None:
    position = built(lambda: Position.parse(text), {"position"})
    if isinstance(position, Position):
        assert str(position).split(":") == [str(int(part)) for part in text.split(":")]


def questions() -> dict[str, Callable[..., Query[Any]]]:
    """Every typed question of the read models, by name."""
    found: dict[str, Callable[..., Query[Any]]] = {}
    for module in pkgutil.iter_modules(read_models.__path__):
        for name, function in vars(importlib.import_module(f"read_models.{module.name}")).items():
            if inspect.isfunction(function) and hasattr(function, "__wrapped__") and not name.startswith("_"):
                found[f"{module.name}.{name}"] = function
    return found


QUESTIONS = questions()


async def test_whatever_a_question_is_asked_with_it_is_answered_or_the_argument_is_named(shop: Shop) -> None:
    assert len(QUESTIONS) > 20

    @fuzzed
    @forall(st.sampled_from(sorted(QUESTIONS)), st.data())
    def fuzz(wait: Wait, name: str, data: st.DataObject) -> None:
        ask = QUESTIONS[name]
        names = list(inspect.signature(ask).parameters)
        wrong = {each: data.draw(odd_values, each) for each in data.draw(st.lists(st.sampled_from(names), unique=True))}
        needed = {
            each: RIGHT.get(each, "EUR")
            for each, parameter in inspect.signature(ask).parameters.items()
            if parameter.default is inspect.Parameter.empty
        }
        query = built(lambda: ask(**needed | wrong), set(names))
        if isinstance(query, Query):
            ended = wait(typed(shop.client.query(query)))
            assert not isinstance(ended, AmendsError) or isinstance(ended, InvalidInput), (name, wrong, ended)

    await awaited(lambda wait: _given(fuzz, wait))


TYPED = (
    ("show", "{}"),
    ("show", "order-1", "--at", "{}"),
    ("trace", "{}"),
    ("diagram", "{}"),
    ("saga", "show", "{}"),
    ("saga", "list", "--status", "{}"),
    ("saga", "list", "--limit", "{}"),
    ("saga", "skip", "{}", "--actor", "{}", "--reason", "x"),
    ("saga", "retry", "order-1", "--actor", "a", "--reason", "x", "--input", "{}"),
    ("saga", "resolve", "order-1", "--actor", "a", "--reason", "x", "--done", "{}"),
    ("saga", "cancel", "{}", "--actor", "a", "--reason", "{}"),
    ("views", "status", "{}"),
    ("views", "pause", "{}", "--actor", "{}", "--reason", "x"),
    ("views", "dead-letters", "list", "{}"),
    ("views", "dead-letters", "skip", "{}", "{}", "--actor", "a", "--reason", "x"),
    ("import", "{}"),
    ("restore", "{}"),
    ("compare", "{}"),
    ("deploy", "{}"),
    ("{}",),
    ("views", "{}"),
)


async def test_whatever_is_typed_it_is_answered_in_a_few_lines_without_a_stack_trace_and_nothing_is_stored(
    settings: Settings, database_url: str, tmp_path: Path
) -> None:
    before = await rows(database_url, STORED)

    @fuzzed
    @forall(st.sampled_from(TYPED), odd_texts)
    def fuzz(wait: Wait, line: tuple[str, ...], text: str) -> None:
        ended = wait(amends(*(each.format(text) if each == "{}" else each for each in line), settings=settings))
        assert ended.exception is None or isinstance(ended.exception, SystemExit), (
            line,
            text[:50],
            repr(ended.exception),
        )
        assert ended.exit_code in (0, 1, 2, 3), (line, ended.exit_code)  # 3: lines of a file were left out
        assert "Traceback" not in ended.output
        assert "ServerFailed" not in ended.output
        assert len(ended.stderr) < 4 * LONGEST

    await awaited(lambda wait: _given(fuzz, wait))
    assert await rows(database_url, STORED) == before


def _given(fuzz: Any, wait: Wait) -> None:
    fuzz(wait=wait)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (("show", "x" * 100_000), "InvalidInput: stream: is longer than 4,096 characters"),
        (("import", "x" * 100_000), "InvalidInput: file: is longer than 4,096 characters"),
        (("import", "x" * 300), "InvalidInput: file: there is no file xxx"),
        (("saga", "cancel", "x", "--actor", "a", "--reason", "x" * 5_000), "InvalidInput: reason: is longer than"),
    ],
)
async def test_given_what_is_too_long_when_typed_then_it_is_said_so_and_not_given_back(
    line: tuple[str, ...], told: str, settings: Settings
) -> None:
    ended = await amends(*line, settings=settings)
    assert ended.exit_code == 2
    assert " ".join(ended.stderr.split()).startswith(told), ended.stderr[:500]
    assert len(ended.stderr) < LONGEST


def test_given_names_of_fields_that_are_as_long_as_a_book_when_refused_then_they_are_cut_short() -> None:
    book = "x" * 100_000
    for make in (
        lambda: SetReorderPoint(**{book: 1}),
        lambda: orders_of_customer({book: ["\x00"]}),  # type: ignore[arg-type]  # as somebody without types may
        lambda: orders_of_customer("c1", limit={book: 1}),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidInput) as refused:
            make()
        assert len(str(refused.value)) < LONGEST


def test_given_a_line_whose_kind_is_no_text_when_imported_then_it_is_told(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text('{"kind": {}, "id": 1}\n{"kind": ["customer"]}\n')
    assert [set(each.problems) for each in candidates(read_jsonl(file), app.imports)] == [{"kind"}, {"kind"}]
