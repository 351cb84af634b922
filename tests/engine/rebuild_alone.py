"""Rebuilds the order list in a process of its own, slowly, until somebody kills it."""

from __future__ import annotations

import asyncio
import sys

from amends.rebuild_request import RebuildRequest
from amends.rebuilding import rebuild
from tests.engine.readside_shop import order_list

if __name__ == "__main__":
    request = RebuildRequest(name="readside_orders", version=1, actor="Grace", reason="to be killed", throttle=40)
    asyncio.run(rebuild(order_list(), sys.argv[1], request))
