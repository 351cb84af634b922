"""`python -m amends` is the `amends` command."""

from amends.cli import main

main()
