"""Follows how far projections have come: for those who wait for that, and those who keep answers until it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import structlog

from amends.errors import InvalidInput
from amends.freshness import Freshness, Standing, judge
from amends.listen import FIRST_RETRY, LAST_RETRY, Listener
from amends.notify import CHECKPOINTS
from amends.records import Position
from amends.sources import Sources
from amends.standings import Standings

__all__ = ["Checkpoints"]

log = structlog.get_logger("amends.freshness")

POLL = 0.25
"""Seconds after which those who wait have the checkpoints read again, whatever was or was not announced."""


@dataclass(eq=False, slots=True)
class _Waiter:
    position: Position
    names: Collection[str]
    key: str | None
    missing: set[str] = field(default_factory=set)
    done: asyncio.Future[Freshness] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def about(self) -> str | Position:
        """What must not be parked: the events of a key, or the one at the position."""
        return self.position if self.key is None else self.key

    def heard(self, name: str, position: Position) -> bool:
        """Whether this note may have been the last one missing."""
        if position >= self.position:
            self.missing.discard(name)
        return not self.missing

    def judge(
        self, standings: Mapping[str, Standing], parked: Mapping[str | Position, set[str]], *, waited: bool = False
    ) -> tuple[Freshness, bool]:
        mine = {name: standings[name] for name in self.names if name in standings}
        stuck = parked.get(self.about, set()) & set(mine)
        self.missing = {name for name, each in mine.items() if each.position < self.position}
        return judge(self.position, mine, stuck, waited=waited)


class Checkpoints:
    """Follows all projections' checkpoints, on one connection however many wait; it listens once somebody needs it.

    Args:
        url: a PostgreSQL URL or conninfo.
        standings: reads where the projections stand now.
        sources: which projections keep which views.
    """

    def __init__(self, url: str, standings: Standings, sources: Sources) -> None:
        self._url, self._standings, self._sources = url, standings, sources
        self._waiters: set[_Waiter] = set()
        self._following: asyncio.Task[None] | None = None
        self._listener: Listener | None = None
        self._known: dict[str, Standing] = {}
        self._heard = 0
        self._observers: list[Callable[[str | None], None]] = []

    @property
    def listening(self) -> bool:
        """Whether notes arrive: every change that is announced from now on will be heard."""
        return self._listener is not None and self._listener.connected

    def observe(self, observer: Callable[[str | None], None]) -> None:
        """Have a function called with each projection that is said, or seen, to have changed; None when any may have.

        Args:
            observer: called from the event loop's thread; must not wait.
        """
        self._observers.append(observer)

    def start(self) -> None:
        """Listen, unless it does already."""
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="amends-checkpoints")

    async def close(self) -> None:
        """Stop following."""
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def at_least(
        self, position: Position, names: Collection[str], timeout: float, key: str | None = None
    ) -> Freshness:
        """Wait until projections have applied everything up to a position.

        Args:
            position: from a receipt.
            names: of views or projections; all whose views are known when none are given.
            timeout: seconds to wait at most; 0 only looks.
            key: whose rows the caller cares for, as the projections name it in `views.dead_letters`: those projections
                are stale that have parked events of this key, and never mind other keys. Without it, those that have
                parked the very event at the position.

        Returns:
            fresh, or stale and why; staleness is never an error.

        Raises:
            InvalidInput: there is no view or projection of that name.
        """
        names = (names,) if isinstance(names, str) else tuple(names) or self._sources.projections
        if not names:
            raise InvalidInput({"projections": "name at least one"})
        if key is None and (sure := self._surely(position, names)):
            return sure
        heard, standings = self._heard, await self._read()
        waiter = _Waiter(position, self._resolved(names, standings), key)
        self._waiters.add(waiter)
        try:
            answer, open_ = waiter.judge(standings, await self._parked([waiter], standings))
            if open_ and heard != self._heard:  # a note came before there was a waiter to hear it
                answer, open_ = await self._judge(waiter)
            if open_ and timeout > 0:
                self.start()
                await asyncio.wait({waiter.done}, timeout=timeout)
                answer = waiter.done.result() if waiter.done.done() else (await self._judge(waiter, waited=True))[0]
        finally:
            self._waiters.discard(waiter)
        if answer.fresh:
            return answer
        lag = await self._standings.lag(answer.projection)
        return replace(answer, events=lag.events, problem=lag.problem)

    def _surely(self, position: Position, names: Collection[str]) -> Freshness | None:
        """Fresh, where that is known without asking: as long as notes arrive, a projection does not go back unheard."""
        if not self.listening:
            return None
        known = [self._known.get(name) for name in self._sources.resolve(names, self._known)]
        sure = [each for each in known if each is not None and each.position >= position and not each.dead_letters]
        if len(sure) < len(known):
            return None
        slowest = min(sure, key=lambda each: each.position)
        return Freshness(True, slowest.position, slowest.projection)

    def _resolved(self, names: Collection[str], standings: Mapping[str, Standing]) -> frozenset[str]:
        resolved = self._sources.resolve(names, standings)
        unknown = sorted(name for name in resolved if name not in standings)
        if unknown:
            there_are = ", ".join(sorted(standings))
            raise InvalidInput({"projections": f"no projection is named {', '.join(unknown)}; there are {there_are}"})
        return resolved

    async def _judge(self, waiter: _Waiter, *, waited: bool = False) -> tuple[Freshness, bool]:
        standings = await self._read()
        return waiter.judge(standings, await self._parked([waiter], standings), waited=waited)

    async def _read(self) -> dict[str, Standing]:
        """Where all stand; what has changed is a change that this client has been told of."""
        standings = await self._standings.read()
        changed = [name for name, each in standings.items() if self._known.get(name) != each]
        self._known = standings
        for name in changed:
            self._tell(name)
        return standings

    async def _parked(
        self, waiters: Collection[_Waiter], standings: dict[str, Standing]
    ) -> dict[str | Position, set[str]]:
        keys = {waiter.key for waiter in waiters if waiter.key is not None}
        found: dict[str | Position, set[str]] = dict((await self._standings.parked(keys, standings)).items())
        for position in {waiter.position for waiter in waiters if waiter.key is None}:
            found[position] = await self._standings.parked_at(position, standings)
        return found

    async def _follow(self) -> None:
        """Keep those who wait informed; whatever goes wrong is tried again, for they have time-outs."""
        retry = FIRST_RETRY
        while True:
            try:
                async with Listener(self._url, "reader", CHECKPOINTS) as self._listener:
                    heard = [""]  # what came before the listening is found by reading
                    while True:
                        await self._learn(heard)
                        retry = FIRST_RETRY
                        heard = await self._listener.take(POLL)
            except Exception as error:
                log.warning("checkpoints_lost", error=str(error), retry_seconds=retry)
                self._listener = None
                self._tell(None)
                await asyncio.sleep(retry)
                retry = min(2 * retry, LAST_RETRY)

    async def _learn(self, heard: list[str]) -> None:
        """Take in what was heard, if anything was, and have those judged who may be waiting no longer."""
        look = not heard
        self._heard += len(heard)
        for payload in heard:
            name, _, at = payload.partition(":")
            try:
                position = Position.parse(at)
            except InvalidInput:  # after a reconnection: any may have been missed
                self._known = {}
                self._tell(None)
                look = True
                continue
            if name in self._known and position < self._known[name].position:
                del self._known[name]  # an older build may be shown again
            self._tell(name)
            for waiter in self._waiters:
                look |= waiter.heard(name, position)
        if look and self._waiters:
            standings = await self._read()
            waiters = list(self._waiters)
            parked = await self._parked(waiters, standings)
            for waiter in waiters:
                answer, open_ = waiter.judge(standings, parked)
                if not open_ and not waiter.done.done():
                    waiter.done.set_result(answer)

    def _tell(self, name: str | None) -> None:
        for observer in self._observers:
            observer(name)
