"""What can go wrong at a step of a saga, and where the saga may stand in the end."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Fault", "Phase", "expected", "parks"]


class Fault(StrEnum):
    """What goes wrong at a step, or at the undo of one; the value is how it reads in the name of a test."""

    REFUSED = "is refused"
    DOWN = "fails for hours before it acts"
    ANSWER_LOST = "acts and its answer is lost"
    HANGS = "times out without having acted"
    ACTS_AND_HANGS = "times out having acted"
    ACTS_LATE = "times out and acts after the end"
    TWICE = "acts twice"
    CANCELLED = "is cancelled before it acts"
    CANCELLED_AFTER = "is cancelled when it has acted"
    WITHDRAWN = "is withdrawn before it acts"
    WITHDRAWN_AFTER = "is withdrawn when it has acted"
    TERMINATED = "is terminated and acts late"
    TERMINATED_AFTER = "is terminated when it has acted"
    KILLED = "loses its worker before it acts"
    KILLED_AFTER = "loses its worker when it has acted"

    @property
    def kills(self) -> bool:
        """Whether a worker process is killed for it."""
        return self in (Fault.KILLED, Fault.KILLED_AFTER)

    @property
    def times_out(self) -> bool:
        """Whether an attempt hangs until its time is over."""
        return self in (Fault.HANGS, Fault.ACTS_AND_HANGS, Fault.ACTS_LATE)

    @property
    def terminates(self) -> bool:
        """Whether the saga's workflow is terminated."""
        return self in (Fault.TERMINATED, Fault.TERMINATED_AFTER)

    @property
    def withdraws(self) -> bool:
        """Whether the saga is cancelled in the application's own way."""
        return self in (Fault.WITHDRAWN, Fault.WITHDRAWN_AFTER)


class Phase(StrEnum):
    """Where in its saga a step stands: before the pivot there is a way back, after it there is none.

    The end is one that was reached without a pivot, so that there is still a way back.
    """

    COMMAND = "command"
    CALL = "call"
    PIVOT = "pivot"
    FORWARD = "forward"
    UNDO = "undo"
    END = "end"


_COMPLETED, _COMPENSATED = frozenset({"Completed"}), frozenset({"Compensated"})
_EITHER = _COMPLETED | _COMPENSATED
_CANCELS = (Fault.CANCELLED, Fault.CANCELLED_AFTER)


def expected(phase: Phase, fault: Fault) -> frozenset[str]:
    """The final states that a saga may come to.

    Args:
        phase: of the step.
        fault: what went wrong there.
    """
    if phase is Phase.UNDO:
        return _COMPENSATED
    if phase is Phase.PIVOT:
        return _COMPENSATED if fault in (Fault.REFUSED, Fault.TERMINATED) else _COMPLETED
    if phase is Phase.FORWARD:
        return _COMPLETED
    if phase is Phase.END:
        return _EITHER if fault.terminates or fault.withdraws or fault in _CANCELS else _COMPLETED
    if fault is Fault.REFUSED or fault is Fault.TERMINATED:
        return _COMPENSATED
    if phase is Phase.COMMAND and (fault in _CANCELS or fault is Fault.TERMINATED_AFTER):
        return _EITHER  # commands go on until their workflow hears of it, which may be after the pivot, or the end
    if fault is Fault.TERMINATED_AFTER:
        return _COMPENSATED
    if fault.withdraws:
        return _EITHER  # it depends on whether it was accepted
    if fault.times_out:
        # whoever asks what became of a call may learn that it was done
        return _EITHER if phase is Phase.CALL and fault is Fault.ACTS_AND_HANGS else _COMPENSATED
    return _COMPENSATED if fault in _CANCELS else _COMPLETED


def parks(phase: Phase, fault: Fault) -> bool:
    """Whether the saga has to wait for a person on its way, who then lets it try again.

    Args:
        phase: of the step.
        fault: what went wrong there.
    """
    if phase is Phase.UNDO:
        return fault is Fault.REFUSED or fault.times_out
    return phase is Phase.FORWARD and fault is Fault.REFUSED
