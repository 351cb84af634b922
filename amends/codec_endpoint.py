"""Shows encrypted payloads in clear to people who may see them: what Temporal's Web UI and CLI ask for that.

The protocol is Temporal's for remote codecs: POST /decode and /encode, payloads as JSON both ways.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from hmac import compare_digest
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import MessageToJson, Parse, ParseError
from temporalio.api.common.v1 import Payloads

from amends.encryption import Encryption
from amends.errors import KeyMissing, StartupError

__all__ = ["CodecEndpoint"]

LARGEST = 4 * 1024 * 1024
"""Bytes of a request, which is what Temporal takes in one message."""

LENGTH = re.compile("[0-9]{1,9}")
"""How a length is told."""

SHORTEST_TOKEN = 16
"""Characters; a shorter one can be guessed."""

TOKEN = re.compile(rf"[A-Za-z0-9._~-]{{{SHORTEST_TOKEN},}}")
"""What stands in a path as it is."""

PATIENCE = 30.0
"""Seconds for which a connection may say nothing."""


class CodecEndpoint(ThreadingHTTPServer):
    """The endpoint: `with CodecEndpoint(…) as endpoint: endpoint.serve_forever()`.

    Whoever asks shows the token as `Authorization: Bearer …`, or, as the Web UI can't without a login of its own, as
    the first part of the path.

    Args:
        encryption: has the keys.
        token: by which people are known.
        origins: addresses of Web UIs whose pages may ask, e.g. `http://127.0.0.1:8233`.
        host: where it listens.
        port: 0 takes a free one.

    Raises:
        StartupError: the token is too short, or somebody else listens there.
    """

    daemon_threads = True

    request_queue_size = 128
    """A page of the Web UI asks for all its payloads at once; those who find no place in the queue are cut off."""

    def __init__(
        self, encryption: Encryption, token: str, origins: Collection[str], host: str = "127.0.0.1", port: int = 0
    ) -> None:
        if not TOKEN.fullmatch(token):
            raise StartupError(
                f"AMENDS_CODEC_TOKEN wants at least {SHORTEST_TOKEN} letters, digits, dots, dashes or underscores, "
                "e.g. of `openssl rand -hex 16`"
            )
        self.encryption, self.token = encryption, token
        self.origins = frozenset(origin.rstrip("/") for origin in origins)
        try:
            super().__init__((host, port), _Request)
        except OSError as error:
            raise StartupError(f"The codec endpoint can't listen on {host}:{port} ({error.strerror})") from error

    @property
    def address(self) -> str:
        """Where it is reached, without the token."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: whoever hangs up in the middle is no news, and what broke is told to who asked."""


class _Request(BaseHTTPRequestHandler):
    server: CodecEndpoint
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def do_OPTIONS(self) -> None:
        """Tell a browser whether a page may ask."""
        self._answer(HTTPStatus.NO_CONTENT, b"")

    def do_POST(self) -> None:
        """Decode or encode, for whoever shows the token."""
        work, length = self._asked_for(), self.headers.get("Content-Length", "")
        if work is None:
            self.close_connection = True  # nothing is read for somebody we don't know
            return self._answer(HTTPStatus.UNAUTHORIZED, b"Show the token")
        if not LENGTH.fullmatch(length) or int(length) > LARGEST:
            self.close_connection = True
            return self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"Too large, or of no told length")
        body = self.rfile.read(int(length))
        try:
            asked = Parse(body.decode(), Payloads())
            step = {"decode": self.server.encryption.decode, "encode": self.server.encryption.encode}[work]
            told = Payloads(payloads=asyncio.run(step(asked.payloads)))
        except (ParseError, UnicodeDecodeError):
            return self._answer(HTTPStatus.BAD_REQUEST, b"No payloads in Temporal's JSON")
        except KeyError:
            return self._answer(HTTPStatus.NOT_FOUND, b"There are /decode and /encode")
        except KeyMissing as missing:
            return self._answer(HTTPStatus.UNPROCESSABLE_ENTITY, str(missing).encode())
        self._answer(HTTPStatus.OK, MessageToJson(told).encode(), "application/json")

    def _asked_for(self) -> str | None:
        """What is to be done; None for somebody without the token."""
        *before, work = self.path.strip("/").split("/")
        shown = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if not shown and len(before) == 1:
            shown = before.pop()
        known = compare_digest(shown.encode(errors="replace"), self.server.token.encode()) and not before
        return work if known else None

    def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        origin = self.headers.get("Origin")
        if origin in self.server.origins:
            self.send_header("Access-Control-Allow-Origin", str(origin))
            self.send_header("Access-Control-Allow-Methods", "POST, OPTIONS")
            self.send_header("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Namespace")
            self.send_header("Access-Control-Allow-Credentials", "true")
            self.send_header("Access-Control-Allow-Private-Network", "true")
            self.send_header("Vary", "Origin")
        self.send_header("Cache-Control", "no-store")
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: paths may hold the token."""
