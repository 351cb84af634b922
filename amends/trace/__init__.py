"""What belongs to one piece of business, from the log: workflows, commands, events, readers."""

from amends.trace.log import trace_of
from amends.trace.model import Asked, Led, Reader, Trace, Workflow

__all__ = ["Asked", "Led", "Reader", "Trace", "Workflow", "trace_of"]
