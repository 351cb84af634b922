"""A database's schema as text: every table, column, constraint, index, view, function, trigger and grant, in order."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

__all__ = ["describe", "same_schema"]

SCHEMAS = "('amends', 'views', 'read_models')"
"""What the migrations make."""

SERVER = "select 'PostgreSQL ' || current_setting('server_version_num')::integer / 10000"
"""Which server says so: how it writes the text of a view is its own affair."""

GRANTED = "(select string_agg(x.told, '; ' order by x.told) from ({}) x)"

GRANTS = """
select coalesce(r.rolname, 'public') || ': '
       || string_agg(lower(a.privilege_type), ', ' order by a.privilege_type) as told
from aclexplode({acl}) a left join pg_roles r on r.oid = a.grantee
where a.grantee <> {owner} group by r.rolname
"""


def _granted(acl: str, kind: str, owner: str) -> str:
    """SQL: who else than the owner may do what, by role."""
    return GRANTED.format(GRANTS.format(acl=f"coalesce({acl}, acldefault('{kind}', {owner}))", owner=owner))


ENTRIES = f"""
select 'schema ' || n.nspname, concat_ws(e'\\n', obj_description(n.oid, 'pg_namespace'),
       'granted to ' || {_granted("n.nspacl", "n", "n.nspowner")})
from pg_namespace n where n.nspname in {SCHEMAS}
union all
select case c.relkind when 'S' then 'sequence ' when 'v' then 'view ' else 'table ' end
       || n.nspname || '.' || c.relname,
       concat_ws(e'\\n', 'with ' || array_to_string(c.reloptions, ', '),
                 'granted to ' || {_granted("c.relacl", "r", "c.relowner")})
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname in {SCHEMAS} and c.relkind in ('r', 'p', 'v', 'm', 'S') and c.relname <> 'alembic_version'
union all
select 'column ' || n.nspname || '.' || c.relname || ' ' || lpad(a.attnum::text, 3, '0') || ' ' || a.attname,
       concat_ws(' ', format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end,
                 case a.attidentity when 'a' then 'identity always' when 'd' then 'identity' end,
                 'default ' || pg_get_expr(d.adbin, d.adrelid))
from pg_attribute a
join pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p', 'v', 'm')
join pg_namespace n on n.oid = c.relnamespace
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where n.nspname in {SCHEMAS} and a.attnum > 0 and not a.attisdropped and c.relname <> 'alembic_version'
union all
select 'column grant ' || n.nspname || '.' || c.relname || '.' || a.attname,
       {_granted("a.attacl", "c", "c.relowner")}
from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname in {SCHEMAS} and a.attacl is not null
union all
select 'constraint ' || o.conrelid::regclass || ' ' || o.conname, pg_get_constraintdef(o.oid)
from pg_constraint o join pg_namespace n on n.oid = o.connamespace
join pg_class c on c.oid = o.conrelid
where n.nspname in {SCHEMAS} and o.contype <> 'n' and c.relname <> 'alembic_version'
union all
select 'index ' || schemaname || '.' || indexname, indexdef
from pg_indexes where schemaname in {SCHEMAS} and tablename <> 'alembic_version'
union all
select 'trigger ' || t.tgrelid::regclass || ' ' || t.tgname, pg_get_triggerdef(t.oid)
from pg_trigger t where not t.tgisinternal
union all
select 'function ' || p.oid::regprocedure, concat_ws(e'\\n', pg_get_functiondef(p.oid),
       'granted to ' || {_granted("p.proacl", "f", "p.proowner")})
from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname in {SCHEMAS}
union all
select 'text of view ' || n.nspname || '.' || c.relname, pg_get_viewdef(c.oid)
from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname in {SCHEMAS} and c.relkind in ('v', 'm')
union all
select 'comment ' || n.nspname || '.' || c.relname || coalesce('.' || a.attname, ''), d.description
from pg_description d
join pg_class c on c.oid = d.objoid and d.classoid = 'pg_class'::regclass and c.relname <> 'alembic_version'
join pg_namespace n on n.oid = c.relnamespace
left join pg_attribute a on a.attrelid = c.oid and a.attnum = d.objsubid and d.objsubid > 0
where n.nspname in {SCHEMAS}
"""
"""Everything that the migrations have made, an entry each: what it is, and how."""

VIEWS = "text of view "
"""How the entries begin that depend on the server's version."""


def describe(connection: Connection[Any]) -> str:
    """The schema of a database, the same text for the same schema.

    Args:
        connection: of the schema's owner.
    """
    server = connection.execute(SERVER).fetchone()
    assert server is not None
    entries = sorted(connection.execute(ENTRIES.encode()).fetchall())
    return "".join(f"{part}\n" for part in [f"-- {server[0]}", *(_entry(what, how) for what, how in entries)])


def same_schema(one: str, other: str) -> bool:
    """Whether two descriptions are of the same schema; texts of views count where the same server wrote both."""
    if one.splitlines()[:1] == other.splitlines()[:1]:
        return one == other
    return _without_views(one) == _without_views(other)


def _entry(what: str, how: str | None) -> str:
    lines = [line.rstrip() for line in (how or "").splitlines() if line.strip()]
    return "\n".join([what, *(f"    {line}" for line in lines)])


def _without_views(text: str) -> list[str]:
    kept, within = list[str](), False
    for line in text.splitlines()[1:]:
        within = line.startswith(VIEWS) or (within and line.startswith(" "))
        if not within:
            kept.append(line)
    return kept
