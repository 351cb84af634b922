"""The story's second version: takes an umbrella along, and buys milk instead of bread."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

from amends import Process
from tests.engine.errands import Note, Request, Strike

__all__ = ["Go", "Shop"]


@workflow.defn(name="ErrandShop")
class Shop(Process[Request, None]):
    @workflow.run
    async def run(self, request: Request) -> None:
        async with self.saga as saga:
            await saga.do("buy milk", Note(errand=request.errand, what="milk"), undo=back(request, "milk"))


@workflow.defn(name="ErrandGo")
class Go(Process[Request, str]):
    def __init__(self) -> None:
        super().__init__()
        self._word = False

    @workflow.run
    async def run(self, request: Request) -> str:
        async with self.saga as saga:
            await saga.do("take the umbrella", Note(errand=request.errand, what="umbrella"))
            await saga.do("leave", Note(errand=request.errand, what="left"), undo=back(request, "left"))
            await saga.do("pay", Note(errand=request.errand, what="paid"))
            await saga.wait("wait for the word", lambda: self._word, timeout=timedelta(days=1))
            await saga.child("shop", Shop, request)
            await saga.do("come home", Note(errand=request.errand, what="home"))
        return "v2"

    @workflow.signal
    def word(self) -> None:
        self._word = True

    @workflow.update
    def turn_back(self) -> None:
        self.saga.cancel("changed_mind")


def back(request: Request, what: str) -> Strike:
    return Strike(errand=request.errand, what=what)
