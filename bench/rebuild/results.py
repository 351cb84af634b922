"""What is kept of a run: a document, and a page made of it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.machine import versions
from bench.rebuild.measuring import Measured

__all__ = ["BUSY", "document", "page", "save", "table"]

BUSY = 1.0
"""From this load on, the machine had something else to do as well when the run began."""

COLUMNS = (
    ("Events", "events", ",.0f"),
    ("Seconds", "seconds", ",.1f"),
    ("Events/s", "rate", ",.0f"),
    ("Rows", "rows", ",.0f"),
    ("Peak MiB", "peak_mib", ",.0f"),
    ("First build, events/s", "first_rate", ",.0f"),
    ("Written meanwhile", "written", ",.0f"),
    ("Reads meanwhile", "reads", ",.0f"),
    ("Longest read, ms", "longest_read_ms", ",.0f"),
)
"""Of the page: title, name in the document, format."""


def document(measured: Measured, events: int, host: dict[str, str | int | float]) -> dict[str, Any]:
    """All that is kept of a run.

    Args:
        measured: what came out.
        events: in the log when the rebuilds began.
        host: what `bench.machine` said before.
    """
    views = []
    for each in measured.figures:
        done, looks = each.rebuild, each.looks
        views.append(
            {
                "projection": each.projection,
                "events": done.events,
                "seconds": round(done.seconds, 2),
                "rate": round(done.events / done.seconds),
                "rows": done.rows,
                "start_mib": round(done.start_mib, 1),
                "peak_mib": round(done.peak_mib, 1),
                "first_seconds": round(each.first_seconds, 2),
                "first_rate": round(events / each.first_seconds),
                "written": each.written,
                "reads": looks.reads,
                "counts": looks.counts,
                "longest_read_ms": round(1000 * looks.longest, 1),
            }
        )
    replay, traffic = measured.replay, measured.written
    return {
        "benchmark": "rebuild",
        "title": "Rebuild of every read model under writes and reads",
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": host | {"load_after": round(os.getloadavg()[2], 2)},
        "versions": versions(),
        "shared": float(host["load_before"]) > BUSY,
        "events": events,
        "views": views,
        "traffic": {
            "commands": traffic.commands,
            "events": traffic.events,
            "seconds": round(measured.traffic_seconds, 1),
        },
        "replay": {
            "events": replay.events,
            "batches": replay.batches,
            "seconds": round(measured.replay_seconds, 1),
            "events_per_second": round(replay.events / measured.replay_seconds),
            "batches_per_second": round(replay.batches / measured.replay_seconds),
        },
        "rows_equal": True,
    }


def page(found: dict[str, Any]) -> str:
    """A document as markdown."""
    traffic, replay, host = found["traffic"], found["replay"], found["machine"]
    lines = [
        f"# {found['title']}",
        "",
        "Made by `python -m bench.rebuild`; write nothing into it by hand. Each read model was rebuilt in a process of "
        "its own, one after the other, while commands were sent, all read models followed, and the views read in a "
        "loop. At the end all rows of all views were those of a replay that applied every event by itself.",
        "",
        f"| Read model | {' | '.join(title for title, _, _ in COLUMNS)} |",
        f"|---|{'---:|' * len(COLUMNS)}",
        *(
            f"| {each['projection']} | {' | '.join(format(each[name], form) for _, name, form in COLUMNS)} |"
            for each in found["views"]
        ),
        "",
        "- **Seconds** are from the beginning to the swap: reading, folding, writing, indexes, comparison of all rows "
        "with those served.",
        f"- **Peak MiB** is the most memory of the rebuilding process; {found['views'][0]['start_mib']:,.0f} MiB of it "
        "are its code.",
        "- **First build** is the serving path in batches of up to 2,000, with its indexes and without traffic.",
        "- **Longest read** is that of 200 rows by their keys, waiting for the swap's lock, and for a core, included.",
        f"- Meanwhile {traffic['commands']:,} commands led to {traffic['events']:,} events, in "
        f"{traffic['seconds']:,.0f} s.",
        f"- The replay applied {replay['events']:,} events in {replay['batches']:,} batches of one event in "
        f"{replay['seconds']:,.0f} s: {replay['events_per_second']:,} events/s for all read models together, "
        f"{replay['batches_per_second']:,} batches/s.",
        "",
        f"Taken {found['taken_at']}: {host['processor']}, {host['cores']} cores, {host['memory_gib']} GiB, "
        f"{host['system']}, load {host['load_before']} before and {host['load_after']} in the last quarter of an hour; "
        f"{', '.join(f'{name} {number}' for name, number in found['versions'].items())}.",
    ]
    if found["shared"]:
        lines.append(
            f"The {host['cores']} cores were shared with other work during the run, so an idle machine is faster."
        )
    return "\n".join(lines) + "\n"


def table(found: dict[str, Any]) -> Table:
    """What matters most of a document, as a table for the screen."""
    columns = COLUMNS[:5]
    shown = Table("Read model", title=f"{found['title']}: rows equal to those of a replay event by event")
    for title, _, _ in columns:
        shown.add_column(title, justify="right")
    for each in found["views"]:
        shown.add_row(each["projection"], *(format(each[name], form) for _, name, form in columns))
    return shown


def save(found: dict[str, Any], folder: Path) -> Path:
    """Write document and page, replacing the earlier ones."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rebuild.json").write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    path = folder / "rebuild.md"
    path.write_text(page(found))
    return path
