"""A worker process of the shop: `python worker.py`; SIGTERM drains it. The same as `amends worker`."""

from __future__ import annotations

import sys

from amends.cli import main

if __name__ == "__main__":
    sys.argv[1:] = ["worker"]
    main()
