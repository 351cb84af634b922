"""Released migrations stay as they are, and all of them together make the schema that is written down beside them."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import psycopg

from amends.checking.released import difference, read_json, written
from amends.checking.schema_text import describe, same_schema
from amends.checking.verdict import Checked, Failure
from amends.database import conninfo
from amends.revisions import FOLDER
from amends.schema import migrate, owner_engine

__all__ = ["RELEASED", "check_migrations", "hashes_of"]

RELEASED = FOLDER.parent / "released"
"""Where the engine keeps what its migrations are: `hashes.json`, and `schema.txt`, which they make."""

COMMENT = "If it was never released, take its line out of {} and run `amends check --accept`"


def hashes_of(folder: Path) -> dict[str, str]:
    """What is in the files of the migrations, however their lines end, by file name."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".py", ".sql"))
    return {path.name: sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest() for path in files}


def check_migrations(database: str, *, accept: bool, versions: Path = FOLDER, released: Path = RELEASED) -> Checked:
    """See that no released migration has changed, and that all make the schema they are known to make.

    Args:
        database: an empty one, which is migrated.
        accept: write down new migrations and what they make.
        versions: folder of the migrations.
        released: folder of what is known of them.
    """
    hashes, schema = released / "hashes.json", released / "schema.txt"
    known = read_json(hashes) if hashes.exists() else {}
    now = hashes_of(versions)
    new = sorted(now.keys() - known.keys())
    failures = _changed(known, now, hashes)
    made = _made(database)
    if accept and new and not failures:
        released.mkdir(exist_ok=True)
        hashes.write_text(written(now))
        schema.write_text(made)
        return Checked(name="migrations", looked_at=_told(now), accepted=(str(hashes), str(schema)))
    failures += [
        Failure(what=f"The migration {name} is new: it is not in {hashes}", mend="`amends check --accept` adds it")
        for name in new
    ]
    before = schema.read_text() if schema.exists() else ""
    if not new and not same_schema(before, made):
        told = f"The migrations make another schema than {schema} says:\n{difference(before, made)}"
        mend = "Put the migration back as it was released, and write what is to change as a new one"
        failures.append(Failure(what=told, mend=mend))
    return Checked(name="migrations", looked_at=_told(now), failures=tuple(failures))


def _changed(known: dict[str, str], now: dict[str, str], hashes: Path) -> list[Failure]:
    failures = []
    for name, was in known.items():
        if name not in now:
            told, mend = f"The released migration {name} is gone", "Put it back: new databases need it"
            failures.append(Failure(what=told, mend=mend))
        elif now[name] != was:
            told = f"The released migration {name} has changed, and databases that have run it keep what it made before"
            mend = f"Put it back as it was, and write a new migration. {COMMENT.format(hashes)}"
            failures.append(Failure(what=told, mend=mend))
    return failures


def _made(database: str) -> str:
    """What the migrations make of an empty database."""
    with owner_engine(database).begin() as connection:
        migrate(connection)
    with psycopg.connect(conninfo(database, "owner")) as driver:
        return describe(driver)


def _told(now: dict[str, str]) -> str:
    return f"{sum(name.endswith('.py') for name in now)} migrations, and the schema that they make"
