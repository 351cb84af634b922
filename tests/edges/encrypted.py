"""TLS in front of servers that have none: the PostgreSQL and the Temporal that come inside wheels."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.edges.certificates import Authority, Issued

__all__ = ["encrypted_postgres", "encrypted_temporal"]

LOOPBACK = "127.0.0.1"

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""How a client of PostgreSQL asks for TLS, before anything else; whatever else it asks for first is declined."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def encrypted_postgres(url: str, server: Issued) -> AsyncIterator[str]:
    """The same database by another port, where TLS is spoken as PostgreSQL speaks it."""
    context = _context(server)
    parts = conninfo_to_dict(url)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readexactly(len(SSL_REQUEST)) != SSL_REQUEST:
            writer.write(b"N")
        writer.write(b"S")
        await writer.start_tls(context)

    async with _forwarding(str(parts["host"]), int(str(parts["port"])), accept, None) as port:
        yield make_conninfo(url, host=LOOPBACK, port=port)


@asynccontextmanager
async def encrypted_temporal(address: str, server: Issued, clients: Authority) -> AsyncIterator[str]:
    """The same Temporal by another port, for clients who show a certificate of that authority."""
    context = _context(server)
    context.load_verify_locations(clients.cert)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """TLS comes first of all."""

    async with _forwarding(host, int(port), accept, context) as own:
        yield f"{LOOPBACK}:{own}"


def _context(server: Issued) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.cert, server.key)
    return context


@asynccontextmanager
async def _forwarding(
    host: str,
    port: int,
    accept: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    context: ssl.SSLContext | None,
) -> AsyncIterator[int]:
    """A port where each connection is accepted, then led on, byte by byte."""
    running: set[asyncio.Task[None]] = set()

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back: asyncio.StreamWriter | None = None
        try:
            await accept(reader, writer)
            there, back = await asyncio.open_connection(host, port)
            ways = {asyncio.create_task(copy(reader, back)), asyncio.create_task(copy(there, writer))}
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.IncompleteReadError):
            pass  # who does not trust us hangs up
        finally:
            for end in (writer, back):
                if end is not None:
                    end.close()
                    with suppress(OSError):
                        await end.wait_closed()

    async def led(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        with suppress(asyncio.CancelledError):
            await lead(reader, writer)
        running.discard(task)

    listening = await asyncio.start_server(led, LOOPBACK, 0, ssl=context)
    try:
        yield int(listening.sockets[0].getsockname()[1])
    finally:
        listening.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
