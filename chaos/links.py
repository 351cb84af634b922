"""A TCP proxy on loopback between somebody and a server: its connections can be cut, stalled, refused, lied about."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from amends.embedded.ports import LOOPBACK

__all__ = ["ANSWERED", "COMMITTING", "Link"]

CHUNK = 1 << 16

ANSWERED = (b"appended", b"COMMIT")
"""What PostgreSQL's answer has in it when something has just been committed."""

COMMITTING = (b"COMMIT", b'"command_id"')
"""What a client says that is about to commit, or to append what a command led to, which commits by itself."""


class Link:
    """Somebody's way to a server.

    Args:
        name: whose way, where to.
        port: where the server listens.
    """

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self._server_port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._down: tuple[tuple[bytes, ...], int] = ((), 0)
        self._up: tuple[tuple[bytes, ...], int] = ((), 0)

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)

    @property
    def port(self) -> int:
        """Where to connect."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """End everything."""
        if self._server is not None:
            self._server.close()
        self.cut()
        self._flowing.set()

    def cut(self) -> int:
        """Reset every connection; says how many."""
        ends = list(self._writers)
        for end in ends:
            end.transport.abort()
        return len(ends) // 2

    def refuse(self) -> None:
        """Reset every connection and let nobody in, until `restore`."""
        self._refusing = True
        self.cut()

    def stall(self) -> None:
        """Pass nothing on, and close nothing, until `restore`."""
        self._flowing.clear()

    def lose_answers(self, marks: Iterable[bytes], count: int) -> None:
        """Cut the connection instead of passing on the server's next answers that have one of the marks in them."""
        self._down = (tuple(marks), count)

    def lose_questions(self, marks: Iterable[bytes], count: int) -> None:
        """Cut the connection instead of passing on the next questions that have one of the marks in them."""
        self._up = (tuple(marks), count)

    def restore(self) -> None:
        """All is well again."""
        self._refusing = False
        self._down = self._up = ((), 0)
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(LOOPBACK, self._server_port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, server_writer}
        self._writers |= ends
        pumps = {
            asyncio.create_task(self._pump(reader, server_writer, up=True)),
            asyncio.create_task(self._pump(server_reader, writer, up=False)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._writers -= ends
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in ends:
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._flowing.wait()
                if self._is_lost(data, up=up):
                    writer.transport.abort()
                    return
                writer.write(data)
                await writer.drain()

    def _is_lost(self, data: bytes, *, up: bool) -> bool:
        marks, left = self._up if up else self._down
        if not left or not any(mark in data for mark in marks):
            return False
        if up:
            self._up = (marks, left - 1)
        else:
            self._down = (marks, left - 1)
        return True
