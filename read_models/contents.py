"""The read models that there are: what workers keep, and clients ask."""

from __future__ import annotations

from amends.projection import Projection
from read_models.directory import directory
from read_models.inventory_levels import inventory
from read_models.order_history import history

__all__ = ["PROJECTIONS"]

PROJECTIONS: tuple[Projection, ...] = (history, inventory, directory)
"""One for each read model, or for several that are kept together."""
