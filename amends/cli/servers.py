"""Commands that run servers and workers, and prepare the database."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import typer
from psycopg.conninfo import conninfo_to_dict

from amends.app import App, install, load_app
from amends.cli.joining import joined
from amends.cli.people import screen
from amends.codec_endpoint import CodecEndpoint
from amends.database import reader_url, told_url
from amends.embedded import Running, Stack
from amends.encryption import Encryption, KeyRing
from amends.errors import StartupError
from amends.settings import Settings
from amends.visibility import SEARCH_ATTRIBUTES
from amends.worker import run_worker

__all__ = ["codec", "migrate", "open_stack", "shown_url", "up", "worker"]

Fresh = Annotated[bool, typer.Option("--fresh", help="Delete what earlier runs left, and start empty.")]

Join = Annotated[
    bool, typer.Option("--join", help="Work for the servers of `amends up` in this folder; waits until they are ready.")
]


def open_stack(app: App, settings: Settings, *, fresh: bool = False) -> Stack:
    """Servers and worker for an application, as `amends up` runs them.

    Args:
        app: its search attributes are registered, its schema installed.
        settings: ports, data folder, servers of your own.
        fresh: start empty.
    """
    return Stack(
        settings,
        search_attributes={**SEARCH_ATTRIBUTES, **app.search_attributes},
        worker_command=[sys.executable, "-m", "amends", "worker", "--join"],
        worker_joins=True,
        prepare=lambda url: install(app, url if settings.owner is None else settings.owner.get_secret_value()),
        fresh=fresh,
        worker_output="file",
    )


def up(fresh: Fresh = False) -> None:
    """Start PostgreSQL, Temporal with its Web UI, and a worker; stay until Ctrl-C."""
    settings = Settings()
    with ExitStack() as ending:
        with screen.status("Starting PostgreSQL, Temporal and a worker …"):
            stack = ending.enter_context(open_stack(load_app(settings.app), settings, fresh=fresh))
        _show_addresses(stack.running, settings)
        screen.print("Ctrl-C ends all of it; the data stay.", style="dim")
        stack.run()
        screen.print("Ending: the worker finishes what it has begun …", style="dim")


def worker(join: Join = False) -> None:
    """Run a worker against the servers that the settings name; SIGTERM drains it."""
    settings = Settings()
    app = load_app(settings.app)
    asyncio.run(run_worker(app, joined(settings) if join else settings))


def codec(
    origin: Annotated[
        list[str] | None, typer.Option(help="Address of a Web UI whose pages may ask, e.g. http://127.0.0.1:8233.")
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8081,
) -> None:
    """Let Temporal's Web UI and CLI show encrypted payloads in clear, to whoever has AMENDS_CODEC_TOKEN."""
    settings = Settings()
    keys, token = settings.payload_keys, settings.codec_token
    if keys is None or token is None:
        raise StartupError("Set AMENDS_PAYLOAD_KEYS, the keys, and AMENDS_CODEC_TOKEN, by which people are known")
    encryption = Encryption(KeyRing(keys.get_secret_value()))
    with (
        CodecEndpoint(encryption, token.get_secret_value(), origin or [], host, port) as endpoint,
        suppress(KeyboardInterrupt),
    ):
        screen.print(f"CLI      temporal … --codec-endpoint {endpoint.address} --codec-auth 'Bearer <the token>'")
        screen.print(f"Web UI   as its codec endpoint: {endpoint.address}/<the token>; Ctrl-C ends this.")
        endpoint.serve_forever()


def migrate() -> None:
    """Bring the database to the schema that this code needs; safe to repeat."""
    settings = Settings()
    if settings.database_url is None or settings.owner is None:
        raise StartupError(
            "Say which database: set AMENDS_DATABASE_URL (an owner of the schema, or AMENDS_OWNER_URL too)"
        )
    install(load_app(settings.app), settings.owner.get_secret_value())
    screen.print("The schema is up to date.")


def _show_addresses(running: Running, settings: Settings) -> None:
    url = shown_url(running, settings)
    addresses = {
        "Web UI": running.web_ui or "(of your own server)",
        "Temporal": running.temporal_address,
        "PostgreSQL": url,
        "SQL": f"{reader_url(url)}  (the views, read-only)",
        "Logs": str(settings.home / "log"),
    }
    for name, address in addresses.items():
        screen.print(f"{name:<11} {address}", soft_wrap=True, highlight=False)


def shown_url(running: Running, settings: Settings) -> str:
    """The database's address for people: without its password, which `psql` finds in a file that the address names."""
    return told_url(running.database_url, _passfile(running, settings) if settings.database_url is None else None)


def _passfile(running: Running, settings: Settings) -> Path:
    """The embedded database's password in a file that only this account can read, so that no terminal shows it."""
    parts = conninfo_to_dict(running.database_url)
    file = settings.home.resolve() / "pgpass"
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
        written.write(f"{parts['host']}:*:*:{parts['user']}:{parts['password']}\n")
    return file
