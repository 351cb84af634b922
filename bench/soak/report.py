"""What has grown in a soak, and the page about it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

__all__ = ["LEVEL", "grown", "page"]

LEVEL = {
    "worker_mib": ("Worker, memory of its own, MiB; it keeps up to 2,000 sagas that run, leases among them", 1.25),
    "worker_files": ("Worker, open files", 1.10),
    "worker_threads": ("Worker, threads; a pool of up to 32 that grows when it is needed", 1.30),
    "postgres_mib": ("PostgreSQL, memory of its own, MiB", 1.25),
    "postgres_files": ("PostgreSQL, open files", 1.25),
    "temporal_files": ("Temporal, open files", 1.15),
    "connections": ("Connections", 1.10),
    "small_tables_kib": ("Tables whose rows are written over and over, KiB", 1.60),
}
"""Figure → what it is, and how many times its median of the second sixth that of the last may be."""

SHOWN = {
    "p50_ms": "An order by card, p50, ms; depends on what else the machine does",
    "temporal_mib": "Temporal, memory of its own, MiB (the histories of its dev server are among it)",
    "p99_ms": "An order by card, p99, ms",
    "dead_rows": "Dead rows, all tables",
    "live_rows": "Live rows, all tables",
    "events": "Events in the log",
    "log_mib": "The log, MiB",
}
"""What grows with the number of orders, or has no bound here."""


def grown(document: dict[str, Any]) -> list[str]:
    """What was to stay level and did not; its first sixth, in which caches fill, is not looked at."""
    early, late = _ends(document["samples"])
    found = []
    for name, (title, bound) in LEVEL.items():
        before, after = _median(early, name), _median(late, name)
        if before and after / before > bound:
            found.append(f"{title} {before:g} → {after:g}")
    return found


def page(document: dict[str, Any]) -> str:
    """The page as markdown."""
    early, late = _ends(document["samples"])
    of, ends = document["machine"], ", ".join(f"{count:,} {end}" for end, count in sorted(document["ends"].items()))
    lines = [
        "# Soak: a steady load",
        "",
        "Made by `python -m bench.soak --keep`; write nothing into it by hand.",
        "",
        f"{document['minutes']:g} min, {document['rate']:g} orders a second: {document['placed']:,} placed; {ends}. "
        "Early is the second sixth of the time, late the last; medians, highest in all after the first sixth.",
        "",
        "| | Early | Late | Highest | Late to early | Bound |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    rows = [(name, *found) for name, found in LEVEL.items()]
    for name, title, bound in [*rows, *((name, title, None) for name, title in SHOWN.items())]:
        before, after = _median(early, name), _median(late, name)
        highest = max(each[name] for each in document["samples"][len(document["samples"]) // 6 :])
        ratio = f"{after / before:.2f}" if before else ""
        lines.append(
            f"| {title} | {before:,.0f} | {after:,.0f} | {highest:,.0f} | {ratio} | "
            + (f"{bound:.2f} |" if bound else "|")
        )
    about = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    lines += [
        "",
        f"Taken {document['taken']}: {of['processor']}, {of['cores']} cores, {of['memory_gib']} GiB, {of['system']}, "
        f"load {of['load_before']} before; {about}.",
        "",
    ]
    return "\n".join(lines)


def _ends(samples: Sequence[dict[str, Any]]) -> tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]]:
    part = max(1, len(samples) // 6)
    return samples[part : 2 * part] or samples, samples[-part:]


def _median(samples: Sequence[dict[str, Any]], name: str) -> float:
    return float(median(each[name] for each in samples))
