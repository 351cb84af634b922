"""Puts a projection's tables, views, comments, grants and checkpoints into the database; again and again if need be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import structlog
from psycopg import Connection, sql
from psycopg.types.json import Jsonb
from sqlalchemy import Connection as OwnerConnection
from sqlalchemy.schema import CreateIndex, CreateTable, SetColumnComment, SetTableComment

from amends.errors import Incompatible, ProjectionError
from amends.merging import DIALECT
from amends.public_views import check, show, spec_of
from amends.read_tables import ReadTable

if TYPE_CHECKING:
    from amends.projection import Projection

__all__ = ["LOCK", "NOTE", "SHOWN", "begin_build", "discard", "install"]

log = structlog.get_logger("amends.projections")

LOCK = "select pg_advisory_xact_lock(hashtext('amends.projection'), hashtext(%s))"
"""One at a time sets up, swaps or drops a projection's builds."""

WITH_ROLE = """
select version, generation from amends.checkpoints where projection = %s and role = %s and partition = 0
"""
"""The build that is served, or the one that is under way."""

LATEST = "select max(generation) from amends.checkpoints where projection = %s and version = %s"
"""The latest build of a version, if there is any."""

CHECKPOINTS = """
insert into amends.checkpoints (projection, version, generation, partition, role, throttle)
select %s, %s, %s, n, %s, %s from generate_series(0, %s - 1) n
"""
"""Start a build at the beginning of the feed."""

GENERATION = """
insert into amends.generations (projection, version, generation, partitions, made_with, tables, views, served_at)
values (%s, %s, %s, %s, %s, %s, %s, case when %s then clock_timestamp() end)
on conflict (projection, version, generation) do update set tables = excluded.tables, views = excluded.views
"""
"""Keep what a build consists of."""

PARTITIONS = "select count(*) from amends.checkpoints where projection = %s and version = %s and generation = %s"
"""How many followers share a build."""

TABLES = "select tables from amends.generations where projection = %s and version = %s and generation = %s"
"""What a build consists of."""

VIEWS = "select views from amends.generations where projection = %s and version = %s and generation = %s"
"""What the views show of a build."""

FORGET = """
with letters as (delete from amends.dead_letters where projection = %(p)s and version = %(v)s and generation = %(g)s),
     kept as (delete from amends.generations where projection = %(p)s and version = %(v)s and generation = %(g)s)
delete from amends.checkpoints where projection = %(p)s and version = %(v)s and generation = %(g)s
"""
"""Forget a build."""

NOTE = """
insert into amends.projection_log (projection, version, generation, action, actor, reason, detail)
values (%s, %s, %s, %s, %s, %s, %s)
"""
"""Record what was done, by whom and why."""

MADE_WITH = "select made_with from amends.generations where projection = %s and version = %s and generation = %s"
"""The settings that a build's rows were made with."""

LAST_WORD = """
select action from amends.projection_log
where projection = %s and version = %s and action in ('build', 'swap', 'cancel', 'rollback')
order by number desc limit 1
"""
"""What was last done about a version: somebody may have decided against it."""

THERE = "select to_regclass(%s) is not null"
"""Whether there is such a table."""

SHAPE = """
select a.attname, a.atttypid = %s::regtype::oid
from pg_attribute a where a.attrelid = %s::regclass and a.attname = %s and not a.attisdropped
"""
"""Whether a table has a column, and whether it is of the declared type."""

SHOWN = """
select t.relname from pg_depend d
join pg_rewrite r on r.oid = d.objid
join pg_class t on t.oid = d.refobjid and t.relnamespace = 'read_models'::regnamespace
where d.classid = 'pg_rewrite'::regclass and r.ev_class = to_regclass(%s) limit 1
"""
"""Which table a view shows."""

ADOPT = """
update amends.checkpoints set role = 'served' where projection = %s and version = %s and generation = 1
  and not exists (select from amends.checkpoints c where c.projection = checkpoints.projection and c.role = 'served')
"""
"""Mark what a database from before there were builds shows."""

MAY_WRITE = "grant select, insert, update, delete on {} to amends_projector"
"""The projector writes the tables."""


def install(connection: OwnerConnection, projection: Projection) -> None:
    """Create what is missing. Where nothing is served yet, this version is at once; a raised one begins its build.

    Args:
        connection: of the schema's owner, in a transaction.
        projection: what to install.

    Raises:
        Incompatible: a view would lose or retype a column.
        ProjectionError: a table of this version is there in another shape.
    """
    driver = _driver(connection)
    driver.execute(LOCK, (projection.name,))
    _adopt(driver, projection)
    served = driver.execute(WITH_ROLE, (projection.name, "served")).fetchone()
    if served is None:
        _create(driver, projection, 1, "served", None)
        for table in projection.tables.values():
            if table.view:
                show(driver, spec_of(table, 1))
        return
    version, generation = served
    if version == projection.version:
        _renew(driver, projection, generation)
    elif version < projection.version:
        begin_build(
            connection, projection, "amends", f"version raised from {version} to {projection.version}", auto=True
        )
    else:
        log.warning("code_older_than_views", projection=projection.name, code=projection.version, views=version)


def begin_build(
    connection: OwnerConnection,
    projection: Projection,
    actor: str,
    reason: str,
    *,
    auto: bool = False,
    fresh: bool = False,
    throttle: float | None = None,
) -> int | None:
    """Make room for a build beside the one that is served, or find the one that is under way.

    Args:
        connection: of the schema's owner, in a transaction.
        projection: what to build.
        actor: who wants it.
        reason: why.
        auto: nobody asked for it, so it begins only for a higher version or for other settings than what is served was
            made with, and not where somebody's last word about the version was to roll it back or to cancel it.
        fresh: begin again where one is under way.
        throttle: events a second, at most.

    Returns:
        its generation; None where it is left alone.

    Raises:
        Incompatible: a view would lose or retype a column.
        ProjectionError: it is not installed, or a newer version is being built.
    """
    driver, name, version = _driver(connection), projection.name, projection.version
    driver.execute(LOCK, (name,))
    served = driver.execute(WITH_ROLE, (name, "served")).fetchone()
    if served is None:
        raise ProjectionError(f"Projection {name!r} is not installed in this database; run amends migrate")
    if auto and (served[0] > version or (served[0] == version and not _made_otherwise(driver, projection, served[1]))):
        return None
    building = driver.execute(WITH_ROLE, (name, "building")).fetchone()
    if building is not None:
        if building[0] == version and not fresh:
            return int(building[1])
        if building[0] > version:
            raise ProjectionError(
                f"Version {building[0]} of projection {name!r} is being built, and this code has version {version}: "
                "deploy the newer code everywhere, or cancel its build"
            )
        discard(driver, name, *building)
    latest = driver.execute(LATEST, (name, version)).fetchone()
    assert latest is not None
    if auto and driver.execute(LAST_WORD, (name, version)).fetchone() in (("cancel",), ("rollback",)):
        return None
    generation = (latest[0] or 0) + 1
    _check_views(driver, projection, *served)
    _create(driver, projection, generation, "building", throttle)
    for table in projection.tables.values():
        if table.view:
            check(driver, spec_of(table, generation), pad=served[0] == version)
    driver.execute(NOTE, (name, version, generation, "build", actor, reason, None))
    return generation


def _made_otherwise(driver: Connection[Any], projection: Projection, generation: int) -> bool:
    row = driver.execute(MADE_WITH, (projection.name, projection.version, generation)).fetchone()
    return row is not None and row[0] != projection.made_with


def discard(driver: Connection[Any], name: str, version: int, generation: int) -> None:
    """Drop a build: its tables, its checkpoints, what is parked.

    Args:
        driver: of the schema's owner, in a transaction.
        name: of the projection.
        version: of the build.
        generation: of the build.
    """
    row = driver.execute(TABLES, (name, version, generation)).fetchone()
    driver.execute(FORGET, {"p": name, "v": version, "g": generation})
    for table in row[0] if row else ():
        driver.execute(sql.SQL("drop table if exists {}").format(sql.Identifier("read_models", table)))


def _create(driver: Connection[Any], projection: Projection, number: int, role: str, throttle: float | None) -> None:
    key = (projection.name, projection.version, number)
    for table in projection.tables.values():
        _create_table(driver, table, number, indexes=role == "served")
    driver.execute(CHECKPOINTS, (*key, role, throttle, projection.partitions))
    _keep(driver, projection, number, served=role == "served")


def _keep(driver: Connection[Any], projection: Projection, number: int, *, served: bool) -> None:
    tables = list(projection.tables.values())
    names = [table.generation(number).name for table in tables]
    views = [spec_of(table, number).model_dump() for table in tables if table.view]
    key = (projection.name, projection.version, number)
    made_with = Jsonb(projection.made_with)
    driver.execute(GENERATION, (*key, projection.partitions, made_with, Jsonb(names), Jsonb(views), served))


def _renew(driver: Connection[Any], projection: Projection, number: int) -> None:
    """What is served is of this version: see that all of it is there."""
    partitions = driver.execute(PARTITIONS, (projection.name, projection.version, number)).fetchone()
    if partitions != (projection.partitions,):
        raise ProjectionError(
            f"Version {projection.version} of projection {projection.name!r} runs in {partitions and partitions[0]} "
            f"partitions, not {projection.partitions}: raise its version, so that it is built anew in as many"
        )
    for table in projection.tables.values():
        _create_table(driver, table, number, indexes=True)
        if table.view:
            show(driver, spec_of(table, number), pad=True)
    _keep(driver, projection, number, served=True)


def _create_table(driver: Connection[Any], table: ReadTable, number: int, *, indexes: bool) -> None:
    """Create a table, unless it is there, the secondary indexes only where nothing is to be written in bulk."""
    if driver.execute(THERE, (f'read_models."{table.generation(number).name}"',)).fetchone() == (True,):
        return _check_shape(driver, table, number)
    made = table.defined(number)
    ddl: list[Any] = [CreateTable(made), SetTableComment(made)]
    ddl += [SetColumnComment(column) for column in made.columns if column.comment]
    if indexes:
        ddl += [CreateIndex(index) for index in made.indexes]
    for each in ddl:
        driver.execute(str(each.compile(dialect=DIALECT)).encode())
    driver.execute(sql.SQL(MAY_WRITE).format(sql.Identifier("read_models", made.name)))


def _check_views(driver: Connection[Any], projection: Projection, version: int, generation: int) -> None:
    row = driver.execute(VIEWS, (projection.name, version, generation)).fetchone()
    kept = {table.name for table in projection.tables.values() if table.view}
    for view in row[0] if row else ():
        if view["name"] not in kept:
            raise Incompatible(
                f"Version {projection.version} of projection {projection.name!r} no longer makes views.{view['name']}, "
                "which would show what was true at the swap for ever. Others may count on it: keep its table"
            )


def _adopt(driver: Connection[Any], projection: Projection) -> None:
    """In a database from before there were builds, find out by the views which version is served."""
    if driver.execute(WITH_ROLE, (projection.name, "served")).fetchone() is not None:
        return
    for table in projection.tables.values():
        shown = driver.execute(SHOWN, (f"views.{table.name}",)).fetchone() if table.view else None
        version = re.fullmatch(re.escape(table.name) + r"_v(\d+)", shown[0]) if shown else None
        if version:
            driver.execute(ADOPT, (projection.name, int(version[1])))
            return
    driver.execute(ADOPT, (projection.name, projection.version))


def _check_shape(driver: Connection[Any], table: ReadTable, number: int) -> None:
    name = f'read_models."{table.generation(number).name}"'
    for column, column_type in table.types.items():
        if driver.execute(SHAPE, (column_type, name, column)).fetchone() != (column, True):
            raise ProjectionError(
                f"Table {name} of projection {table.projection!r} is there already, but without column {column} of "
                f"type {column_type}: raise the projection's version, so that a new table is built beside it"
            )


def _driver(connection: OwnerConnection) -> Connection[Any]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, Connection)
    return driver
