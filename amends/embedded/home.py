"""The home folder of the embedded servers: what is theirs in it, who holds it, where it can be found."""

import fcntl
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from amends.embedded.cluster import DATA, FOLDER, UNFINISHED
from amends.embedded.stale import is_held
from amends.errors import AlreadyRunning, StartupError

__all__ = ["Home", "Running", "running"]

# `running` holds the lock for an instant, so a start does not give up at once.
PATIENCE_SECONDS = 1.0

# How long a server that was left by a killed holder may take to end.
LET_GO_SECONDS = 15.0

PREPARING = "it is still starting"


@dataclass(frozen=True)
class Running:
    """What a running stack can be reached by.

    Args:
        pid: of the process that holds the stack.
        database_url: of PostgreSQL, with its password.
        temporal_address: host:port.
        web_ui: URL of Temporal's Web UI; None if there is none that we know.
    """

    pid: int
    database_url: str
    temporal_address: str
    web_ui: str | None


class Home:
    """A home folder with at most one holder.

    Args:
        path: the folder; made if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.log = self.path / "log"
        self.temporal_db = self.path / "temporal.db"
        self._lock: int | None = None

    def make(self) -> None:
        """Makes the folder unless it is there, closed to others.

        Errors:
            StartupError: it can't be made.
        """
        # As root, PostgreSQL's own account has to pass through to its folder in there.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        try:
            self.path.mkdir(mode=mode, parents=True, exist_ok=True)
        except OSError as problem:
            raise StartupError(
                f"the folder {self.path} can't be made ({problem.strerror}): set AMENDS_HOME to another"
            ) from problem

    def acquire(self) -> None:
        """Becomes the holder, until `release` or the end of this process.

        Errors:
            AlreadyRunning: somebody else is; says who, where it listens and what to do.
        """
        self.make()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (lock := _try_lock(self.path, fcntl.LOCK_EX, os.O_RDWR | os.O_CREAT)) is None:
            if time.monotonic() > deadline:
                raise AlreadyRunning(self._held_by())
            time.sleep(0.05)
        self._lock = lock
        os.ftruncate(lock, 0)
        os.write(lock, b"%d\n" % os.getpid())
        self._up.unlink(missing_ok=True)

    def release(self) -> None:
        """Ends the holding."""
        if self._lock is not None:
            self._up.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def announce(self, what: Running) -> None:
        """Writes down what the stack can be reached by, for other commands of the same account to find."""
        draft = self.path / "up.json.new"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(what), file, indent=2)
        draft.replace(self._up)

    def clear(self) -> None:
        """Deletes the servers' data and logs; whatever else is in the folder stays.

        Errors:
            StartupError: a server of a killed holder does not end, or something can't be deleted.
        """
        data = self.path / FOLDER / DATA
        deadline = time.monotonic() + LET_GO_SECONDS
        while is_held(data):
            if time.monotonic() > deadline:
                raise StartupError(f"a PostgreSQL server still works on {data}: end it first")
            time.sleep(0.05)
        try:
            self._delete()
        except OSError as problem:
            raise StartupError(f"{problem.filename} can't be deleted: {problem.strerror}") from problem

    def _delete(self) -> None:
        for folder in (self.path / FOLDER, self.log, *self.path.glob(UNFINISHED + "*")):
            if folder.is_dir():
                shutil.rmtree(folder)
        for suffix in ("", "-wal", "-shm", "-journal"):
            self.temporal_db.with_name(self.temporal_db.name + suffix).unlink(missing_ok=True)

    @property
    def _up(self) -> Path:
        return self.path / "up.json"

    def _held_by(self) -> str:
        holder = (self.path / "lock").read_text().strip() or "unknown"
        found = _read(self._up)
        where = f"Web UI {found.web_ui}, Temporal {found.temporal_address}" if found is not None else PREPARING
        return (
            f"the data in {self.path} are in use by process {holder} ({where}): use that one, or end it "
            f"(kill {holder}), or set AMENDS_HOME to another folder"
        )


def running(home: Path) -> Running | None:
    """The stack that runs on a home folder, for commands that want to talk to it; None if none does.

    Args:
        home: the folder.

    Errors:
        StartupError: the folder belongs to another account.
    """
    path = home.resolve()
    try:
        lock = _try_lock(path, fcntl.LOCK_SH, os.O_RDWR)
    except FileNotFoundError:
        return None
    if lock is None:
        return _read(path / "up.json")
    os.close(lock)
    return None


def _try_lock(folder: Path, kind: int, flags: int) -> int | None:
    try:
        opened = os.open(folder / "lock", flags | os.O_CLOEXEC, 0o600)
    except PermissionError as problem:
        raise StartupError(
            f"{folder} belongs to another account: run as that one, or set AMENDS_HOME to another folder"
        ) from problem
    try:
        fcntl.flock(opened, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(opened)
        return None
    return opened


def _read(file: Path) -> Running | None:
    try:
        return Running(**json.loads(file.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        # Not written yet, or by another version.
        return None
