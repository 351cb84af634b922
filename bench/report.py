"""Makes docs/performance.md and its plots from the results: `python -m bench.report`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.benchmarks import BENCHMARKS
from bench.findings import FINDINGS
from bench.results import FOLDER, shown
from bench.targets import TARGETS

__all__ = ["main", "page"]

DOCS = Path(__file__).parent.parent / "docs"

HEAD = """# Performance

Every figure here was taken by `make bench`, which makes this page from `bench/results/`; write nothing into it by
hand. All contenders of a benchmark run on the same PostgreSQL and the same Temporal server in the same run, taking
turns round by round, after a round to warm up. What each has left behind is read back and compared row by row, so that
all have done the same work. A figure is the median of the rounds, with the lowest and the highest beside it; "ours is"
is the median of the rounds' ratios. Absolute figures are this machine's; ratios are what to look at.
"""

OURS, OTHERS = "#2563eb", "#9ca3af"


def page(results: list[dict[str, Any]]) -> str:
    """The page as markdown.

    Args:
        results: documents of `bench.results`, in the order in which they are to be shown.
    """
    return "\n".join([HEAD, *(line for found in results for line in _section(found))]).rstrip() + "\n"


def _section(found: dict[str, Any]) -> Iterator[str]:
    yield f"## {found['title']}\n"
    yield f"![{found['title']}](performance/{found['benchmark']}.svg)\n"
    yield from _targets(found)
    if found["benchmark"] in FINDINGS:
        yield FINDINGS[found["benchmark"]]
    for case in found["cases"]:
        columns = [case["case"], case["unit"], "lowest … highest", "ours is"]
        yield from _head(columns)
        for name, each in case["contenders"].items():
            rate, shade = each["rate"], "**" if name == found["ours"] else ""
            yield _row(
                [
                    f"{shade}{name}{shade}",
                    shown(rate["median"]),
                    f"{shown(rate['low'])} … {shown(rate['high'])}",
                    "" if each["ours_is"] is None else f"{each['ours_is']:.2f} ×",
                ]
            )
        yield ""
        if any(each["figures"] for each in case["contenders"].values()):
            yield from _head([case["case"], *case["contenders"]])
            for figure, unit in found["figures"].items():
                cells = [each["figures"].get(figure) for each in case["contenders"].values()]
                yield _row([f"{figure}, {unit}", *(shown(cell["median"]) if cell else "" for cell in cells)])
        yield ""
    for name, note in found["notes"].items():
        yield f"- **{name}**: {note}" + (" (absent)" if name in found["absent"] else "") + "."
    yield ""
    yield _taken(found)
    yield ""


def _targets(found: dict[str, Any]) -> Iterator[str]:
    yield from _head(["aimed at", "bound", "reached", ""])
    for target in TARGETS.get(found["benchmark"], ()):
        bound = f"{'≤' if target.most else '≥'} {shown(target.bound)}"
        try:
            reached = [shown(target.reach(found)), "met" if target.met(found) else "**missed**"]
        except (KeyError, IndexError):
            reached = ["", "not taken"]
        yield _row([target.what, bound, *reached])
    yield ""


def _taken(found: dict[str, Any]) -> str:
    machine, versions = found["machine"], ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    disk = "commits wait for the disk" if found["sync"] else "commits do not wait for the disk (`fsync=off`)"
    where = [machine["processor"], f"{machine['cores']} cores", f"{machine['memory_gib']} GiB", machine["system"]]
    return (
        f"Taken {found['taken_at']}: {found['rounds']} rounds, scale {found['scale']:g}, {disk}; "
        f"{', '.join(where)}, load {machine['load_before']}; {versions}."
    )


def _head(columns: list[str]) -> Iterator[str]:
    yield _row(columns)
    yield _row(["---", *["---:"] * (len(columns) - 1)])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def plot(found: dict[str, Any], to: Path) -> None:
    """Bars of each case, with the spread as whiskers.

    Args:
        found: a document of `bench.results`.
        to: the SVG file.
    """
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = found["benchmark"]  # the same results make the same file
    from matplotlib import pyplot

    cases = found["cases"]
    heights = [len(case["contenders"]) for case in cases]
    figure, axes = pyplot.subplots(
        len(cases), 1, figsize=(9, 0.9 * len(cases) + 0.34 * sum(heights)), height_ratios=heights, squeeze=False
    )
    for axis, case in zip(axes[:, 0], cases, strict=True):
        names = list(case["contenders"])[::-1]
        rates = [case["contenders"][name]["rate"] for name in names]
        medians = [rate["median"] for rate in rates]
        below = [rate["median"] - rate["low"] for rate in rates]
        above = [rate["high"] - rate["median"] for rate in rates]
        colours = [OURS if name == found["ours"] else OTHERS for name in names]
        axis.barh(names, medians, xerr=[below, above], color=colours, ecolor="#374151", capsize=3)
        axis.set_title(f"{case['case']} ({case['unit']})", loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=9)
    figure.tight_layout()
    to.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(to, metadata={"Date": None})
    pyplot.close(figure)


def main() -> int:
    """Write the page and the plots; returns the exit code."""
    paths = [FOLDER / f"{name}.json" for name in BENCHMARKS]
    results = [json.loads(path.read_text()) for path in paths if path.exists()]
    for found in results:
        plot(found, DOCS / "performance" / f"{found['benchmark']}.svg")
    (DOCS / "performance.md").write_text(page(results))
    print(f"docs/performance.md: {', '.join(found['benchmark'] for found in results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
