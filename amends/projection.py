"""Declares a projection: its tables, the views people see, and what each event does to the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from zlib import crc32

from pydantic_core import from_json, to_json
from sqlalchemy import Column, MetaData, Table
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import NullType

from amends.changes import Rows
from amends.feed import Row
from amends.handling import handle
from amends.messages import Event
from amends.read_tables import ReadTable
from amends.records import Recorded

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["Applies", "Projection"]

E = TypeVar("E", bound=Event)

Applies = Callable[[E, Recorded, Rows], None]
"""What an event does to rows: the event, where and when it was recorded, the rows."""


class Projection:
    """A read model in the making: `history = Projection("order_history", version=1)`, its tables, its handlers.

    Args:
        name: of the projection, as `views.projection_status` shows it.
        version: raise it when tables or handlers change; the new version is built beside the old one.
        partitions: how many followers share the work, each taking the keys that hash to it. A row must belong to one
            key then, or two of them would change it in no particular order. Another number is another version.
        made_with: settings that rows depend on, e.g. a time zone; with others, the next worker has them built anew.

    Raises:
        TypeError: version or partitions are less than 1.
    """

    def __init__(
        self, name: str, *, version: int, partitions: int = 1, made_with: Mapping[str, str] | None = None
    ) -> None:
        if version < 1 or partitions < 1:
            raise TypeError(f"Projection {name!r}: version and partitions begin at 1")
        self.name, self.version, self.partitions = name, version, partitions
        self.made_with = dict(made_with or {})
        self.metadata = MetaData()
        self.tables: dict[Table, ReadTable] = {}
        self.handlers: dict[str, Applies[Any]] = {}
        self.keys: dict[str, str] = {}
        self._views: dict[str, Table] = {}

    def table(
        self,
        name: str,
        *items: SchemaItem,
        comment: str,
        computed: Mapping[str, tuple[str, str]] | None = None,
        view: bool = True,
        since: int | None = None,
    ) -> Table:
        """Declare a table `read_models.<name>_v<version>`, and the view `views.<name>` of the same columns over it.

        Args:
            name: of the view.
            items: columns, each with a `comment`, at least one with `primary_key`; indexes if need be.
            comment: what a row is.
            computed: further columns of the view: name → (SQL expression over the columns, comment).
            view: False keeps the table to the projection.
            since: the version from which on its rows mean the same; this one, when not given. A build is to have the
                same rows as what is served, unless that is of an older version: then differences are only reported.

        Returns:
            the table, to name it in handlers.

        Raises:
            TypeError: a comment or the key is missing, or the name is taken.
        """
        if any(known.name == name for known in self.tables.values()):
            raise TypeError(f"Projection {self.name!r} has a table {name!r} already")
        declared = ReadTable(
            self.name,
            self.version,
            self.metadata,
            name,
            items,
            comment=comment,
            computed=computed or {},
            view=view,
            since=since,
        )
        self.tables[declared.table] = declared
        if view:
            columns = [Column(c.name, c.type, primary_key=c.primary_key, nullable=c.nullable) for c in declared.columns]
            extra = [Column(column, NullType()) for column in declared.computed]
            self._views[name] = Table(name, MetaData(), *columns, *extra, schema="views")
        return declared.table

    def view(self, name: str) -> Table:
        """The view of a table, to write queries on.

        Raises:
            TypeError: the projection has no such view.
        """
        try:
            return self._views[name]
        except KeyError:
            raise TypeError(f"Projection {self.name!r} has no view {name!r}, only {', '.join(self._views)}") from None

    def on(self, event: type[E], *, key: str | None = None) -> Callable[[Applies[E]], Applies[E]]:
        """Declare what an event does: the function gets event, record and rows, and touches nothing but the rows.

        Args:
            event: the class; at most one function for each.
            key: the field of the event that says whose rows it touches; the event's stream, when not given. When an
                event of a key can't be applied, later ones of that key wait, and those of other keys go on: so events
                that touch the same rows are to have the same key.

        Raises:
            TypeError: the event has a function already, or no name, or no such field.
        """
        if key is not None and key not in event.model_fields:
            raise TypeError(f"Projection {self.name!r}: {event.__qualname__} has no field {key!r} to be its key")

        def register(handler: Applies[E]) -> Applies[E]:
            handle(f"Projection {self.name!r}", self.handlers, event, handler)
            if key is not None:
                self.keys[event.message_name] = key
            return handler

        return register

    def key_of(self, row: Row) -> str:
        """Whose rows an event touches, as text; also of one that can't be read.

        Args:
            row: as stored; an old version that lacks the field is brought up first.
        """
        name = self.keys.get(row.name)
        if name is None:
            return row.stream
        data = from_json(row.data)
        value = data.get(name) if isinstance(data, dict) else None
        if value is None:
            try:
                value = row.recorded().event.model_dump(mode="json", include={name})[name]
            except Exception:  # an upcaster may fail in any way; then nobody can tell the key
                return row.stream
        return value if isinstance(value, str) else to_json(value).decode()

    def takes(self, row: Row, partition: int) -> bool:
        """Whether an event is one of a partition's, and handled at all.

        Args:
            row: the event.
            partition: which, from 0.
        """
        if row.name not in self.handlers:
            return False
        return self.partitions == 1 or crc32(self.key_of(row).encode()) % self.partitions == partition

    def rows(self) -> Rows:
        """Rows to fold a batch into."""
        return Rows(self.name, self.tables)

    def install(self, connection: Connection) -> None:
        """Create what the database lacks: tables, views, comments, grants, checkpoint.

        Where the views show another version, they go on doing so until this one is built.

        Args:
            connection: of the schema's owner, in a transaction, under the lock that `amends.schema.migrate` takes.

        Raises:
            Incompatible: a view would lose, retype or move a column.
            ProjectionError: a table of this version is there in another shape.
        """
        from amends.installation import install

        install(connection, self)
