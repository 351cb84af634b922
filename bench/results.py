"""Results as files, one a benchmark, and as tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.harness import Benchmark, Result
from bench.machine import machine, versions

__all__ = ["FOLDER", "document", "save", "shown", "tables"]

FOLDER = Path(__file__).parent / "results"
"""Where results are kept; the report is made from them."""


def document(benchmark: Benchmark[Any], result: Result, rounds: int, scale: float, sync: bool) -> dict[str, Any]:
    """All that is kept of a run; ratios say how many times faster ours is than each other contender."""
    ours = benchmark.contenders[0].name
    return {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "rounds": rounds,
        "scale": scale,
        "sync": sync,
        "ours": ours,
        "notes": {kind.name: kind.note for kind in benchmark.contenders},
        "absent": result.absent,
        "figures": dict(benchmark.figures),
        "cases": [
            {
                "case": case.name,
                "unit": case.unit or benchmark.unit,
                "contenders": {
                    name: {
                        "rate": asdict(figures.rate),
                        "figures": {figure: asdict(spread) for figure, spread in figures.others.items()},
                        "ours_is": None
                        if name == ours or ours not in result.cases[case.name]
                        else result.cases[case.name][ours].rate.ratio(figures.rate),
                    }
                    for name, figures in result.cases[case.name].items()
                },
            }
            for case in benchmark.cases(scale)
        ],
    }


def save(found: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Write a document, replacing the earlier one of its benchmark."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{found['benchmark']}.json"
    path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    return path


def tables(found: dict[str, Any]) -> Iterator[Table]:
    """Tables of each case: rate with its spread, how many times faster ours is; and what else was measured."""
    for case in found["cases"]:
        table = Table(title=f"{found['title']}\n{case['case']}", title_justify="left")
        table.add_column("Contender")
        for column in (case["unit"], "lowest … highest", "ours is"):
            table.add_column(column, justify="right", no_wrap=True)
        for name, each in case["contenders"].items():
            rate = each["rate"]
            table.add_row(
                name,
                shown(rate["median"]),
                f"{shown(rate['low'])} … {shown(rate['high'])}",
                "" if each["ours_is"] is None else f"{each['ours_is']:.2f} ×",
                style="bold" if name == found["ours"] else None,
            )
        yield table
        if any(each["figures"] for each in case["contenders"].values()):
            yield _figures(found, case)


def _figures(found: dict[str, Any], case: dict[str, Any]) -> Table:
    """A row each, for there may be many, and a column for each contender."""
    table = Table("", *case["contenders"], title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for figure, unit in found["figures"].items():
        cells = [each["figures"].get(figure) for each in case["contenders"].values()]
        if any(cells):
            table.add_row(f"{figure}, {unit}", *(shown(cell["median"]) if cell else "" for cell in cells))
    return table


def shown(value: float) -> str:
    """A figure with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
