"""Given what has happened to an aggregate, when a command comes, then this follows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, Self, TypeVar

from amends.aggregate import Aggregate, Claim, Free
from amends.errors import Refused
from amends.messages import Command, Event
from amends.testing.logged import listed, read_back

__all__ = ["AggregateCase"]

A = TypeVar("A", bound=Aggregate[Any, Any])


@dataclass(frozen=True)
class AggregateCase(Generic[A]):
    """A thing under test: what it is now, and what the last command led to.

    Nothing runs but `decide` and `evolve`, and the rule of the store that a claimed value can't be claimed again.

    Args:
        state: the aggregate after all that has happened.
        held: scope and value of every claim made by the commands so far.
        events: what the last command led to.
        claims: the values it claimed and freed.
        refused: why it was refused, if it was.
    """

    state: A
    held: frozenset[tuple[str, str]]
    events: tuple[Event, ...] = ()
    claims: tuple[Claim | Free, ...] = ()
    refused: Refused | None = None

    @classmethod
    def of(cls, aggregate: type[A], events: Iterable[Event]) -> AggregateCase[A]:
        """A thing to which this has happened."""
        return AggregateCase(aggregate(), frozenset())._after(events)

    def when(self, command: Command) -> Self:
        """Let the thing decide a command; a refused one changes nothing."""
        quiet = replace(self, events=(), claims=(), refused=None)
        try:
            decision = self.state.decide(command)
        except Refused as refused:
            return replace(quiet, refused=refused)
        claims = tuple(item for item in decision if isinstance(item, Claim | Free))
        held = self.held - {(item.scope, item.value) for item in claims if isinstance(item, Free)}
        for claim in claims:
            if isinstance(claim, Claim):
                if claim.otherwise is not None and (claim.scope, claim.value) in held:
                    return replace(quiet, refused=claim.otherwise)
                held |= {(claim.scope, claim.value)}
        events = tuple(item for item in decision if isinstance(item, Event))
        return replace(quiet._after(events), held=held, events=events, claims=claims)

    def when_each(self, *commands: Command) -> Self:
        """Let it decide one command after the other; what is asserted next is about the last one."""
        case = self
        for command in commands:
            case = case.when(command)
        return case

    def then(self, *events: Event) -> Self:
        """Assert that the command led to exactly these events, in this order; claims are not looked at."""
        assert self.refused is None, f"expected:{listed(events)}\nbut it was refused:{listed([self.refused])}"
        assert self.events == events, f"expected:{listed(events)}\nbut got:{listed(self.events)}"
        return self

    def then_nothing(self) -> Self:
        """Assert that the command was fine but changed nothing: no event, no claim."""
        return self.then().then_claims()

    def then_claims(self, *claims: Claim | Free) -> Self:
        """Assert that the command claimed and freed exactly these values, in this order."""
        expected, actual = [_plain(claim) for claim in claims], [_plain(claim) for claim in self.claims]
        assert actual == expected, f"expected the claims:{listed(expected)}\nbut got:{listed(actual)}"
        return self

    def then_refused(self, refusal: type[Refused], **facts: Any) -> Self:
        """Assert that the command was refused, for this reason, with exactly these facts."""
        expected = f"expected {refusal.__name__} with {facts}"
        assert self.refused is not None, f"{expected}\nbut it was done:{listed(self.events)}"
        actual = f"{type(self.refused).__name__} with {self.refused.facts}"
        assert (type(self.refused), self.refused.facts) == (refusal, facts), f"{expected}\nbut got  {actual}"
        return self

    def _after(self, events: Iterable[Event]) -> Self:
        """The same thing after these events, each of them and the state as the store would give them back."""
        kind, state = type(self.state), self.state
        for event in events:
            assert isinstance(event, kind.events), f"{kind.__name__} has no event {type(event).__name__}"
            state = state.evolve(read_back(event))
            kept = kind.model_validate_json(state.model_dump_json())
            assert kept == state, f"the state does not survive its snapshot:{listed([state, kept])}"
        return replace(self, state=state)


def _plain(claim: Claim | Free) -> str:
    """A claim as text, for two refusals with the same facts are not equal."""
    if isinstance(claim, Free):
        return f"frees {claim.scope} {claim.value}"
    otherwise = f"{claim.otherwise.name} with {claim.otherwise.facts}" if claim.otherwise else "no complaint"
    return f"claims {claim.scope} {claim.value}, otherwise {otherwise}"
