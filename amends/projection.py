"""Declares a projection: its tables, the views people see, and what each event does to the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Column, MetaData, Table
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import NullType

from amends.changes import Rows
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
    """

    def __init__(self, name: str, *, version: int) -> None:
        self.name, self.version = name, version
        self.metadata = MetaData()
        self.tables: dict[Table, ReadTable] = {}
        self.handlers: dict[str, Applies[Any]] = {}
        self._views: dict[str, Table] = {}

    def table(
        self,
        name: str,
        *items: SchemaItem,
        comment: str,
        computed: Mapping[str, tuple[str, str]] | None = None,
        view: bool = True,
    ) -> Table:
        """Declare a table `read_models.<name>_v<version>`, and the view `views.<name>` of the same columns over it.

        Args:
            name: of the view.
            items: columns, each with a `comment`, at least one with `primary_key`; indexes if need be.
            comment: what a row is.
            computed: further columns of the view: name → (SQL expression over the columns, comment).
            view: False keeps the table to the projection.

        Returns:
            the table, to name it in handlers.

        Raises:
            TypeError: a comment or the key is missing, or the name is taken.
        """
        if any(known.name == name for known in self.tables.values()):
            raise TypeError(f"Projection {self.name!r} has a table {name!r} already")
        declared = ReadTable(
            self.name, self.version, self.metadata, name, items, comment=comment, computed=computed or {}, view=view
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

    def on(self, event: type[E]) -> Callable[[Applies[E]], Applies[E]]:
        """Declare what an event does: the function gets event, record and rows, and touches nothing but the rows.

        Args:
            event: the class; at most one function for each.

        Raises:
            TypeError: the event has a function already, or no name.
        """

        def register(handler: Applies[E]) -> Applies[E]:
            handle(f"Projection {self.name!r}", self.handlers, event, handler)
            return handler

        return register

    def rows(self) -> Rows:
        """Rows to fold a batch into."""
        return Rows(self.name, self.tables)

    def install(self, connection: Connection) -> None:
        """Create what the database lacks: tables, views, comments, grants, checkpoint.

        While the views show another version, they go on doing so until `publish`.

        Args:
            connection: of the schema's owner, in a transaction, under the lock that `amends.schema.migrate` takes.

        Raises:
            ProjectionError: a table of this version is there in another shape.
        """
        from amends.installation import install

        install(connection, self.name, self.version, self.metadata, self.tables.values())

    def publish(self, connection: Connection) -> None:
        """Let the views show this version.

        Args:
            connection: of the schema's owner, in a transaction.

        Raises:
            ProjectionError: something else is built upon a view whose columns change.
        """
        from amends.installation import publish

        publish(connection, self.tables.values())
