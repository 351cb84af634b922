"""A worker process of the shop: `python worker.py`; SIGTERM drains it."""

from __future__ import annotations

import asyncio

from amends.logs import configure_logs
from amends.settings import Settings
from amends.worker import run_worker
from app import app

if __name__ == "__main__":
    settings = Settings()
    configure_logs(settings)
    asyncio.run(run_worker(app, settings))
