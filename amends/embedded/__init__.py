"""Real servers on one machine: PostgreSQL, Temporal with its Web UI, and the worker, as child processes."""

from amends.embedded.home import Running, running
from amends.embedded.ports import claim_port, free_port, prefer_port
from amends.embedded.postgres import EmbeddedPostgres
from amends.embedded.stack import Stack
from amends.embedded.temporal import EmbeddedTemporal

__all__ = [
    "EmbeddedPostgres",
    "EmbeddedTemporal",
    "Running",
    "Stack",
    "claim_port",
    "free_port",
    "prefer_port",
    "running",
]
