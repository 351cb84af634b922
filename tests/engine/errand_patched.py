"""The story's first version with a step put in, for workers without versions: old sagas go on as they began."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

from amends import Process
from tests.engine.errand_v1 import Shop, back
from tests.engine.errands import Note, Request

__all__ = ["Go", "Shop"]


@workflow.defn(name="ErrandGo")
class Go(Process[Request, str]):
    def __init__(self) -> None:
        super().__init__()
        self._word = False

    @workflow.run
    async def run(self, request: Request) -> str:
        async with self.saga as saga:
            if workflow.patched("take-the-umbrella"):
                await saga.do("take the umbrella", Note(errand=request.errand, what="umbrella"))
            await saga.do("leave", Note(errand=request.errand, what="left"), undo=back(request, "left"))
            pivot = request.ends == "after the pivot"
            await saga.do("pay", Note(errand=request.errand, what="paid"), pivot=pivot)
            await saga.wait("wait for the word", lambda: self._word, timeout=timedelta(days=1))
            await saga.child("shop", Shop, request)
            await saga.do("come home", Note(errand=request.errand, what="home"))
        return "patched"

    @workflow.signal
    def word(self) -> None:
        self._word = True
