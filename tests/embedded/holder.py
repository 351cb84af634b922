"""Holds a stack until somebody asks to end; run as a module."""

import argparse
from pathlib import Path

from amends.embedded import Stack
from amends.settings import Settings
from tests.embedded.helpers import ATTRIBUTES, FAST, worker_command

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("--watchdog", action="store_true")
    parser.add_argument("--worker", type=Path)
    options = parser.parse_args()
    stack = Stack(
        Settings(home=options.home, temporal_port=0, temporal_ui_port=0),
        search_attributes=ATTRIBUTES,
        worker_command=worker_command(options.worker) if options.worker else None,
        worker_output="file",
        postgres_options=FAST,
        watchdog=True if options.watchdog else None,
    )
    with stack:
        stack.run()
