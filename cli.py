"""The shop's own commands of the `amends` command line, besides the demo."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from amends.cli.people import answers, screen, told_to_people

if TYPE_CHECKING:
    from workflows.forget_customer import ErasureCertificate

__all__ = ["forget"]


@told_to_people
def forget(
    customer: Annotated[str, typer.Argument(help="The customer's id.")],
    actor: Annotated[str, typer.Option("--actor", help="Who you are, for the record.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record; nothing personal.")],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask whether that is meant.")] = False,
) -> None:
    """Forget a customer for good: orders and revenue stay, who it was can't be read any more."""
    if not yes:
        typer.confirm(f"Nobody can bring back who {customer} is. Go on?", abort=True)
    certificate = asyncio.run(_forgotten(customer, actor, reason))
    out, erased = answers(), certificate.erased
    out.print(f"{customer} is forgotten: the key was destroyed at {erased.at:%F %T %Z}.", highlight=False)
    out.print(
        f"{erased.sealed} events can't be read any more, and {len(certificate.read_models)} read models are scrubbed."
    )
    out.print(f"The certificate: select * from views.erasures where customer_id = '{customer}'", highlight=False)
    if erased.in_clear:
        screen.print(
            f"{erased.in_clear} events were written before personal data were sealed, and stay as they are: "
            "see docs/erasure.md",
            style="red",
        )
        raise typer.Exit(1)


async def _forgotten(customer: str, actor: str, reason: str) -> ErasureCertificate:
    from client import Shop

    async with await Shop.connect(actor=actor) as shop:
        return await shop.forget(customer, reason)
