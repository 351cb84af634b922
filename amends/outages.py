"""What is said when Temporal does not answer: where it was asked, and what may have come of it."""

from __future__ import annotations

from temporalio.service import RPCError, RPCStatusCode

from amends.errors import Unavailable

__all__ = ["first_line", "temporal_away"]

_REFUSED = {
    RPCStatusCode.INVALID_ARGUMENT,
    RPCStatusCode.NOT_FOUND,
    RPCStatusCode.PERMISSION_DENIED,
    RPCStatusCode.UNAUTHENTICATED,
    RPCStatusCode.FAILED_PRECONDITION,
    RPCStatusCode.UNIMPLEMENTED,
}
"""How a server says no that has understood: nothing has come of it."""


def temporal_away(error: RPCError, address: str = "", wanted: str | None = None) -> Unavailable:
    """Temporal does not answer a request, or refuses it.

    Args:
        error: as it came.
        address: where it was asked; empty where nobody knows.
        wanted: what was to be done, and how it is asked for again; None when it was a mere question.
    """
    where = f"Temporal at {address}" if address else "Temporal"
    if error.status in _REFUSED:
        return Unavailable(
            f"{where} refuses it ({error.status.name}): {first_line(error)}. See AMENDS_TEMPORAL_NAMESPACE, and what "
            "Temporal's own environment says about keys and certificates",
            server="Temporal",
        )
    hope = f"It is not known what became of {wanted}" if wanted else "Ask again when it is back"
    return Unavailable(
        f"{where} does not answer: {first_line(error)}. {hope}. See whether it runs, and AMENDS_TEMPORAL_ADDRESS",
        server="Temporal",
        maybe_done=wanted is not None,
    )


def first_line(error: BaseException) -> str:
    """What an error says, in one line without its full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
