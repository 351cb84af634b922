"""Small processes, each for something that a story can be written with; read by the tests of outlines, never run."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from typing import Any

from temporalio import activity, workflow

from amends import Call, Command, Context, Key, Process, Refused, Saga, SagaUndone, Undo, Value


class TooDark(Refused):
    """It is too dark"""


class Build(Command, name="outline_test.build"):
    house: Key
    what: str = ""


class TearDown(Command, name="outline_test.tear_down"):
    house: Key
    why: str = ""


class Firm(ABC):
    @abstractmethod
    @activity.defn(name="outline_test.hire")
    async def hire(self, who: str, context: Context) -> str: ...

    @abstractmethod
    @activity.defn(name="outline_test.dismiss")
    async def dismiss(self, who: str, context: Context) -> None: ...

    @abstractmethod
    @activity.defn(name="outline_test.find")
    async def find(self, who: str, context: Context) -> str | None: ...


class Plan(Value):
    house: Key
    rooms: tuple[str, ...] = ()
    large: bool = False
    style: str = ""
    command: Build = Build(house="a")
    due: datetime | None = None


LONG = timedelta(days=3)


async def paint(saga: Saga, house: str, colour: str = "white") -> None:
    await saga.do(f"paint it {colour}", Build(house=house, what=colour))


@workflow.defn
class Undos(Process[Plan, None]):
    """Every way to say what takes a step back.

    And a second paragraph.
    """

    @workflow.run
    async def run(self, plan: Plan) -> None:
        async with self.saga.within(timedelta(days=30)) as saga:
            house = plan.house
            build = Build(house=house)
            await saga.do("a command", build, undo=TearDown(house=house))
            await saga.do("a function", build, undo=lambda why: TearDown(house=house, why=why))
            await saga.do("a method", build, undo=self._tear_down)
            await saga.do("one of two", build, undo=TearDown(house=house) if plan.large else Build(house=house))
            await saga.do("none", build, undo=None)
            hired: Call[str] = Call(Firm.hire, house, ask=Call(Firm.find, house))
            await saga.do("a call", hired, undo=Call(Firm.dismiss, house), undo_last=True)
            [first, second] = self._both(plan)
            await saga.do("the second", build, undo=second)
            await saga.do("who knows", plan.command, undo=first)
            await saga.do("no way back", build, pivot=True)

    def _tear_down(self, why: str) -> Command:
        return TearDown(house="a", why=why)

    def _both(self, plan: Plan) -> list[Undo]:
        return [Build(house=plan.house), TearDown(house=plan.house)]


@workflow.defn
class Ways(Process[Plan, None]):
    """Branches and loops."""

    @workflow.run
    async def run(self, plan: Plan) -> None:
        async with self.saga as saga:
            if plan.large:
                await saga.do("a", Build(house="a"), undo=TearDown(house="a"))
            elif plan.rooms:
                await saga.do("b", Build(house="b"), undo=TearDown(house="b"))
            if plan.style:
                plan = plan.model_copy()
            match plan.style:
                case "modern" if plan.large:
                    await saga.do("c", Build(house="c"))
                case "old":
                    raise TooDark(house=plan.house)
            for room in plan.rooms:
                if not room:
                    continue
                await saga.do(f"furnish {room}", Build(house=room), undo=TearDown(house=room))
            while True:
                if await saga.wait("wait for the sun", lambda: plan.large, timeout=LONG):
                    break
            await saga.do("d", Build(house="d"))


@workflow.defn
class Catches(Process[Plan, str]):
    """Failures that are caught."""

    @workflow.run
    async def run(self, plan: Plan) -> str:
        try:
            async with self.saga as saga:
                try:
                    await saga.do("try it", Build(house="a"), undo=TearDown(house="a"))
                except TooDark:
                    await saga.do("do without", Build(house="b"))
                except (KeyError, ValueError):
                    raise
                finally:
                    await paint(saga, plan.house)
        except SagaUndone:
            await workflow.sleep(1)
            return "undone"
        return "done"


@workflow.defn
class Abreast(Process[Plan, None]):
    """Things side by side."""

    @workflow.run
    async def run(self, plan: Plan) -> None:
        async with self.saga as saga:
            await saga.all(
                saga.do("walls", Build(house="a"), undo=TearDown(house="a")),
                paint(saga, plan.house, "red"),
                *[saga.do(f"room {room}", Build(house=room)) for room in plan.rooms if room],
            )
            tasks: list[Awaitable[object]] = [saga.do("roof", Build(house="b"))]
            for room in plan.rooms:
                tasks.append(paint(saga, room, room))
            await saga.all(*tasks)
            await asyncio.gather(*self._doors(saga, plan))
            await saga.all()

    def _doors(self, saga: Saga, plan: Plan) -> Sequence[Awaitable[object]]:
        return [saga.do(f"door of {room}", Build(house=room)) for room in plan.rooms]


@workflow.defn(name="Village")
class Mounts(Process[Plan, None]):
    """Processes in a process."""

    @workflow.run
    async def run(self, plan: Plan) -> None:
        async with self.saga as saga:
            await saga.sub("school", School, plan)
            await saga.child("mill", School, plan)
            mount = saga.sub if plan.large else saga.child
            await mount("shop", School, plan)
            await saga.sub("suburb", Mounts, plan)
            await saga.do("open it", Build(house="a"))


@workflow.defn
class School(Process[Plan, None]):
    """A school."""

    @workflow.run
    async def run(self, plan: Plan) -> None:
        async with self.saga as saga:
            await saga.do("build the school", Build(house="a"), undo=TearDown(house="a"))


@workflow.defn
class Helpers(Process[Plan, None]):
    """Helpers that are followed, and what can't be."""

    @workflow.run
    async def run(self, plan: Plan) -> None:
        async with self.saga as saga:

            async def nested(what: str) -> None:
                await saga.do(f"nested {what}", Build(house="a"))

            await nested("thing")
            await self._early(saga, plan)
            await (self._early(saga, plan) if plan.large else paint(saga, plan.house))
            plan.large and await self._blue(saga)
            [await self._room(saga, room) for room in plan.rooms]
            await saga.sleep("let it dry", timedelta(hours=2))
            due = plan.due
            await saga.wait("wait for the owner", lambda: plan.large, until=due)
            await self._again(saga, 3)
            await workflow.wait_condition(lambda: plan.large)
            await workflow.execute_activity("x", await self._answer(saga), start_to_close_timeout=LONG)
            later = paint(saga, plan.house, "green")
            await later

    async def _blue(self, saga: Saga) -> object:
        return await saga.do("paint it blue", Build(house="a"))

    async def _room(self, saga: Saga, colour: str) -> object:
        return await saga.do(f"paint it {colour}", Build(house="a"))

    async def _early(self, saga: Saga, plan: Plan) -> None:
        if not plan.rooms:
            return
        await saga.do("early", Build(house="a"))
        return

    async def _again(self, saga: Saga, times: int) -> None:
        await saga.do(f"{times} times more than anybody could ever say in so few words", Build(house="a"))
        if times:
            await self._again(saga, times - 1)

    async def _answer(self, saga: Saga) -> object:
        return await saga.do("ask", Call(Firm.find, "a"))


class Heir(Helpers):
    """Takes over what its parent does."""

    async def _early(self, saga: Saga, plan: Plan) -> None:
        await super()._early(saga, plan)
        await saga.do("and more", Build(house="b"))


STORIES: tuple[type[Process[Any, Any]], ...] = (Undos, Ways, Catches, Abreast, Mounts, School, Helpers, Heir)
