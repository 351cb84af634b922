"""A story that changes while it is being told: errands are noted down, and a signal is waited for in between.

The versions of the story are in modules of their own, as workers of two builds have them.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from amends import Aggregate, Command, Decision, Event, Key

__all__ = ["Errand", "Note", "Noted", "Request", "Strike"]


class Note(Command, name="errands_test.note"):
    errand: Key
    what: str


class Strike(Command, name="errands_test.strike"):
    errand: Key
    what: str


class Noted(Event, name="errands_test.noted"):
    errand: Key
    what: str


class Struck(Event, name="errands_test.struck"):
    errand: Key
    what: str


class Errand(Aggregate[Note | Strike, Noted | Struck], category="errands_test", key="errand"):
    notes: tuple[str, ...] = ()

    def decide(self, command: Note | Strike) -> Decision:
        match command:
            case Note(errand=errand, what=what):
                return [Noted(errand=errand, what=what)]
            case Strike(errand=errand, what=what):
                return [Struck(errand=errand, what=what)] if what in self.notes else []

    def evolve(self, event: Noted | Struck) -> Self:
        match event:
            case Noted(what=what):
                return self.having(notes=(*self.notes, what))
            case Struck(what=what):
                return self.having(notes=tuple(each for each in self.notes if each != what))


class Request(BaseModel):
    """What is asked for.

    Args:
        errand: where it is noted down.
        ends: waits for the word before or after its pivot.
    """

    model_config = ConfigDict(frozen=True)

    errand: Key
    ends: Literal["well", "after the pivot"] = "well"
