"""Follows how far projections have come: for those who wait for that, and those who keep answers until it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import structlog

from amends.errors import InvalidInput
from amends.freshness import Freshness, Standing, judge
from amends.listen import FIRST_RETRY, LAST_RETRY, Listener, scattered
from amends.notify import CHECKPOINTS, CLEAR
from amends.records import START, Position
from amends.sources import Sources
from amends.standings import Standings

__all__ = ["Checkpoints"]

log = structlog.get_logger("amends.freshness")

POLL = 0.25
"""Seconds after which those who wait have the checkpoints read again, whatever was or was not announced."""

LOOK = 1.0
"""Seconds after which they are read again for those who keep answers: who moves one may die before saying so."""


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
        self._noted: dict[str, Position] = {}
        self._heard = 0
        self._observers: list[Callable[[str | None], None]] = []
        self._keeping: list[Callable[[], bool]] = []
        self._looked = self._judged = 0.0
        self._unsure = True

    @property
    def listening(self) -> bool:
        """Whether notes arrive: every change that is announced from now on will be heard."""
        return self._listener is not None and self._listener.connected and not self._unsure

    @property
    def _believed(self) -> bool:
        """Whether notes are enough: they arrive, and what they say was compared with the database not long ago."""
        return self.listening and asyncio.get_running_loop().time() - self._looked < LOOK

    def observe(self, observer: Callable[[str | None], None], keeping: Callable[[], bool] | None = None) -> None:
        """Have a function called with each projection that is said, or seen, to have changed; None when any may have.

        Args:
            observer: called from the event loop's thread; must not wait.
            keeping: whether it has anything that a change would make wrong, so that it is worth looking for one.
        """
        self._observers.append(observer)
        if keeping is not None:
            self._keeping.append(keeping)

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
        heard, standings = self._heard, self._expected(position, names) if key is None and timeout > 0 else None
        if standings is None:
            standings = await self._read()
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
        if not self._believed:
            return None
        known = [self._known.get(name) for name in self._sources.resolve(names, self._known)]
        sure = [each for each in known if each is not None and each.position >= position and not each.dead_letters]
        if len(sure) < len(known):
            return None
        slowest = min(sure, key=lambda each: each.position)
        return Freshness(True, slowest.position, slowest.projection)

    def _expected(self, position: Position, names: Collection[str]) -> dict[str, Standing] | None:
        """Where those stand that only have to move on, as far as notes tell; None where it takes asking."""
        if not self._believed:
            return None
        resolved = self._sources.resolve(names, self._known)
        known = {name: self._known[name] for name in resolved if name in self._known}
        if len(known) < len(resolved):
            return None
        for name, each in known.items():
            if each.state != "live" or each.dead_letters or self._noted.get(name, START) >= position:
                return None
        return known

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
        self._looked = asyncio.get_running_loop().time()
        changed = [name for name, each in standings.items() if not self._has_told(each)]
        self._known = standings
        for name in changed:
            self._tell(name)
        return standings

    def _has_told(self, now: Standing) -> bool:
        """Whether the observers know already: its rows are as they were seen last, or as a note said that they are."""
        known = self._known.get(now.projection)
        if known is None:
            return False
        if replace(known, position=now.position, state=now.state, failed=now.failed) != now:
            return False
        return now.position in (known.position, self._noted.get(now.projection))

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
                await asyncio.sleep(scattered(retry))
                retry = min(2 * retry, LAST_RETRY)

    async def _learn(self, heard: list[str]) -> None:
        """Take in what was heard, if anything was, and have those judged who may be waiting no longer."""
        look = not heard or (bool(self._waiters) and asyncio.get_running_loop().time() - self._judged >= POLL)
        self._heard += len(heard)
        for payload in heard:
            build = CLEAR.search(payload)
            name, _, at = CLEAR.sub("", payload).partition(":")
            try:
                position = Position.parse(at)
            except InvalidInput:  # after a reconnection: any may have been missed
                self._known = {}
                self._tell(None)
                self._unsure = look = True
                continue
            if name in self._known and position < self._known[name].position:
                del self._known[name]  # an older build may be shown again
            known = self._known.get(name)
            if build is None:  # what is parked, or even what is shown, may have changed with it
                self._known.pop(name, None)
            elif known is not None and build.groups() == (str(known.version), str(known.generation)):
                self._known[name] = replace(known, position=position, dead_letters=0)
            self._noted[name] = position
            self._tell(name)
            for waiter in self._waiters:
                if waiter.heard(name, position) and not waiter.done.done():
                    sure = self._surely(waiter.position, waiter.names) if waiter.key is None else None
                    look |= sure is None
                    if sure is not None:
                        waiter.done.set_result(sure)
        if look and (self._waiters or self._is_due()):
            self._judged = asyncio.get_running_loop().time()
            standings = await self._read()
            waiters = self._there(standings)
            parked = await self._parked(waiters, standings)
            for waiter in waiters:
                answer, open_ = waiter.judge(standings, parked)
                if not open_ and not waiter.done.done():
                    waiter.done.set_result(answer)
        self._unsure = False

    def _there(self, standings: Mapping[str, Standing]) -> list[_Waiter]:
        """Those who can be judged; whoever waits for what is there no longer is told so."""
        there = []
        for waiter in self._waiters:
            gone = sorted(set(waiter.names) - standings.keys())
            if not gone:
                there.append(waiter)
            elif not waiter.done.done():
                waiter.done.set_exception(InvalidInput({"projections": f"there is no {', '.join(gone)} any more"}))
        return there

    def _is_due(self) -> bool:
        """Whether to look for those who keep answers: when nothing is known to tell a change from, and now and then."""
        if self._unsure:
            return bool(self._keeping)
        overdue = asyncio.get_running_loop().time() - self._looked >= LOOK
        return overdue and any(keeping() for keeping in self._keeping)

    def _tell(self, name: str | None) -> None:
        for observer in self._observers:
            observer(name)
