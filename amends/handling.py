"""What is done when an event happens: at most one function for each event of a projection or a process manager."""

from __future__ import annotations

from typing import TypeVar

from amends.messages import Event

__all__ = ["handle"]

H = TypeVar("H")


def handle(owner: str, handlers: dict[str, H], event: type[Event], handler: H) -> None:
    """Add a function to those of its owner.

    Args:
        owner: whose, for messages.
        handlers: the owner's, by message name.
        event: the class.
        handler: the function.

    Raises:
        TypeError: the event has a function already, or no name.
    """
    name = event.message_name
    if not name:
        raise TypeError(f"{event.__qualname__} has no message name, so it is never in the feed")
    if name in handlers:
        raise TypeError(f"{owner} handles {name!r} already, by {handlers[name]!r}")
    handlers[name] = handler
