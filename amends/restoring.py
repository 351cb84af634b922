"""Makes an empty database what an exported log says: the same events in the same order, nothing reacted to twice.

Events keep their ids, positions and times, but not their transaction ids, which mean nothing in another cluster. They
get past ones of the new cluster instead: as few as keep the feed's order, which is (transaction, position). All of it
is one transaction: it is there as a whole, or the database is as empty as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from psycopg import Connection, sql
from psycopg import errors as pg
from pydantic import ValidationError
from pydantic_core import from_json

from amends.errors import InvalidInput
from amends.exporting import COLUMNS, FORMAT, TABLES
from amends.notify import EVENTS, NOTIFY
from amends.process_manager import ProcessManager
from amends.transactions import let_pass
from amends.values import Value, problems_of

__all__ = ["restore_log"]

ALONE = "lock table amends.events, amends.commands in exclusive mode"
"""Nobody appends meanwhile."""

EMPTY = "select not exists (select from {})"
"""Whether a table has no rows."""

XID = "select pg_current_xact_id()::text::bigint"
"""This transaction's id; outside of one, an id that is used up."""

STAGE = "create temp table amends_lines (line jsonb not null) on commit drop"
"""Where the file's lines are put."""

FILL = "copy amends_lines from stdin (format csv, quote e'\\x01', delimiter e'\\x02')"
"""The file's lines, as they are."""

PLACE = """
create temp table amends_placed on commit drop as
select position, old, row, {first} + count(*) filter (where falls) over (order by old, position) as xid
from (
    select position, old, row, position < lag(position) over (order by old, position) as falls
    from (select (line #>> '{{row,position}}')::bigint as position, (line #>> '{{row,xid}}')::bigint as old,
                 line -> 'row' as row
          from amends_lines where line ->> 'table' = 'events') as events
) as steps
"""
"""Events with their new transaction ids: another one wherever the position falls, for order within one is by it."""

EVENTS_BACK = """
insert into amends.events ({columns}) overriding system value
select {values} from amends_placed p,
     jsonb_populate_record(null::amends.events, p.row || jsonb_build_object('xid', p.xid::text)) r
order by p.xid, p.position
"""
"""The events, in the feed's order."""

STREAMS_BACK = """
insert into amends.streams (stream, version, xid)
select distinct on (stream) stream, version, xid from amends.events order by stream, version desc
"""
"""The head of each stream."""

COMMANDS_BACK = """
insert into amends.commands ({columns}) overriding system value
select {values} from amends_lines l
left join amends_placed p on p.position = (l.line #>> '{{row,position}}')::bigint,
jsonb_populate_record(null::amends.commands, l.line -> 'row' || jsonb_build_object('xid', coalesce(p.xid, 0)::text)) r
where l.line ->> 'table' = 'commands' order by (l.line #>> '{{row,number}}')::bigint
"""
"""The commands; each refers to its events by where they are now."""

ROWS_BACK = """
insert into {table} ({columns})
select {values} from amends_lines l, jsonb_populate_record(null::{table}, l.line -> 'row') r
where l.line ->> 'table' = {name}
"""
"""The rows of another table, as they were."""

LETTERS_BACK = """
insert into amends.dead_letters ({columns}, generation)
select {values}, 0 from amends_lines l
join amends_placed p on p.position = (l.line #>> '{{row,position}}')::bigint,
jsonb_populate_record(null::amends.dead_letters, l.line -> 'row' || jsonb_build_object('xid', p.xid::text)) r
where l.line ->> 'table' = 'dead_letters'
"""
"""What is known from builds elsewhere: generation 0, from which those that are made here take over what was skipped."""

REACTED = """
update amends.checkpoints c set xid = coalesce(p.xid, 0)::text::xid8, position = coalesce(p.position, 0)
from (values (1)) as one left join (
    select xid, position from amends_placed where (old, position) <= (%s, %s) order by old desc, position desc limit 1
) p on true
where c.projection = %s
"""
"""A process manager has reacted as far as it had."""

REACTED_TO_ALL = """
update amends.checkpoints c set xid = p.xid::text::xid8, position = p.position
from (select xid, position from amends_placed order by old desc, position desc limit 1) p
where c.projection = %s
"""
"""What happened before a process manager was there is none of its business."""

STATEMENTS = {"events": EVENTS_BACK, "commands": COMMANDS_BACK, "dead_letters": LETTERS_BACK}
"""What puts the rows of a table back that refer to transactions."""

NEXT = "select setval(pg_get_serial_sequence(%s, %s), greatest(1, (select max({}) from {})))"
"""Numbers go on where they were."""

ANALYZE = "analyze amends.events, amends.commands, amends.streams, amends.claims"
"""Tell the planner how large the tables are now."""

BLOCK = 2**18
"""Bytes of the file that are sent at a time."""


class _Table(Value):
    columns: tuple[str, ...]
    rows: int


class _Manager(Value):
    name: str
    xid: int
    position: int


class _Header(Value):
    amends: str
    format: int
    schema_: str
    transactions: int
    tables: dict[str, _Table]
    managers: tuple[_Manager, ...]


def restore_log(
    connection: Connection[Any],
    file: BinaryIO,
    managers: Sequence[ProcessManager],
    progress: Callable[[int, str], None] = lambda done, told: None,
) -> dict[str, int]:
    """Put an exported log into an empty database.

    Args:
        connection: of the schema's owner, in autocommit; the schema is up to date.
        file: as `export_log` wrote it.
        managers: the process managers that are installed; one that the file does not know begins after the log.
        progress: told how many bytes are read, and what is being done.

    Returns:
        rows restored, by table.

    Raises:
        InvalidInput: the database is not empty, or the file is not a whole log that fits this schema.
    """
    header = _header(file.readline())
    _fits(connection, header)
    _let_pass(connection, header.transactions)
    with connection.transaction():
        connection.execute(ALONE)
        for name in TABLES:
            if not _value(connection, sql.SQL(EMPTY).format(sql.Identifier("amends", name))):
                raise InvalidInput({"database": f"is not empty: amends.{name} has rows; restore into a new one"})
        connection.execute(STAGE)
        _stage(connection, file, progress)
        _put_back(connection, header, lambda told: progress(file.tell(), told))
        known = {manager.name for manager in header.managers}
        for reacted in header.managers:
            connection.execute(REACTED, (reacted.xid, reacted.position, reacted.name))
        for manager in managers:
            if manager.name not in known and manager.since == "now":
                connection.execute(REACTED_TO_ALL, (manager.name,))
    connection.execute(ANALYZE)
    connection.execute(NOTIFY, (EVENTS, "restored"))
    return {name: table.rows for name, table in header.tables.items()}


def _header(line: bytes) -> _Header:
    try:
        data = from_json(line)
        if not isinstance(data, dict) or data.get("amends") != "log":
            raise ValueError
        data["schema_"] = data.pop("schema", None)
        header = _Header.model_validate(data)
    except ValidationError as error:
        raise InvalidInput({f"header.{field}": told for field, told in problems_of(error).items()}) from None
    except ValueError:
        raise InvalidInput({"file": "its first line is not the header of an exported log"}) from None
    if header.format != FORMAT:
        raise InvalidInput({"format": f"the file's is {header.format}; this code reads {FORMAT}"})
    return header


def _fits(connection: Connection[Any], header: _Header) -> None:
    """Whether this schema has room for all that the file holds; what it lacks gets its default."""
    for name, table in header.tables.items():
        here = {column for (column,) in connection.execute(COLUMNS, (f"amends.{name}",))} if name in TABLES else set()
        missing = [column for column in table.columns if column not in here]
        if missing:
            told = f"the file, of schema {header.schema_}, has {', '.join(missing)} in {name}, which this one has not"
            raise InvalidInput({"schema": f"{told}; deploy the newer code and run `amends migrate` first"})


def _let_pass(connection: Connection[Any], needed: int) -> None:
    """See to it that there are so many past transaction ids: a fresh cluster has not had as many as a long log."""
    let_pass(connection, needed + 1 - _value(connection, XID))


def _stage(connection: Connection[Any], file: BinaryIO, progress: Callable[[int, str], None]) -> None:
    try:
        with connection.cursor() as cursor, cursor.copy(FILL) as copy:
            while block := file.read(BLOCK):
                copy.write(block)
                progress(file.tell(), "reading")
    except pg.DataError as error:
        where = (error.diag.context or "").partition("line ")[2].partition(",")[0].partition(":")[0]
        told = f"line {int(where) + 1} of it" if where.isdecimal() else "a line of it"
        raise InvalidInput(
            {"file": f"{told} is no JSON: {error.diag.message_primary}; it was changed or cut off"}
        ) from None


def _put_back(connection: Connection[Any], header: _Header, told: Callable[[str], None]) -> None:
    told("putting events in order")
    first = _value(connection, XID) - header.transactions
    connection.execute(sql.SQL(PLACE).format(first=sql.Literal(first)))
    for name, table in header.tables.items():
        told(f"writing {name}")
        known = {
            "table": sql.Identifier("amends", name),
            "name": sql.Literal(name),
            "columns": sql.SQL(", ").join(map(sql.Identifier, table.columns)),
            "values": sql.SQL(", ").join(sql.SQL("r.{}").format(sql.Identifier(column)) for column in table.columns),
        }
        statement = STATEMENTS.get(name, ROWS_BACK)
        try:
            done = connection.execute(sql.SQL(statement).format(**known)).rowcount
        except (pg.DataError, pg.IntegrityError) as error:
            raise InvalidInput(
                {"file": f"its {name} are not as they were exported: {error.diag.message_primary}"}
            ) from None
        if done != table.rows:
            raise InvalidInput(
                {"file": f"has {done} of the {table.rows} {name} that its header tells of; it was cut off"}
            )
    connection.execute(STREAMS_BACK)
    for name, column in (("events", "position"), ("commands", "number")):
        query = sql.SQL(NEXT).format(sql.Identifier(column), sql.Identifier("amends", name))
        connection.execute(query, (f"amends.{name}", column))


def _value(connection: Connection[Any], query: Any) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]
