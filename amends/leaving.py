"""Ending a process that has talked to Temporal."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

__all__ = ["leave"]


def leave(code: int) -> NoReturn:
    """End the process with this exit code, once everything of it is closed.

    The interpreter's own way out may abort in the Temporal client's native threads (SDK issue 300), which would turn
    the exit code of a command that has done its work.

    Args:
        code: 0 for success.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
