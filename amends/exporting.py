"""Writes the whole log as JSON lines: one consistent picture, from which an empty database becomes the same again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, BinaryIO

from psycopg import Connection, IsolationLevel, sql
from pydantic_core import to_json

__all__ = ["DERIVED", "FORMAT", "TABLES", "export_log"]

FORMAT = 1
"""Version of the file's format."""

TABLES: dict[str, tuple[str, ...]] = {
    "events": ("xid", "position"),
    "commands": ("number",),
    "claims": ("scope", "hash"),
    "personal_keys": ("subject",),
    "fences": ("saga",),
    "import_rows": ("source", "kind", "key"),
    "watermarks": ("source", "name"),
    "dead_letters": ("projection", "version", "xid", "position"),
}
"""What is written, each in the order of these columns; that of the events is the feed's."""

DERIVED = {
    "streams",
    "snapshots",
    "checkpoints",
    "generations",
    "projection_log",
    "alembic_version",
}
"""What follows from the rest or is about this database: heads of streams, short cuts, builds of read models, schema."""

LETTERS = """
(select distinct on (projection, version, xid, position) projection, version, partition, key, xid, position, stream,
        event, error, attempts, case state when 'skipped' then state else 'parked' end as state, actor, reason,
        parked_at, settled_at
 from amends.dead_letters where state = 'skipped' or error is not null
 order by projection, version, xid, position, state = 'skipped' desc, generation)
"""
"""What somebody left out for good, and what is known to fail; the others are found again. Whichever build it was."""

COLUMNS = """
select a.attname from pg_attribute a where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""
"""The columns of a table."""

SOME = "select * from {} t limit 0"
"""Which columns are written of a table."""

COUNT = "select count(*) from {} t"
"""How many rows a table has."""

TRANSACTIONS = """
select 1 + count(*) from (
    select e.position < lag(e.position) over (order by e.xid, e.position) as falls from amends.events e
) as steps where falls
"""
"""How many transaction ids it takes to keep the feed's order, in which positions may fall between two transactions."""

MANAGERS = "select projection, xid::text, position from amends.checkpoints where projection = any(%s) order by 1"
"""How far the process managers have reacted."""

SCHEMA = "select version_num from amends.alembic_version"
"""Which migration the database is at."""

# no value holds a control character, so a line of such a CSV is the JSON as it is
ROWS = """
copy (select jsonb_build_object('table', {name}, 'row', to_jsonb(t)) from {table} t order by {order})
to stdout (format csv, quote e'\\x01', delimiter e'\\x02')
"""
"""A table as JSON, one row a line."""


def export_log(
    connection: Connection[Any],
    file: BinaryIO,
    managers: Collection[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:
    """Write the log.

    Args:
        connection: of the schema's owner, with no transaction open.
        file: where to; it will hold personal data.
        managers: names of the process managers, whose progress belongs to the log: it says what was reacted to.
        progress: told how many rows are written, of how many.

    Returns:
        rows written, by table.
    """
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    with connection.transaction():
        tables = {name: _described(connection, name) for name in TABLES}
        reacted = connection.execute(MANAGERS, (list(managers),)).fetchall()
        header = {
            "amends": "log",
            "format": FORMAT,
            "schema": _value(connection, SCHEMA),
            "transactions": _value(connection, TRANSACTIONS),
            "tables": tables,
            "managers": [{"name": name, "xid": xid, "position": position} for name, xid, position in reacted],
        }
        file.write(to_json(header) + b"\n")
        done, total = 0, sum(table["rows"] for table in tables.values())
        for name, order in TABLES.items():
            columns = sql.SQL(", ").join(sql.SQL("t.{}").format(sql.Identifier(column)) for column in order)
            rows = sql.SQL(ROWS).format(name=sql.Literal(name), table=_source(name), order=columns)
            with connection.cursor() as cursor, cursor.copy(rows) as copy:
                for block in copy:
                    file.write(block)
                    done += bytes(block).count(b"\n")
                    progress(done, total)
    return {name: table["rows"] for name, table in tables.items()}


def _source(name: str) -> sql.Composable:
    return sql.SQL(LETTERS) if name == "dead_letters" else sql.Identifier("amends", name)


def _described(connection: Connection[Any], name: str) -> dict[str, Any]:
    described = connection.execute(sql.SQL(SOME).format(_source(name))).description or ()
    rows = _value(connection, sql.SQL(COUNT).format(_source(name)))
    return {"columns": [column.name for column in described], "rows": rows}


def _value(connection: Connection[Any], query: Any) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]
