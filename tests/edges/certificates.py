"""Certificates of our own making, for an hour: an authority, servers, clients."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Authority", "Issued"]


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """Who signs certificates; `cert` is what those trust who trust it.

    Args:
        folder: where files go.
        name: of the authority, and of its files.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, _named(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        made = _begun(self._name, self._name, self._key)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.cert = _written(folder / f"{name}.pem", made.sign(self._key, hashes.SHA256()))

    def issue(self, name: str, *, ip: str = "127.0.0.1") -> Issued:
        """A certificate for a server at an address, or for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _begun(_named(name), self._name, key)
        where = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ip))])
        cert = _written(
            self._folder / f"{name}.pem", made.add_extension(where, critical=False).sign(self._key, hashes.SHA256())
        )
        file = self._folder / f"{name}.key"
        pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        file.write_bytes(key.private_bytes(*pem))
        file.chmod(0o600)
        return Issued(cert, file)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _begun(name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
    )


def _written(file: Path, cert: x509.Certificate) -> Path:
    file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    return file
