"""What workflows may ask of the catalogue: the interface alone, light to import."""

from __future__ import annotations

from abc import ABC, abstractmethod

from temporalio import activity

from amends import Context
from domain.values import Line, PricedLine

__all__ = ["Catalogue"]


class Catalogue(ABC):
    """Prices as they are now; never the caller's."""

    @abstractmethod
    @activity.defn(name="catalogue.price")
    async def price(self, lines: tuple[Line, ...], context: Context) -> tuple[PricedLine, ...]:
        """Put the current price to each line; refuses what is not for sale."""
