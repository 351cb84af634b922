"""`amends saga …`: look at sagas, repair what is parked, cancel, sweep, begin anew or undo after a restore."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

import typer
from pydantic_core import from_json, to_json
from rich.text import Text

from amends.app import load_app
from amends.cli.doctor import open_log
from amends.cli.people import Json, answers, print_json, reached, screen, told_to_people
from amends.connect import connect
from amends.errors import InvalidInput
from amends.listing import ListedSaga
from amends.operator import Operator
from amends.redoing import Redoing, ended
from amends.repair import Abandon, Cancel, Repair, Resolve, Retry, SagaView, Skip
from amends.settings import Settings
from amends.visibility import SagaStatus

__all__ = ["sagas"]

T = TypeVar("T")

Saga = Annotated[str, typer.Argument(help="The saga's workflow id, e.g. order-4711.")]
Actor = Annotated[str, typer.Option("--actor", help="Who you are, for the audit log.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the audit log.")]
Step = Annotated[str | None, typer.Option("--step", help="Which parked step: its id, or the end of it.")]


def list_(
    status: Annotated[str | None, typer.Option(help="Only those that stand there, e.g. NeedsAttention.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    json: Json = False,
) -> None:
    """List sagas, the latest first."""
    known: tuple[str, ...] = SagaStatus.__args__  # type: ignore[attr-defined]
    if status is not None and status not in known:
        raise InvalidInput({"status": f"there is no {status!r}; there are {', '.join(known)}"})

    async def ask(operator: Operator) -> list[ListedSaga]:
        return [saga async for saga in operator.sagas(status, limit)]

    found = _asked(ask)
    if json:
        return print_json(found)
    out = answers()
    for saga in found:  # two lines each, for ids are long and terminals are not
        shown = saga.status
        if saga.settled_by:
            shown += f" (ended from outside, put right by {saga.settled_by})"
        elif not saga.open and not saga.ended_well:
            shown += " (ended from outside)"
        about = [saga.process, f"since {saga.started_at:%F %T}"]
        about += [f"at {saga.step}"] if saga.step else []
        about += [f"{key} {value}" for key, value in saga.keys.items()]
        out.print(Text.assemble((saga.workflow_id, "bold"), f"  {shown}"), soft_wrap=True)
        out.print(f"  {', '.join(about)}", style="dim", soft_wrap=True, highlight=False)
    if not found:
        screen.print("There is none.")


def show(saga: Saga, json: Json = False) -> None:
    """Show where a saga stands, and what waits for a repair."""
    view = _asked(lambda operator: operator.view(saga))
    if json:
        return print_json(view)
    _show(view)


def retry(
    saga: Saga,
    actor: Actor,
    reason: Reason,
    step: Step = None,
    input: Annotated[str | None, typer.Option(help="Other input for it, as JSON.")] = None,
) -> None:
    """Try a parked step once more."""
    _repair(saga, Retry(actor=actor, reason=reason, step=step, input=None if input is None else _json(input)))


def skip(saga: Saga, actor: Actor, reason: Reason, step: Step = None) -> None:
    """Leave a parked step undone, and let the saga go on."""
    _repair(saga, Skip(actor=actor, reason=reason, step=step))


def resolve(
    saga: Saga,
    actor: Actor,
    reason: Reason,
    done: Annotated[str, typer.Option(help="What was done by hand.")],
    step: Step = None,
) -> None:
    """Take a parked step as done by hand."""
    _repair(saga, Resolve(actor=actor, reason=reason, step=step, done=done))


def abandon(saga: Saga, actor: Actor, reason: Reason) -> None:
    """Give a parked saga up: what is not undone stays as it is."""
    _repair(saga, Abandon(actor=actor, reason=reason))


def cancel(saga: Saga, actor: Actor, reason: Reason) -> None:
    """Stop a saga and undo what it has done."""
    _repair(saga, Cancel(actor=actor, reason=reason))


def sweep(json: Json = False) -> None:
    """Find sagas that were terminated or timed out, and have them put right, now instead of within a minute."""
    found = _asked(lambda operator: operator.sweep())
    if json:
        return print_json(found)
    screen.print(f"{len(found)} sagas were ended from outside and are being put right." if found else "Nothing to do.")
    for saga in found:
        answers().print(saga, highlight=False, soft_wrap=True)


def redo(
    workflows: Annotated[list[str], typer.Argument(help="Sagas, children of one, or commands, by workflow id.")],
    actor: Actor,
    reason: Reason,
    wait: Annotated[float, typer.Option(min=0, help="Seconds in which one is to end before the next begins.")] = 30.0,
) -> None:
    """Let workflows begin anew after a restore, one when the other has ended; what the log knows is not done again."""
    _restored(workflows, lambda redoing, id: redoing.redo(id, actor, reason), "begins anew", wait)


def undo(saga: Saga, actor: Actor, reason: Reason) -> None:
    """Undo a saga that Temporal has forgotten, by what the log knows of it."""
    _restored([saga], lambda redoing, id: redoing.undo(id, actor, reason), "is being undone")


def sagas() -> typer.Typer:
    """The commands, to be mounted as `saga`."""
    line = typer.Typer(no_args_is_help=True, help="Look at sagas, repair what is parked, cancel, sweep.")
    for name, command in _COMMANDS.items():
        line.command(name)(told_to_people(command))
    return line


_COMMANDS: dict[str, Callable[..., Any]] = {
    "list": list_,
    "show": show,
    "retry": retry,
    "skip": skip,
    "resolve": resolve,
    "abandon": abandon,
    "cancel": cancel,
    "sweep": sweep,
    "redo": redo,
    "undo": undo,
}


def _restored(ids: Sequence[str], act: Callable[[Redoing, str], Awaitable[None]], done: str, wait: float = 0) -> None:
    async def each() -> None:
        settings = reached(Settings())
        client = await connect(settings)
        async with open_log(settings) as log:
            redoing = Redoing(client, log, settings, load_app(settings.app).process_managers)
            for number, id in enumerate(ids, 1):
                await act(redoing, id)
                screen.print(f"{id} {done}.", highlight=False, soft_wrap=True)
                if number == len(ids) and not wait:
                    continue
                end = await ended(client, id, wait)
                if end is None:
                    screen.print(f"{id} has not ended within {wait:g} s; it goes on.", highlight=False, soft_wrap=True)
                elif end:
                    failed.append(id)
                    screen.print(f"{id} has failed: {end}", style="red", highlight=False, soft_wrap=True)

    failed: list[str] = []
    asyncio.run(each())
    if failed:
        raise typer.Exit(1)


def _repair(saga: str, request: Repair) -> None:
    async def repair(operator: Operator) -> None:
        await operator.repair(saga, request)

    _asked(repair)
    screen.print(f"{type(request).__name__}: {saga} has taken it. `amends saga show {saga}` tells where it stands.")


def _asked(question: Callable[[Operator], Awaitable[T]]) -> T:
    async def ask() -> T:
        settings = reached(Settings())
        return await question(Operator(await connect(settings), settings.task_queue))

    return asyncio.run(ask())


def _show(view: SagaView) -> None:
    out = answers()
    for_what = f", for {view.reason}" if view.reason else ""
    out.print(Text.assemble((view.workflow_id, "bold"), f": {view.status}{for_what}"), soft_wrap=True)
    for step in view.parked:
        out.print()
        since = f" ({step.kind} {step.name}), parked since {step.since:%F %T}"
        out.print(Text.assemble((step.title, "bold"), since), soft_wrap=True)
        out.print(f"  step   {step.step}", soft_wrap=True, highlight=False)
        out.print(f"  why    {step.why}", soft_wrap=True, highlight=False)
        out.print(f"  input  {to_json(step.input).decode()}", soft_wrap=True, highlight=False)


def _json(text: str) -> Any:
    try:
        return from_json(text)
    except ValueError as error:
        raise InvalidInput({"input": f"is no JSON: {error}"}) from None
