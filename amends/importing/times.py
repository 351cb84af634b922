"""Times of PostgreSQL that Python has not: infinite ones, and those before year 1 or after 9999, come as their text."""

from __future__ import annotations

from typing import Any

from psycopg import DataError
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.types.datetime import (
    DateLoader,
    IntervalLoader,
    TimeLoader,
    TimestampLoader,
    TimestamptzLoader,
    TimetzLoader,
)

__all__ = ["read_times_as_text_where_need_be"]

LOADERS: dict[str, type[Loader]] = {
    "date": DateLoader,
    "time": TimeLoader,
    "timetz": TimetzLoader,
    "timestamp": TimestampLoader,
    "timestamptz": TimestamptzLoader,
    "interval": IntervalLoader,
}
"""What reads each type of times."""


def _or_text(loader: type[Loader]) -> type[Loader]:
    class OrText(loader):  # type: ignore[misc, valid-type]
        def load(self, data: Buffer) -> Any:
            try:
                return super().load(data)
            except DataError:
                return bytes(data).decode()

    return OrText


def read_times_as_text_where_need_be(connection: Any, record: object) -> None:
    """Have a new connection give the text of a time that can't be one here, so that its row can be told, not the table.

    Args:
        connection: as SQLAlchemy hands it to those who listen to "connect".
        record: of the pool.
    """
    for name, loader in LOADERS.items():
        connection.driver_connection.adapters.register_loader(name, _or_text(loader))
