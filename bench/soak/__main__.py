"""`python -m bench.soak --minutes 30 --rate 2`: exits 1 when anything grows that must stay level."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.progress import Progress

from amends.cli import open_stack
from amends.embedded import Stack
from amends.logs import configure_logs
from amends.settings import Settings
from app import app
from bench.machine import machine, versions
from bench.results import FOLDER
from bench.soak.report import grown, page
from bench.soak.sampling import take
from bench.soak.traffic import Traffic
from client import Shop


def main(
    minutes: Annotated[float, typer.Option(min=0.5, max=24 * 60, help="How long.")] = 30,
    rate: Annotated[float, typer.Option(min=0.1, max=100, help="Orders a second.")] = 2,
    every: Annotated[float, typer.Option(min=1, help="Seconds between looks.")] = 15,
    home: Annotated[Path, typer.Option(help="Folder of the data; emptied first.")] = Path(".amends/soak"),
    keep: Annotated[bool, typer.Option(help="Keep the figures in bench/results.")] = False,
) -> None:
    """Place orders at a steady rate, look at what everything holds, and say what has grown."""
    configure_logs(Settings(log_level="error"))
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    console, host = Console(), machine()
    settings = Settings(home=home, postgres_port=0, temporal_port=0, temporal_ui_port=0)
    with open_stack(app, settings, fresh=True) as stack, Progress(console=console) as progress:
        found = asyncio.run(_soak(stack, settings, minutes * 60, rate, every, progress))
    taken = {"taken": datetime.now(UTC).isoformat(timespec="seconds"), "machine": host, "versions": versions()}
    document = {"minutes": minutes, "rate": rate, "every": every, **found, **taken}
    console.print(page(document), markup=False, highlight=False, soft_wrap=True)
    if keep:
        (FOLDER / "soak.json").write_text(json.dumps(document, indent=1) + "\n")
        (FOLDER / "soak.md").write_text(page(document))
    if problems := grown(document):
        console.print(f"Not level: {', '.join(problems)}", style="red")
        raise typer.Exit(1)
    console.print("All of it is level.", style="green")


async def _soak(
    stack: Stack, settings: Settings, seconds: float, rate: float, every: float, progress: Progress
) -> dict[str, Any]:
    where = stack.running
    told = settings.model_copy(
        update={"database_url": SecretStr(where.database_url), "temporal_address": where.temporal_address}
    )
    async with await Shop.connect(told, actor="soak") as shop:
        traffic = Traffic(shop, rate)
        await traffic.set_up()
        working = asyncio.create_task(traffic.go_on(seconds))
        task, begun, samples = progress.add_task("Soaking", total=seconds), monotonic(), list[dict[str, Any]]()
        while not working.done():
            await asyncio.wait([working], timeout=every)
            now = monotonic() - begun
            progress.update(task, completed=min(now, seconds))
            if now < seconds:
                figures = await asyncio.to_thread(take, stack.pids(), where.database_url)
                figures |= {"p50_ms": round(1e3 * traffic.quantile(0.5)), "p99_ms": round(1e3 * traffic.quantile(0.99))}
                samples.append({"at": round(now, 1), "placed": traffic.placed, **figures})
        await working
    return {"ends": dict(traffic.ends), "placed": traffic.placed, "samples": samples}


if __name__ == "__main__":
    typer.run(main)
