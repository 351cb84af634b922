"""Medians with their spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

__all__ = ["Figures", "Spread", "percentiles"]


@dataclass(frozen=True)
class Spread:
    """The middle of several rounds, and how far they lie apart.

    Args:
        median: of all rounds.
        low: the lowest round.
        high: the highest.
        rounds: each, in the order taken, so that those of one round can be compared.
    """

    median: float
    low: float
    high: float
    rounds: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one round."""
        return cls(median(values), min(values), max(values), tuple(values))

    def ratio(self, other: Spread) -> float:
        """How many times the other one this is: the median of the rounds' ratios, for each round shares its moment."""
        return median(mine / theirs for mine, theirs in zip(self.rounds, other.rounds, strict=True) if theirs)


@dataclass(frozen=True)
class Figures:
    """What was measured of one contender: units a second, and whatever else, by name."""

    rate: Spread
    others: Mapping[str, Spread]

    @classmethod
    def of(cls, rates: Sequence[float], others: Mapping[str, Sequence[float]]) -> Figures:
        """Of at least one round."""
        return cls(Spread.of(rates), {name: Spread.of(values) for name, values in others.items()})


def percentiles(values: Sequence[float], *wanted: int) -> dict[str, float]:
    """Percentiles by name, such as p50; of one value, that value."""
    if len(values) < 2:
        return {f"p{cut}": values[0] for cut in wanted}
    cuts = quantiles(values, n=100, method="inclusive")
    return {f"p{cut}": cuts[cut - 1] for cut in wanted}
