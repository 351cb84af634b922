"""Working for the servers that `amends up` runs in this folder, as long as it runs them."""

from __future__ import annotations

import os
import signal
import time
from threading import Thread

from pydantic import SecretStr

from amends.embedded import Running, running
from amends.errors import StartupError
from amends.settings import Settings

__all__ = ["joined"]

PATIENCE = 120.0
"""Seconds that a worker waits for servers that are starting."""

PAUSE = 0.02
"""Seconds between two looks while it waits."""

LOOK = 1.0
"""Seconds between two looks whether they are still the same."""


def joined(settings: Settings) -> Settings:
    """The settings with the addresses of what `amends up` runs here; waits until that is ready.

    From then on this process is asked to end, by SIGTERM, when those servers are no longer the ones that run here: the
    next ones may listen elsewhere, and other workers work for them.

    Raises:
        StartupError: nothing is ready in good time.
    """
    deadline = time.monotonic() + PATIENCE
    while (found := running(settings.home)) is None or not _lives(found.pid):
        if time.monotonic() > deadline:
            raise StartupError(
                f"No `amends up` is ready in {settings.home.resolve()} after {PATIENCE:g} s: see its terminal, or "
                "AMENDS_HOME"
            )
        time.sleep(PAUSE)
    Thread(target=_leave_after, args=(settings, found), daemon=True).start()
    url = SecretStr(found.database_url)
    owner = settings.owner_url if settings.database_url is not None else None  # else it is of another database
    where = {"database_url": url, "owner_url": owner, "temporal_address": found.temporal_address}
    return settings.model_copy(update=where)


def _leave_after(settings: Settings, found: Running) -> None:
    while running(settings.home) == found:
        time.sleep(LOOK)
    os.kill(os.getpid(), signal.SIGTERM)


def _lives(pid: int) -> bool:
    """Whether a process is there: a killed holder's note may be read just before the next one removes it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
