"""A worker that only shows that it lives: writes its pid and a count to a file, and how it was ended."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import psycopg

asked = False


def drain(*_: object) -> None:
    global asked
    asked = True


if __name__ == "__main__":
    file = Path(sys.argv[1])
    signal.signal(signal.SIGTERM, drain)
    count, drained = 0, False
    while not drained:
        if asked:
            # The database has to be there as long as the worker is.
            psycopg.connect(os.environ["AMENDS_DATABASE_URL"], connect_timeout=5).close()
            drained = True
        count += 1
        state: dict[str, object] = {
            "pid": os.getpid(),
            "count": count,
            "drained": drained,
            "parent": os.getppid(),
        }
        state |= {name: value for name, value in os.environ.items() if name.startswith("AMENDS_")}
        draft = file.with_suffix(".new")
        draft.write_text(json.dumps(state))
        draft.replace(file)
        time.sleep(0.02)
