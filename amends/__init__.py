"""Amends: durable sagas that put things right.

What stories are written with: aggregates and their messages, sagas and their steps. It stays light to import, for
workflows import it; the machinery behind it is in the modules: `amends.app`, `amends.client`, `amends.projection`.
"""

from amends.aggregate import Aggregate, Claim, Decision, Free
from amends.errors import AmendsError, InvalidInput, Refused
from amends.messages import Command, Event, Key, Personal, upcast
from amends.money import Currency, Money
from amends.outcomes import SagaUndone
from amends.process import Process
from amends.process_manager import ProcessManager, Signal, Start
from amends.records import Context, Position, Receipt, Recorded
from amends.saga import Saga
from amends.steps import Call, Undo
from amends.values import Value

__all__ = [
    "Aggregate",
    "AmendsError",
    "Call",
    "Claim",
    "Command",
    "Context",
    "Currency",
    "Decision",
    "Event",
    "Free",
    "InvalidInput",
    "Key",
    "Money",
    "Personal",
    "Position",
    "Process",
    "ProcessManager",
    "Receipt",
    "Recorded",
    "Refused",
    "Saga",
    "SagaUndone",
    "Signal",
    "Start",
    "Undo",
    "Value",
    "upcast",
]
