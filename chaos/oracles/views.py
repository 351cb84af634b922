"""Views: what the projections have made under fire equals what they make of the whole log, read in peace."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from chaos.reading import Tables

__all__ = ["check_views"]

SHOWN = 3
"""So many differences of a table are told."""


def check_views(served: Tables, replayed: Tables) -> list[str]:
    """Compare tables row by row.

    Args:
        served: what people see.
        replayed: projected anew.

    Returns:
        broken promises.
    """
    broken = []
    for name in sorted(served.keys() | replayed.keys()):
        ours, theirs = _counted(served.get(name, ())), _counted(replayed.get(name, ()))
        wrong, missing = list((ours - theirs).elements()), list((theirs - ours).elements())
        if wrong or missing:
            broken.append(f"{name}: {len(wrong)} rows are wrong, {len(missing)} are missing")
            broken += [f"{name}: is not in a fresh replay: {row}" for row in wrong[:SHOWN]]
            broken += [f"{name}: is in a fresh replay alone: {row}" for row in missing[:SHOWN]]
    return broken


def _counted(rows: Sequence[Mapping[str, Any]]) -> Counter[str]:
    return Counter(json.dumps(row, sort_keys=True) for row in rows)
