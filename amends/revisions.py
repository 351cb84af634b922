"""Which schema a database has, and which this code needs; whoever connects may ask, whatever its role.

`amends migrate` leaves the revision as a comment, since comments are open to every role and the tables are not.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from amends.errors import SchemaTooNew, SchemaTooOld

__all__ = ["FOLDER", "FOUND", "MARK", "head", "known", "refuse_newer", "refuse_other"]

FOLDER = Path(__file__).parent / "migrations" / "versions"
"""Where the revisions are, each a Python file that begins with its number."""

MARK = "comment on table amends.alembic_version is 'The schema is at revision {}'"
"""Leave the revision where everybody can read it; told by `amends.schema.migrate`."""

FOUND = """
select substring(d.description from '[0-9]{4}$')
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_description d
    on d.objoid = c.oid and d.classoid = 'pg_catalog.pg_class'::regclass and d.objsubid = 0
where n.nspname = 'amends' and c.relname = 'alembic_version'
"""
"""The revision of a database, by its comment: null where code wrote it that left none, no row where nothing is."""


@cache
def known() -> tuple[str, ...]:
    """The revisions that this code has, oldest first."""
    return tuple(sorted(path.name[:4] for path in FOLDER.glob("[0-9][0-9][0-9][0-9]_*.py")))


def head() -> str:
    """The revision that this code needs."""
    return known()[-1]


def refuse_newer(found: str | None, where: str) -> None:
    """See that this code knows the schema of a database.

    Args:
        found: its revision; None where it has none, or code migrated it that left none to read.
        where: the database, for people.

    Raises:
        SchemaTooNew: it does not.
    """
    if found is not None and found not in known():
        raise SchemaTooNew(
            f"The schema of {where} is at revision {found}, and this code knows revisions up to {head()}: newer code "
            "has migrated it. Deploy that code here, too; a schema is not taken back"
        )


def refuse_other(found: str | None, where: str) -> None:
    """See that a database has the schema that this code needs; arguments as for `refuse_newer`.

    Raises:
        SchemaTooNew: newer code has migrated it.
        SchemaTooOld: it lacks revisions, or all of them.
    """
    refuse_newer(found, where)
    if found != head():
        stands = "not made yet, or by older code" if found is None else f"at revision {found}"
        raise SchemaTooOld(
            f"The schema of {where} is {stands}, and this code needs revision {head()}. Run `amends migrate` "
            "there, then start this again"
        )
