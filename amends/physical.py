"""What a generation of a read table is called and made of in the database."""

from __future__ import annotations

from hashlib import sha256

from sqlalchemy import MetaData, Table, UniqueConstraint
from sqlalchemy.sql import quoted_name

__all__ = ["defined", "physical_name"]

LONGEST = 63
"""Most bytes of a name that PostgreSQL keeps."""


def physical_name(name: str, version: int, generation: int) -> str:
    """Name of a table in schema read_models: the first generation of a version bears no number.

    Args:
        name: of the view.
        version: of the projection.
        generation: which build of that version, from 1.
    """
    return f"{name}_v{version}" + (f"_g{generation}" if generation > 1 else "")


def defined(table: Table, view: str, physical: str) -> Table:
    """The table under the name it has as one generation, with indexes that nobody else's are in the way of.

    Args:
        table: as it was declared.
        view: name of its view.
        physical: name of the generation's table.
    """
    copy = table.to_metadata(MetaData(), name=physical)
    for number, index in enumerate(sorted(copy.indexes, key=lambda index: str(index.name)), 1):
        index.name = quoted_name(_derived(physical, view, str(index.name or number)), quote=None)
    for constraint in copy.constraints:
        if isinstance(constraint, UniqueConstraint) and constraint.name is not None:
            constraint.name = quoted_name(_derived(physical, view, str(constraint.name)), quote=None)
    return copy


def _derived(physical: str, view: str, name: str) -> str:
    full = f"{physical}_{name.removeprefix(view).lstrip('_') or 'index'}"
    if len(full) <= LONGEST:
        return full
    return f"{full[: LONGEST - 9]}_{sha256(full.encode()).hexdigest()[:8]}"
