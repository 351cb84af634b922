"""What is said of a run: figures, what was broken and the timeline then, and the verdict on the last line."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table

from chaos.run import ORACLES, Outcome

__all__ = ["show", "verdict"]

SHOWN = 20
"""So many broken promises of an oracle are shown; the timeline's file has all of them."""


def show(outcome: Outcome, console: Console) -> None:
    """Print it.

    Args:
        outcome: of the run.
        console: where to.
    """
    console.print(_orders(outcome))
    console.print(_faults(outcome))
    errors = ", ".join(f"{name} {count}" for name, count in outcome.book.errors.most_common())
    console.print(f"Clients asked again after: {errors or 'nothing'}", highlight=False)
    for saga in outcome.parked:
        console.print(f"[yellow]waits for a person[/yellow] {saga.workflow_id}: {'; '.join(saga.why)}", highlight=False)
    if not outcome.held:
        console.print("\nTimeline", style="bold")
        for entry in outcome.timeline.entries:
            console.print(str(entry), highlight=False, markup=False, soft_wrap=True)
    for oracle, what in ORACLES.items():
        broken = outcome.broken.get(oracle, [])
        console.print(f"[red]✘ {what}[/red]" if broken else f"[green]✔[/green] {what}", highlight=False)
        for promise in broken[:SHOWN]:
            console.print(f"    {promise}", highlight=False, markup=False, soft_wrap=True)
        if len(broken) > SHOWN:
            console.print(f"    … and {len(broken) - SHOWN} more")
    console.print(f"Timeline and logs: {outcome.timeline.path}", highlight=False, soft_wrap=True)


def verdict(outcome: Outcome) -> str:
    """The last line."""
    wanted = outcome.wanted
    what = f"{len(outcome.book.orders)} orders, {outcome.effective} faults, {outcome.seconds:.0f} s"
    if outcome.held:
        return f"✔ seed {wanted.seed}: every promise held ({what})"
    count = sum(map(len, outcome.broken.values()))
    again = f'make chaos ARGS="--seed {wanted.seed} --minutes {wanted.minutes:g} --orders {wanted.orders}"'
    return f"✘ seed {wanted.seed}: {count} promises broken ({what}); again: {again}"


def _orders(outcome: Outcome) -> Table:
    table = Table("Orders", "", title=f"Seed {outcome.wanted.seed}", title_justify="left")
    ends = Counter(
        "terminated in the server"
        if entry.outcome is None
        else " ".join(filter(None, (entry.outcome.status, entry.outcome.reason)))
        for entry in outcome.book.orders.values()
    )
    for end, count in ends.most_common():
        table.add_row(end, str(count))
    refunds = Counter(
        refund.refused or (refund.outcome.status if refund.outcome else "no end")
        for entry in outcome.book.orders.values()
        for refund in entry.refunds
    )
    for end, count in refunds.most_common():
        table.add_row(f"return: {end}", str(count))
    table.add_row("restocked", str(len(outcome.book.restocks)))
    table.add_row("new prices", str(sum(len(prices) - 1 for prices in outcome.book.prices.values())))
    return table


def _faults(outcome: Outcome) -> Table:
    table = Table("Faults", "", caption_justify="left")
    for kind, count in Counter(fault.kind for fault in outcome.faults).most_common():
        table.add_row(kind.value, str(count))
    table.add_row("ran their course", f"{outcome.effective} of {len(outcome.faults)}")
    settled = "no" if outcome.settled is None else f"{outcome.settled:.1f} s"
    table.add_row("at rest after", settled)
    return table
