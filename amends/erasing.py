"""Destroys keys of persons, and looks whether read models still hold what they sealed."""

from __future__ import annotations

from amends.database import Pool
from amends.erasure import Erased, Erasure, Scrubbed, Scrubbing
from amends.errors import InvalidInput, MessageError, Stale
from amends.messages import Event
from amends.personal_keys import destroy
from amends.records import Context
from amends.sealing import has_personal, holds_sealed

__all__ = ["ErasureActivities"]

EVENTS = "select name, schema_version, data::text from amends.events where stream = %s order by version"
"""All that has happened to a person."""

BUILDS = """
select c.projection, c.version, c.generation, min(c.role), bool_and((c.xid, c.position) >= (%s::xid8, %s))
from amends.checkpoints c join amends.generations g using (projection, version, generation)
group by 1, 2, 3 order by 1, 2, 3
"""
"""Every build of a read model that there is, served or not, and whether all of it has come so far."""

PARKED = """
select distinct projection from amends.dead_letters
where stream = %(stream)s and (state <> 'skipped' or (xid, position) = (%(xid)s::xid8, %(position)s)) order by 1
"""
"""Read models in which something of a person waits, or in which somebody left out that they are forgotten."""


class ErasureActivities(Erasure):
    """Does so in the database.

    Args:
        pool: of the writer role.
        projections: of the role that may look at checkpoints.
    """

    def __init__(self, pool: Pool, projections: Pool) -> None:
        self._pool, self._projections = pool, projections

    async def destroy_key(self, subject: str, context: Context) -> Erased:
        """Destroy it, and count what that makes unreadable."""
        async with self._pool.connection() as connection:
            at = await destroy(connection, subject, context.actor)
            rows = await (await connection.execute(EVENTS, (subject,))).fetchall()
        found = [
            holds_sealed(data) for name, version, data in rows if holds_sealed(data) or _personal(name, version, data)
        ]
        return Erased(at=at, sealed=sum(found), in_clear=len(found) - sum(found))

    async def see_scrubbed(self, scrubbing: Scrubbing, context: Context) -> Scrubbed:
        """Look once; whoever asks repeats it.

        Raises:
            Stale: a build is behind or kept, or something is parked.
        """
        xid, number = scrubbing.position
        letters = {"stream": scrubbing.subject, "xid": str(xid), "position": number}
        async with self._projections.connection() as connection:
            builds = await (await connection.execute(BUILDS, (str(xid), number))).fetchall()
            parked = await (await connection.execute(PARKED, letters)).fetchall()
        if parked:
            names = ", ".join(name for (name,) in parked)
            raise Stale(
                f"Events of {scrubbing.subject} are parked in {names}, or that they are forgotten was skipped there: "
                "see `amends views dead-letters`, mend and retry; or rebuild it"
            )
        for name, version, generation, role, passed in builds:
            if not passed and role == "kept":
                raise Stale(
                    f"Build {generation} of {name} v{version} is kept as it was, and may hold data of "
                    f"{scrubbing.subject}: drop it, `amends views drop-old {name}`"
                )
            if not passed:
                raise Stale(
                    f"{name} v{version} has not come to {scrubbing.position} yet; see whether a worker runs, and "
                    "`amends views status`"
                )
        return Scrubbed(builds=tuple(f"{name} v{version} build {build}" for name, version, build, _, _ in builds))


def _personal(name: str, version: int, data: str) -> bool:
    """Whether there are personal data in an event in which nothing is sealed."""
    try:
        return has_personal(Event.read(name, version, data))
    except (MessageError, InvalidInput):
        return True  # nobody can tell: counted rather than left out
