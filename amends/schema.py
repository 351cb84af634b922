"""Brings a database to the schema this code needs; safe to run by many processes at once, and again."""

from __future__ import annotations

from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, NullPool, create_engine, text

from amends.database import conninfo
from amends.revisions import MARK, head, refuse_newer

__all__ = ["migrate", "owner_engine", "owns_schema"]

_LOCK = text("select pg_advisory_lock(hashtext('amends.migrate'))")
"""One migration at a time: the others wait, then find nothing to do."""

_SCHEMA = text("create schema if not exists amends")
"""Home of Alembic's own version table, so it must be there before the first revision."""

_MIGRATED = text("select to_regclass('amends.alembic_version') is not null")
"""Whether anything was migrated here before."""

_REVISION = text("select version_num from amends.alembic_version")
"""How far."""

_WHERE = text("select 'database ' || current_database()")
"""Which database it is, for people."""


_OWNS = text("""
select pg_has_role(nspowner, 'usage') from pg_namespace where nspname = 'read_models'
""")
"""Whether this login may do what the owner of the read models' tables may."""


def owns_schema(url: str) -> bool:
    """Whether a login may change the schema.

    Args:
        url: of a database that has been migrated.
    """
    with owner_engine(url).connect() as connection:
        return connection.execute(_OWNS).scalar() is True


def owner_engine(url: str) -> Engine:
    """A SQLAlchemy engine that acts as the schema's owner; for set-up, not for traffic."""
    arguments = conninfo_to_dict(conninfo(url, "owner"))
    return create_engine("postgresql+psycopg://", connect_args=arguments, poolclass=NullPool)


def migrate(connection: Connection, to: str | None = None) -> None:
    """Run every revision that this database has not seen, in the connection's transaction.

    Args:
        connection: of the schema's owner, who may create roles.
        to: the revision to stop at; the last when not given.

    Raises:
        SchemaTooNew: newer code has migrated it.
        DowngradeRefused: it is beyond that revision.
    """
    # here, for it takes a tenth of what importing a worker does, and only who migrates needs it
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "amends:migrations")
    config.attributes["connection"] = connection
    connection.execute(_LOCK)
    connection.execute(_SCHEMA)
    if connection.execute(_MIGRATED).scalar_one():
        refuse_newer(connection.execute(_REVISION).scalar_one_or_none(), connection.execute(_WHERE).scalar_one())
    command.upgrade(config, to or "head")
    connection.execute(text(MARK.format(to or head())))
