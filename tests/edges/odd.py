"""What nobody should hand in: texts that play tricks, numbers past every bound, other kinds of values, deep nesting."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

__all__ = ["TRICKS", "UNSEEN", "awaited", "fuzzed", "json_values", "nested", "odd_texts", "odd_values"]

UNSEEN = {
    "zero width space": "\u200b",
    "word joiner": "\u2060",
    "byte order mark": "\ufeff",
    "right-to-left override": "\u202e",
    "left-to-right isolate": "\u2066",
    "line separator": "\u2028",
    "hangul filler": "\u3164",
    "braille blank": "\u2800",
    "soft hyphen": "\u00ad",
    "variation selector": "\ufe0f",
    "grapheme joiner": "\u034f",
    "delete": "\x7f",
    "next line": "\x85",
    "escape": "\x1b",
    "NUL": "\x00",
    "half a pair": "\ud800",
}
"""Characters that nobody sees, by name."""

TRICKS = [
    "",
    " ",
    "'; drop table amends.events; --",
    '" or 1=1 --',
    "$$; select pg_sleep(10); $$",
    "%s%(id)s{0}{reason}",
    "../../etc/passwd",
    "..",
    "a/b",
    "a\\b",
    "file:///etc/passwd",
    "order-1' OR ExecutionStatus='Running",
    "\uff21\uff22\uff23",  # full width: the same letters, once normalised
    "\u0410\u0412\u0421",  # cyrillic: other letters that look the same
    "\u212a",  # kelvin, which is a k once it is lower case
    "e\u0301",
    "\U0001f600",
    "[red]x[/red]",
    "\r\nSet-Cookie: a=b",
    "x" * 65,
    "x" * 100_000,
    "9" * 5_000,
    "-0",
    "1e400",
    "NaN",
    "null",
    *(f"a{character}b" for character in UNSEEN.values()),
    *UNSEEN.values(),
]

odd_texts = (
    st.sampled_from(TRICKS) | st.text(max_size=30) | st.text(st.characters(categories=["Cc", "Cf", "Cs"]), max_size=5)
)

_NUMBERS = st.sampled_from(
    [
        0,
        -1,
        1,
        2**31,
        2**53 + 1,
        2**63 - 1,
        2**63,
        -(2**63) - 1,
        2**64,
        10**30,
        0.5,
        1e308,
        math.nan,
        math.inf,
        -math.inf,
    ]
)

_SCALARS = st.none() | st.booleans() | _NUMBERS | odd_texts


def nested(depth: int, kind: type = dict) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if kind is dict else [value]
    return value


def _inside(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(odd_texts, inner, max_size=3)


json_values = st.recursive(_SCALARS, _inside, max_leaves=5) | st.builds(
    nested, st.just(150), st.sampled_from([dict, list])
)
"""What JSON may hold, and NaN."""

odd_values = json_values | st.sampled_from(
    [b"\xff", object(), (), {1: 2}, {"a"}, datetime.max, datetime(1, 1, 1, tzinfo=UTC), range(3), int, 1j]
)
"""What Python may hold besides."""

fuzzed = settings(
    max_examples=40 if settings().max_examples <= 100 else settings().max_examples,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
"""So many examples of each edge, and many more with `--hypothesis-profile thorough`."""


async def awaited(fuzz: Callable[[Callable[[Awaitable[Any]], Any]], None]) -> None:
    """Run a function of Hypothesis' beside this event loop; what it is handed waits for things that run in here."""
    loop = asyncio.get_running_loop()

    def wait(asked: Awaitable[Any]) -> Any:
        async def ask() -> Any:
            return await asked

        return asyncio.run_coroutine_threadsafe(ask(), loop).result(60)

    await asyncio.to_thread(fuzz, wait)
