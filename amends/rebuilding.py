"""Rebuilds a projection: build beside, catch up, verify, swap; whatever dies meanwhile, it goes on from there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic

import structlog
from psycopg import DataError, IntegrityError
from psycopg.types.json import Jsonb

from amends.alerts import alert
from amends.building import Builder, bulk_url, index
from amends.database import Connection, Pool, open_pool
from amends.errors import NothingToDo, Poisoned
from amends.feed import Feed
from amends.installation import NOTE, begin_build
from amends.projection import Projection
from amends.rebuild_request import RebuildRequest, Rebuilt, Report
from amends.records import Position
from amends.schema import owner_engine
from amends.swapping import swap
from amends.verifying import compare, served_at

__all__ = ["caught_up", "rebuild"]

log = structlog.get_logger("amends.projections")

CLOSE = 1.0
"""Seconds that the last round of catching up may take; then the rest is done while what is served stands still."""

ROUNDS = 20
"""Most rounds of catching up; who writes faster than a build reads does not want to wait for ever."""

STATE = """
select built_at is not null, report from amends.generations where projection = %s and version = %s and generation = %s
"""
"""How far a build has come."""

REPORT = "update amends.generations set report = %s where projection = %s and version = %s and generation = %s"
"""Keep a report with the build, for somebody to look at."""

SWAPPED = """
select version, generation from amends.projection_log
where projection = %s and action = 'swap' and detail ->> 'token' = %s
"""
"""What somebody has swapped whose death hid that he had."""

THROTTLE = """
update amends.checkpoints set throttle = %s where projection = %s and version = %s and generation = %s
"""
"""Events a second, at most."""


async def rebuild(projection: Projection, url: str, request: RebuildRequest, token: str | None = None) -> Rebuilt:
    """Build, catch up, verify and swap; cancel it and call it again, it goes on from there.

    Args:
        projection: what this code knows of it.
        url: a login that owns the schema.
        request: who wants it, why, and how.
        token: names the intent: called again with it after the swap, nothing is built once more.

    Returns:
        what came of it; where the rows differ and nobody has accepted that, the build waits for a person.

    Raises:
        Incompatible: a view would lose or retype a column.
        Superseded: the build was cancelled.
        Broken: so much fails that the projection itself must be broken.
    """
    began, name, version = monotonic(), projection.name, projection.version
    async with open_pool(bulk_url(url), "projector", 2 + 2 * projection.partitions) as pool:
        if token is not None and (swapped := await _swapped(pool, name, token)) is not None:
            return Rebuilt(outcome="swapped", version=swapped[0], generation=swapped[1])
        generation = await _begun(pool, projection, url, request)
        if generation is None:
            return Rebuilt(outcome="nothing", version=version, generation=0)
        if request.throttle is not None:
            async with pool.connection() as connection:
                await connection.execute(THROTTLE, (request.throttle, name, version, generation))
        builders = [Builder(projection, pool, url, partition=n) for n in range(projection.partitions)]
        events = await caught_up(pool, projection, builders)
        built, _ = await _state(pool, projection, generation)
        if not built:
            await index(url, projection, generation)
            events += await caught_up(pool, projection, builders)

        async def level(positions: list[Position]) -> bool:
            own = positions if len(positions) == len(builders) else [max(positions)] * len(builders)
            await asyncio.gather(*(builder.up_to(at, hurried=True) for builder, at in zip(builders, own, strict=True)))
            return [builder.at for builder in builders] == own and (own == positions or len(set(positions)) == 1)

        while (report := await compare(pool, projection, generation, level)) is None:
            events += await caught_up(pool, projection, builders)
        done = Rebuilt(outcome="swapped", version=version, generation=generation, events=events, report=report)
        if not report.agrees and not request.accept:
            await _keep(pool, projection, generation, request, report)
            return done.model_copy(update={"outcome": "differs"})

        events += await caught_up(pool, projection, builders, beyond=True)

        async def finish(connection: Connection, until: Position) -> None:
            for builder in builders:
                await builder.find()
                await builder.within(connection, until)

        done.events = events
        detail = report.model_dump(mode="json") | {"events": events, "token": token}
        detail["seconds"] = round(monotonic() - began, 1)
        while True:
            try:
                await swap(url, name, (version, generation), finish, request.actor, request.reason, detail)
                break
            except (DataError, IntegrityError, Poisoned) as error:
                log.warning("swap_meets_poison", projection=name, error=str(error))
                await caught_up(pool, projection, builders, beyond=True)
        log.info("projection_swapped", projection=name, version=version, generation=generation, events=events)
        return done


async def _swapped(pool: Pool, name: str, token: str) -> tuple[int, int] | None:
    async with pool.connection() as connection:
        row = await (await connection.execute(SWAPPED, (name, token))).fetchone()
    return None if row is None else (row[0], row[1])


async def _begun(pool: Pool, projection: Projection, url: str, request: RebuildRequest) -> int | None:
    """The generation to build: the one under way, or a new one, also where the last one differs and nobody likes it."""

    def begin(fresh: bool) -> int | None:
        with owner_engine(url).begin() as connection:
            return begin_build(
                connection,
                projection,
                request.actor,
                request.reason,
                auto=request.auto,
                fresh=fresh,
                throttle=request.throttle,
            )

    generation = await asyncio.to_thread(begin, False)
    if generation is not None:
        _, report = await _state(pool, projection, generation)
        if report is not None and not request.accept:
            generation = None if request.auto else await asyncio.to_thread(begin, True)
    return generation


async def _state(pool: Pool, projection: Projection, generation: int) -> tuple[bool, dict[str, object] | None]:
    async with pool.connection() as connection:
        key = (projection.name, projection.version, generation)
        row = await (await connection.execute(STATE, key)).fetchone()
    if row is None:
        raise NothingToDo(f"Projection {projection.name!r}: generation {generation} is gone; the build was cancelled")
    return row[0], row[1]


async def caught_up(pool: Pool, projection: Projection, builders: Sequence[Builder], *, beyond: bool = False) -> int:
    """Follow what is served until little is left.

    Args:
        pool: connections of the projector role.
        projection: what is built.
        builders: one for each of its partitions.
        beyond: go on to the head of the feed where what is served is an older version, for nobody may follow that any
            more. Before, the build must not be ahead of it, to be compared with it.

    Returns:
        how many events that were.
    """
    feed, events = Feed(pool), 0
    for builder in builders:
        await builder.find()
    rounds = 0
    while rounds < ROUNDS:
        async with pool.connection() as connection:
            version, _, positions = await served_at(connection, projection.name)
        targets = positions if len(positions) == len(builders) else [min(positions)] * len(builders)
        if version != projection.version:
            targets = [await feed.head()] * len(builders) if beyond else targets
        elif any(builder.at > at for builder, at in zip(builders, targets, strict=True)):
            log.info("build_waits_for_what_is_served", projection=projection.name)
            await asyncio.sleep(CLOSE)
            continue
        began, rounds = monotonic(), rounds + 1
        done = await asyncio.gather(*(builder.up_to(at) for builder, at in zip(builders, targets, strict=True)))
        events += max(done)
        if monotonic() - began < CLOSE:  # however few they were: a throttled build takes long for them
            break
    return events


async def _keep(pool: Pool, projection: Projection, generation: int, request: RebuildRequest, report: Report) -> None:
    told = Jsonb(report.model_dump(mode="json"))
    key = (projection.name, projection.version, generation)
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(REPORT, (told, *key))
        await connection.execute(NOTE, (*key, "differs", request.actor, request.reason, told))
        problem = "a build differs from what is served, and waits for somebody to look: amends views status"
        await alert(connection, key, problem)
    log.error("rebuild_differs", projection=projection.name, version=projection.version, generation=generation)
