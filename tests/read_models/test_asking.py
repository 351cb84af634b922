"""Every typed query, found in the modules of the read models: what can't be asked is refused by the argument's name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel
from sqlalchemy import Column, MetaData, Table, Text, select

import read_models
from amends.asking import AnyText
from amends.errors import InvalidInput
from amends.paging import paged
from amends.query import Query
from amends.reader import Reader
from amends.records import Position
from read_models import order_changes
from tests.sagas.shopping import new_database

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
FAR_EAST, FAR_WEST = timezone(timedelta(hours=23, minutes=59)), timezone(-timedelta(hours=23, minutes=59))
BEYOND = [datetime.max.replace(tzinfo=FAR_WEST), datetime.min.replace(tzinfo=FAR_EAST)]
ODD_ZONES = [NOON.replace(tzinfo=FAR_EAST), NOON.replace(tzinfo=FAR_WEST)]

TEXTS: list[Any] = ["a\x00", "\ud800", 5, True, b"a", ["a"]]
BAD: dict[str, list[Any]] = {
    "str": TEXTS,
    "AnyText": [5, True, b"a", ["a"], None],
    "Sequence[str]": [["a", "b\x00"], ["\udfff"], "abc", [5], {"a": 1}],
    "int": [2**63, -(2**63) - 1, 10**5000, True, "5", 1.5],
    "bool": ["yes", 1, 0.0],
    "date": [NOON, "2026-05-01", 5, True],
    "datetime": [date(2026, 5, 1), datetime(2026, 5, 1), "2026-05-01T12:00Z", 5.0, *BEYOND],
    "limit": [0, -1, 1001, 2**63, 10**5000, True, 2.0, "3", None],
    "after": ["", "x", "eA", "\x00", "\ud800", 5, b"x", "é", "A" * 100_000],
}
"""What an argument can't be, by its annotation or its name."""

EDGES: dict[str, list[Any]] = {
    "str": ["", "a'b\\;--%", "é\U0001f375" * 1000, " \t\n", "\x01"],
    "AnyText": ["", "a\x00", "\ud800", "' or 1=1 --", "a & | ! ( <-> :*"],
    "Sequence[str]": [[], ["a"] * 2000, ("a", "")],
    "int": [2**63 - 1, -(2**63), 0],
    "bool": [True, False],
    "date": [date.min, date.max],
    "datetime": [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC), *ODD_ZONES],
    "limit": [1, 1000],
    "after": [None],
}
"""What it may be, odd as it is."""

STATUS = Table("projection_status", MetaData(), Column("projection", Text), schema="views")


class Standing(BaseModel):
    projection: str


@dataclass(frozen=True)
class Asking:
    """A query function, found.

    Args:
        ask: the function.
        kinds: of each argument the kind of values, as in `BAD`; or the words that it may be.
    """

    ask: Callable[..., Any]
    kinds: dict[str, str | tuple[str, ...]]

    @property
    def needed(self) -> dict[str, Any]:
        parameters = inspect.signature(self.ask).parameters.values()
        return {
            each.name: ["a"] if self.kinds[each.name] == "Sequence[str]" else "a"
            for each in parameters
            if each.default is each.empty and each.name != "ask"
        }


def found() -> Iterator[Asking]:
    for module in pkgutil.iter_modules(read_models.__path__):
        loaded = importlib.import_module(f"read_models.{module.name}")
        for name, function in list(vars(loaded).items()):
            if inspect.isfunction(function) and function.__module__ == loaded.__name__ and not name.startswith("_"):
                answer = str(inspect.signature(function).return_annotation)
                searches = inspect.iscoroutinefunction(function) and "Page[" in answer
                if answer.startswith("Query[") or searches:
                    hints = get_type_hints(function, include_extras=True)
                    yield Asking(function, {each: kind(each, hint) for each, hint in hints.items() if each not in SKIP})


SKIP = {"return", "ask"}


def kind(name: str, annotation: Any) -> str | tuple[str, ...]:
    if name in ("limit", "after"):
        return name
    if annotation == AnyText:
        return "AnyText"
    if get_origin(annotation) in (Union, UnionType):
        [annotation] = [each for each in get_args(annotation) if each is not NoneType]
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return annotation.__name__ if annotation in (str, int, bool, date, datetime) else str(annotation).split(".")[-1]


FOUND = {f"{each.ask.__module__.removeprefix('read_models.')}.{each.ask.__name__}": each for each in found()}


async def question(asking: Asking, ask: Callable[[Query[Any]], Awaitable[Any]], arguments: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(asking.ask):
        return await asking.ask(ask, **arguments)
    return await ask(asking.ask(**arguments))


@pytest.fixture(scope="module")
async def reader(postgres_url: str, template: str) -> AsyncIterator[Reader]:
    async with Reader(new_database(postgres_url, template), 2) as reader:
        yield reader


def test_the_query_functions_are_found() -> None:
    assert len(FOUND) > 20
    assert {"order_history.orders_of", "sales_by_product.best_sellers", "product_catalog.search_products"} <= set(FOUND)


@pytest.mark.parametrize("asking", FOUND.values(), ids=FOUND.keys())
async def test_given_any_query_when_an_argument_can_not_be_one_then_the_error_names_it(
    asking: Asking, reader: Reader
) -> None:
    for name, told in asking.kinds.items():
        bad = ["nonsense", "", 5, "a\x00"] if isinstance(told, tuple) else BAD[told]
        for value in bad:
            with pytest.raises(InvalidInput) as refused:
                await question(asking, reader.query, {**asking.needed, name: value})
            [field] = {each.split(".")[0] for each in refused.value.problems}
            assert field == name, (value, refused.value)


@pytest.mark.parametrize("asking", FOUND.values(), ids=FOUND.keys())
async def test_given_any_query_when_an_argument_is_odd_but_can_be_one_then_it_is_answered(
    asking: Asking, reader: Reader
) -> None:
    await question(asking, reader.query, asking.needed)
    for name, told in asking.kinds.items():
        if name == "typos":  # this database can't, and says so; one that can is in test_typos
            with pytest.raises(InvalidInput, match="typos: can't be forgiven in this database"):
                await question(asking, reader.query, {**asking.needed, name: True})
            continue
        for value in told if isinstance(told, tuple) else EDGES[told]:
            await question(asking, reader.query, {**asking.needed, name: value})


PAGED = {name: each for name, each in FOUND.items() if "after" in each.kinds}


@pytest.mark.parametrize("asking", PAGED.values(), ids=PAGED.keys())
async def test_given_any_page_when_the_cursor_is_of_another_question_then_the_error_names_it(
    asking: Asking, reader: Reader
) -> None:
    other = await reader.query(paged(select(STATUS), Standing, by=[STATUS.c.projection], limit=1))
    assert other.next is not None
    with pytest.raises(InvalidInput, match="after: is not the `next` of a page of this very question"):
        await question(asking, reader.query, {**asking.needed, "after": other.next})


@pytest.mark.parametrize("value", ["a\x00", "\ud800"])
async def test_given_a_key_that_can_not_be_one_when_it_is_watched_or_waited_for_then_the_error_names_it(
    reader: Reader, value: str
) -> None:
    with pytest.raises(InvalidInput, match="key: text can't hold"):
        await reader.changes(order_changes.changes, value, Position(0, 0), 5)
    with pytest.raises(InvalidInput, match="key: text can't hold"):
        await reader.at_least(Position(0, 0), ["orders"], 5, value)


async def test_given_a_position_beyond_all_positions_when_it_is_watched_from_then_the_error_names_it(
    reader: Reader,
) -> None:
    with pytest.raises(InvalidInput, match="after"):
        await reader.changes(order_changes.changes, "a", Position(2**64, 1), 5)
