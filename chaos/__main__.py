"""`python -m chaos --seed 7 --minutes 3 --orders 300`: exits 0 when every promise held, 1 when one broke, else 2."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from amends.errors import AmendsError
from amends.leaving import leave
from amends.logs import configure_logs
from amends.settings import Settings
from chaos.progress import Progress
from chaos.report import show, verdict
from chaos.run import Outcome, Wanted, run

__all__ = ["main"]


def main(
    seed: Annotated[int | None, typer.Option(min=0, help="Decides everything; drawn when not given.")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, max=240, help="How long the storm lasts.")] = 3.0,
    orders: Annotated[int, typer.Option(min=1, max=100_000, help="How many orders are placed in it.")] = 300,
    settle_minutes: Annotated[float, typer.Option(min=0.5, max=60, help="How long all may take to come to rest.")] = 8,
    home: Annotated[Path | None, typer.Option(help="Folder for data, logs and timeline; emptied first.")] = None,
) -> None:
    """Place orders while workers, servers and connections are torn down, then check that every promise held."""
    seed = random.randrange(10**6) if seed is None else seed
    configure_logs(Settings(log_level="error"))
    for noisy in ("psycopg.pool", "asyncio"):  # servers are away all the time here
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    console = Console()
    wanted = Wanted(seed, minutes, orders, settle_minutes, home or Settings().home / "chaos" / f"seed-{seed}")
    console.print(f"Seed {seed}: {orders} orders in {minutes:g} min; Ctrl-C ends it.", highlight=False)
    try:
        with Progress(console) as progress:
            outcome = asyncio.run(_until_told(wanted, progress))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print(f"Ended; nothing runs any more. Seed {seed}.", highlight=False)
        leave(130)
    except (AmendsError, ExceptionGroup) as error:
        console.print((wanted.home / "timeline.txt").read_text(), highlight=False, markup=False, soft_wrap=True)
        console.print_exception()
        console.print(f"✘ seed {seed}: the run broke off: {told(error)}", style="red", highlight=False, soft_wrap=True)
        leave(2)
    show(outcome, console)
    console.print(verdict(outcome), style="green" if outcome.held else "red", highlight=False, soft_wrap=True)
    leave(0 if outcome.held else 1)


def told(error: BaseException) -> str:
    """The first of the errors that ended a run."""
    return told(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else str(error)


async def _until_told(wanted: Wanted, progress: Progress) -> Outcome:
    """Run; a SIGTERM ends it in order, as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(wanted, progress)


if __name__ == "__main__":
    typer.run(main)
