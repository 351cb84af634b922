"""Payloads that nobody reads who has no key: what Temporal stores of workflows, encrypted where it is made.

AES-256 in Galois/Counter Mode (NIST SP 800-38D), a random nonce for each payload; the key's id and what the payload is
are authenticated with it, so that neither can be exchanged. New payloads take the first key; each says which one it
was, so that older ones stay readable as long as their key is listed, and those from before there were keys are read as
they are.
"""

from __future__ import annotations

import os
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes, PayloadCodec

from amends.errors import KeyMissing, StartupError
from amends.received import CheckedConverter

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from amends.settings import Settings

__all__ = ["ENCODING", "Encryption", "KeyRing", "converter"]

ENCODING = b"binary/encrypted"
"""How encrypted payloads are told from others, as Temporal's own examples have it."""

CIPHER = b"AES-256-GCM"

KEY_BYTES, NONCE_BYTES = 32, 12


PLAIN = "plain"
"""In the place of the first key: encrypt nothing yet, but read what others have encrypted."""


class KeyRing:
    """The keys, by id; the first one encrypts.

    Args:
        text: `id:key,id:key`, each key 32 bytes in base64; `plain` may stand first, or alone.

    Raises:
        StartupError: it can't be that; never quotes a key.
    """

    def __init__(self, text: str) -> None:
        self._keys: dict[str, bytes] = {}
        entries = [entry.strip() for entry in text.split(",")]
        encrypts = entries[0] != PLAIN
        for place, entry in enumerate(entries, 1):
            if place == 1 and not encrypts:
                continue
            id, colon, encoded = entry.partition(":")
            if not (colon and id and id.isascii() and id.isprintable()):
                raise StartupError(
                    f"AMENDS_PAYLOAD_KEYS, entry {place}: write it as id:key, e.g. 2026-11:… in base64; or set it to "
                    f"{PLAIN!r} to encrypt nothing"
                )
            try:
                key = b64decode(encoded, validate=True)
            except (NotBase64, ValueError):
                key = b""
            if len(key) != KEY_BYTES:
                raise StartupError(
                    f"AMENDS_PAYLOAD_KEYS: the key {id!r} is not {KEY_BYTES} bytes in base64; make one by "
                    "`openssl rand -base64 32`"
                )
            if id in self._keys:
                raise StartupError(f"AMENDS_PAYLOAD_KEYS: the key id {id!r} is there twice")
            self._keys[id] = key
        self.current = next(iter(self._keys)) if encrypts else None
        if self._keys:
            _ = self._ciphers  # what is missing is told now, rather than in the middle of a saga

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._keys)})"

    @cached_property
    def _ciphers(self) -> Mapping[str, AESGCM]:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return {id: AESGCM(key) for id, key in self._keys.items()}

    def find(self, id: str) -> AESGCM:
        """The cipher of a key.

        Raises:
            KeyMissing: it is not listed.
        """
        try:
            return self._ciphers[id]
        except KeyError:
            raise KeyMissing(
                f"A payload was encrypted with the key {id!r}, which AMENDS_PAYLOAD_KEYS does not list; add it behind "
                "the others"
            ) from None


class Encryption(PayloadCodec):
    """Encrypts what goes to Temporal and decrypts what comes from there.

    Args:
        keys: by which.
    """

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt each payload, with what it says of itself; without a current key, leave it."""
        current = self._keys.current
        return list(payloads) if current is None else [self._sealed(payload, current) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt those that are encrypted; others are as they were.

        Raises:
            KeyMissing: there is no such key, or it is another one of the same id, or somebody has changed the payload.
        """
        return [self._opened(p) if p.metadata.get("encoding") == ENCODING else p for p in payloads]

    def _sealed(self, payload: Payload, id: str) -> Payload:
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._keys.find(id).encrypt(nonce, payload.SerializeToString(), _bound(id))
        labels = {"encoding": ENCODING, "encryption-cipher": CIPHER, "encryption-key-id": id.encode()}
        return Payload(metadata=labels, data=nonce + sealed)

    def _opened(self, payload: Payload) -> Payload:
        from cryptography.exceptions import InvalidTag

        id = payload.metadata.get("encryption-key-id", b"").decode(errors="replace")
        nonce, sealed = payload.data[:NONCE_BYTES], payload.data[NONCE_BYTES:]
        try:
            return Payload.FromString(self._keys.find(id).decrypt(nonce, sealed, _bound(id)))
        except (InvalidTag, ValueError):
            raise KeyMissing(
                f"A payload is not what was encrypted with the key {id!r}: the key listed under that id is another "
                "one, or the payload was changed"
            ) from None


def converter(settings: Settings) -> DataConverter:
    """How values become payloads: plain JSON, or encrypted where keys are set; failures' messages and traces too.

    Without keys too, a codec looks at every payload: one that is encrypted then fails the workflow task, which is tried
    again until the key is there. To a mere converter it would be a bad argument, and a signal that has one is dropped.

    Args:
        settings: its payload_keys.

    Raises:
        StartupError: the keys can't be read.
    """
    ring = KeyRing(PLAIN if settings.payload_keys is None else settings.payload_keys.get_secret_value())
    sealing: dict[str, Any] = {"payload_codec": Encryption(ring), "payload_converter_class": CheckedConverter}
    if ring.current is not None:
        sealing["failure_converter_class"] = DefaultFailureConverterWithEncodedAttributes
    return replace(pydantic_data_converter, **sealing)


def _bound(id: str) -> bytes:
    return b"amends.payload:" + id.encode()
