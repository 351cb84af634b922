"""The data folder of the embedded PostgreSQL: made whole or not at all."""

import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from amends.embedded.account import hand_over, needs_reach, unprivileged
from amends.embedded.binaries import find_postgres
from amends.embedded.child import Child, Launch, clean_environment
from amends.errors import ServerFailed

__all__ = ["DATA", "DATABASE", "FOLDER", "OWNER", "UNFINISHED", "Cluster"]

OWNER = "amends"
DATABASE = "amends"

FOLDER = "postgres"
DATA = "data"
UNFINISHED = "postgres.new."

CREATION_SECONDS = 120.0
# How long the processes of a making that was killed may go on writing.
LEFTOVER_SECONDS = 10.0


class Cluster:
    """One PostgreSQL cluster in a home folder: its programs, data, password and the account that owns it.

    Args:
        home: folder that holds the cluster's own folder, `postgres`.
        log: file that its programs write to.
        sync: wait until a new cluster is safely on the disk; False only for throw-away tests.
        watchdog: as for `Child`.

    Errors:
        ServerFailed: there is no PostgreSQL on this machine.
    """

    def __init__(self, home: Path, *, log: Path, sync: bool = True, watchdog: bool | None = None) -> None:
        self.folder = home / FOLDER
        self.data = self.folder / DATA
        self.log = log
        self._home = home
        self._programs = find_postgres().resolve()
        self._sync = sync
        self._watchdog = watchdog

    @property
    def password(self) -> str:
        """The owner's password, drawn when the cluster was made.

        Errors:
            ServerFailed: its file is missing or can't be read.
        """
        file = self.folder / "password"
        try:
            return file.read_text().strip()
        except OSError as problem:
            raise ServerFailed(
                f"the embedded PostgreSQL's password can't be read from {file} ({problem.strerror}): run as "
                "the account that owns it, or start with fresh data"
            ) from problem

    def launch(
        self,
        program: str,
        *arguments: str,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Launch:
        """How to start one of PostgreSQL's programs as the account that owns the cluster.

        Args:
            program: its name.
            arguments: its arguments.
            folder: what it works in; without it, the cluster's own folder.
            environment: variables it needs besides the usual ones.
        """
        binary, workplace = self._programs / program, folder or self.folder
        account = unprivileged(workplace)
        return Launch(
            command=(str(binary), *arguments),
            environment=clean_environment(LC_ALL="C", TZ="UTC", **(environment or {})),
            account=account,
            reach=needs_reach(account, binary, workplace),
            # The immediate shutdown: it leaves nobody behind, and the next start replays the log.
            death=signal.SIGQUIT,
        )

    def ensure(self) -> None:
        """Makes the cluster unless it is there; a death in the middle leaves nothing that looks like one.

        Errors:
            ServerFailed: it could not be made.
        """
        if (self.data / "PG_VERSION").exists():
            account = unprivileged(self.folder)
            if account is not None and self.folder.stat().st_uid != account.uid:
                hand_over(self.folder, account)
            return
        if self.folder.exists() and any(self.folder.iterdir()):
            raise ServerFailed(f"{self.folder} holds something else than a PostgreSQL cluster: move it away")
        for leftover in self._home.glob(UNFINISHED + "*"):
            _remove(leftover)
        unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self._home))
        try:
            self._create(unfinished)
            unfinished.rename(self.folder)
            _sync_folder(self._home)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _create(self, unfinished: Path) -> None:
        password, data = unfinished / "password", str(unfinished / DATA)
        with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            # Other people on this machine reach the loopback port too: the password keeps them out.
            file.write(secrets.token_urlsafe(24) + "\n")
            file.flush()
            os.fsync(file.fileno())
        hand_over(unfinished, unprivileged(unfinished))
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        if not self._sync:
            options.append("--no-sync")
        options += [f"--pgdata={data}", f"--username={OWNER}", f"--pwfile={password}"]
        self._run(self.launch("initdb", *options, folder=unfinished))
        single = self.launch("postgres", "--single", "-D", data, folder=unfinished)
        fsync = "on" if self._sync else "off"
        statement = f"CREATE DATABASE {DATABASE}"
        script = f'echo "{statement}" | "$0" "$@" -c exit_on_error=on -c fsync={fsync} postgres'
        self._run(replace(single, command=("/bin/sh", "-c", script, *single.command)))
        _sync_folder(unfinished)

    def _run(self, launch: Launch) -> None:
        child = Child("the making of PostgreSQL's data folder", log=self.log, watchdog=self._watchdog)
        child.start(launch)
        try:
            code = child.wait(CREATION_SECONDS)
        finally:
            child.stop(signal.SIGQUIT, 5.0)
        if code != 0:
            outcome = "took too long" if code is None else f"ended with code {code}"
            raise ServerFailed(f"{child.name} {outcome}; {self.log} says:\n{child.tail()}")


def _remove(leftover: Path) -> None:
    """Removes what an earlier making left; its processes may still be writing there for a moment after its death."""
    until = time.monotonic() + LEFTOVER_SECONDS
    while leftover.exists() and time.monotonic() < until:
        shutil.rmtree(leftover, ignore_errors=True)
        time.sleep(0.05)


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
