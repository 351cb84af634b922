"""Mounting one process inside another's workflow."""

from __future__ import annotations

from temporalio import workflow

__all__ = ["join_handlers"]


def join_handlers(process: object) -> None:
    """Let the signals, queries and updates of a process mounted inline reach it through this workflow."""
    own = workflow._Definition.must_from_class(type(workflow.instance()))
    definition = workflow._Definition.must_from_class(type(process))
    for signal in definition.signals.values():
        if signal.name is not None and signal.name not in own.signals:
            workflow.set_signal_handler(signal.name, signal.bind_fn(process))
    for query in definition.queries.values():
        if query.name is not None and query.name not in own.queries:
            workflow.set_query_handler(query.name, query.bind_fn(process))
    for update in definition.updates.values():
        if update.name is not None and update.name not in own.updates:
            validator = update.bind_validator(process) if update.validator else None
            workflow.set_update_handler(update.name, update.bind_fn(process), validator=validator)
