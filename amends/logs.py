"""Logging: structured everywhere, silent while a workflow replays, personal fields never in it."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog
from temporalio import workflow
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter

from amends.settings import Settings
from amends.visibility import MEMO, SagaMemo

__all__ = ["configure_logs"]

CORE = TelemetryFilter(core_level="WARN", other_level="ERROR")
"""What the Temporal client's native part may say; in our format, not its own."""

EventDict = MutableMapping[str, Any]


class _StandardError:
    """Where standard error leads at the moment of writing.

    Loggers live as long as the process; what stood in its place for a while (a pager, a test) may be closed by then.
    """

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure_logs(settings: Settings) -> None:
    """Set up structlog and the standard library's logging for this process.

    Args:
        settings: `log_format` json, pretty, or auto (pretty on a terminal); `log_level` the least severe shown.
    """
    pretty = settings.log_format == "pretty" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _of_workflow,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if pretty
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    )
    level = getattr(logging, settings.log_level.upper())
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _StandardError())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(_StandardError())
    chain = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=chain))
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    core = LoggingConfig(CORE, forwarding=LogForwardingConfig(logger=logging.getLogger("temporalio.core")))
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=core)), error_if_already_set=False)


def _of_workflow(logger: Any, method: str, event: EventDict) -> EventDict:
    """Inside a workflow: say which one, and say nothing that an earlier execution has said already."""
    if not workflow.in_workflow():
        return event
    if workflow.unsafe.is_replaying():
        raise structlog.DropEvent
    info = workflow.info()
    event.setdefault("workflow_id", info.workflow_id)
    event.setdefault("correlation_id", info.root.workflow_id if info.root else info.workflow_id)
    memo = workflow.memo_value(MEMO, default=None, type_hint=SagaMemo)
    for label, value in (memo.labels if memo else {}).items():
        event.setdefault(label, value)
    return event
