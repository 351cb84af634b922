"""The `amends` command line; an application's own commands join it."""

from amends.cli.program import main
from amends.cli.servers import open_stack, shown_url

__all__ = ["main", "open_stack", "shown_url"]
