"""Who may do what in a database, as text to keep and to read: one line for each thing, from the catalog itself.

`python -m tests.edges.matrix DATABASE_URL > tests/edges/privileges.txt` writes it anew, from a database that
`amends migrate` has made.
"""

from __future__ import annotations

import re
import sys
from typing import Any, NamedTuple

import psycopg

__all__ = ["ROLES", "Thing", "matrix", "things"]

ROLES = ("amends_writer", "amends_projector", "amends_reader", "amends_client")

SCHEMAS = "select oid from pg_namespace where nspname !~ '^pg_' and nspname not in ('information_schema', 'public')"

THINGS = f"""
select case c.relkind when 'S' then 'sequence' when 'v' then 'view' else 'table' end as sort, c.oid::regclass::text,
       array(select r || ':' || p from unnest(%(roles)s::text[]) r, unnest(case c.relkind
             when 'S' then array['usage', 'select', 'update']
             else array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger'] end) p
             where case c.relkind when 'S' then has_sequence_privilege(r, c.oid, p)
                                  else has_table_privilege(r, c.oid, p) end)
from pg_class c where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.relnamespace in ({SCHEMAS})
union all
select 'function', p.oid::regprocedure::text,
       array(select r || ':execute' from unnest(%(roles)s::text[]) r where has_function_privilege(r, p.oid, 'execute'))
from pg_proc p where p.pronamespace in ({SCHEMAS})
union all
select 'schema', n.nspname,
       array(select r || ':' || p from unnest(%(roles)s::text[]) r, unnest(array['usage', 'create']) p
             where has_schema_privilege(r, n.oid, p))
from pg_namespace n where n.oid in ({SCHEMAS}) or n.nspname = 'public'
order by 1, 2
"""
"""Every schema, table, view, sequence and function, with what each role may do to it."""


class Thing(NamedTuple):
    """Something in a database, and what each role may do to it."""

    sort: str
    name: str
    may: dict[str, tuple[str, ...]]


def things(connection: psycopg.Connection[Any]) -> list[Thing]:
    """Everything that there is."""
    found = []
    connection.execute("set search_path to ''")  # names then say their schema
    for sort, name, granted in connection.execute(THINGS, {"roles": [*ROLES, "public"]}).fetchall():
        pairs = [each.split(":") for each in granted]
        may = {role: tuple(what for who, what in pairs if who == role) for role in (*ROLES, "public")}
        found.append(Thing(sort, name, may))
    return found


def matrix(connection: psycopg.Connection[Any]) -> str:
    """All of it as text; a read model's table without its version, which says nothing about who may write it."""
    lines = {}
    for thing in things(connection):
        name = re.sub(r"_v\d+(_g\d+)?$", "_v*", thing.name) if thing.name.startswith("read_models.") else thing.name
        # what everybody may do, each role may; it is told once, and never happens where things are as they should be
        told = [
            f"{role.removeprefix('amends_')}: {' '.join(granted)}" for role, granted in thing.may.items() if granted
        ]
        lines[f"{thing.sort:<8} {name}"] = "; ".join(told) or "nobody but the owner"
    return "".join(f"{what}\n    {who}\n" for what, who in lines.items())


if __name__ == "__main__":
    with psycopg.connect(sys.argv[1]) as asked:
        sys.stdout.write(matrix(asked))
