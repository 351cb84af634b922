"""Stands between a client and PostgreSQL, and loses the answer to what the server has already done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

from psycopg.conninfo import conninfo_to_dict, make_conninfo

__all__ = ["LossyProxy", "lossy"]

CHUNK = 1 << 16


class LossyProxy:
    """Passes bytes on until it is told otherwise.

    Args:
        url: the database behind it.
    """

    def __init__(self, url: str) -> None:
        self._parts = conninfo_to_dict(url)
        self._next: Literal["pass", "lose", "hold"] = "pass"
        self._hangs_up = False
        self.answered = asyncio.Event()
        self.release = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def lose_next_answer(self) -> None:
        """Closes the client's connection when the server has answered, instead of telling it."""
        self._next = "lose"

    def hold_next_answer(self) -> None:
        """Keeps the server's next answer back until `release` is set."""
        self._next = "hold"

    def hang_up_after_next_request(self) -> None:
        """Closes the client's connection when its request has gone out to the server, which may act on it still."""
        self._hangs_up = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        if (serving := asyncio.current_task()) is not None:
            self._tasks.add(serving)
        server_reader, server_writer = await asyncio.open_connection(
            str(self._parts["host"]), int(str(self._parts["port"]))
        )
        up = asyncio.create_task(self._up(reader, server_writer, writer))
        self._tasks.add(up)
        try:
            while data := await server_reader.read(CHUNK):
                what, self._next = self._next, "pass"
                if what != "pass":
                    self.answered.set()
                if what == "lose":
                    break
                if what == "hold":
                    await self.release.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            up.cancel()
            for end in (writer, server_writer):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

    async def _up(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                writer.write(data)
                await writer.drain()
                if self._hangs_up:
                    self._hangs_up = False
                    client.close()
                    return
            writer.write_eof()

    async def finish(self) -> None:
        """Waits for what is still under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def lossy(url: str) -> AsyncIterator[tuple[LossyProxy, str]]:
    """A proxy before a database, and the URL that leads through it."""
    proxy = LossyProxy(url)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield proxy, make_conninfo(url, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
    finally:
        server.close()
        await proxy.finish()
