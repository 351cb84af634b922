"""Which account a server runs as, and what that account can reach."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from amends.errors import ServerFailed

__all__ = ["Account", "hand_over", "needs_reach", "unprivileged"]


@dataclass(frozen=True)
class Account:
    """An account of the operating system.

    Args:
        uid: the user's number.
        gid: the number of its group.
    """

    uid: int
    gid: int


def unprivileged(data: Path) -> Account | None:
    """The account PostgreSQL has to run as, because it refuses to run as root; None: as ourselves.

    Args:
        data: the folder of its data; if an ordinary account owns it already, that one is taken.

    Errors:
        ServerFailed: the system has no unprivileged account.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise ServerFailed(
        "PostgreSQL does not run as root, and this system has neither an account `postgres` nor `nobody` to "
        "run it as: run as an ordinary user, or set AMENDS_DATABASE_URL to a PostgreSQL of your own"
    )


def needs_reach(account: Account | None, *paths: Path) -> bool:
    """Whether the account is kept out of one of the paths by its mode or by a folder above it.

    Args:
        account: who wants to get there; None (ourselves) can.
        paths: absolute paths of programs and of the account's own folders.
    """
    return account is not None and any(
        _is_closed(account, step) for path in paths for step in (path, *path.parents) if step.exists()
    )


def _is_closed(account: Account, path: Path) -> bool:
    found = path.stat()
    mine = stat.S_IXUSR if found.st_uid == account.uid else stat.S_IXOTH
    return not found.st_mode & mine


def hand_over(folder: Path, account: Account | None) -> None:
    """Gives a folder and everything in it to the account.

    Errors:
        ServerFailed: the file system or the system's rights do not allow it.
    """
    if account is None:
        return
    try:
        os.chown(folder, account.uid, account.gid)
        for parent, folders, files in os.walk(folder):
            for name in (*folders, *files):
                os.chown(Path(parent, name), account.uid, account.gid, follow_symlinks=False)
    except OSError as problem:
        raise ServerFailed(
            f"{folder} can't be given to the unprivileged account PostgreSQL runs as ({problem.strerror}): "
            "set AMENDS_HOME to a folder on a local file system, or run as an ordinary user"
        ) from problem
