"""Certificates of the tests' own: two authorities that do not know each other, and what they have signed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme

LONG_AGO = datetime(2020, 1, 1)  # noqa: DTZ001 - trustme takes it as it is


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates and writes them as files into `directory`."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._authority = trustme.CA()
        self.certificate = directory / f"{name}.pem"
        self._authority.cert_pem.write_to_path(self.certificate)

    def issue(self, name: str, *hosts: str, expired: bool = False) -> Pair:
        """For a service of that name, or a server at these hosts."""
        issued = self._authority.issue_cert(
            *(hosts or (name,)), common_name=name, not_after=LONG_AGO if expired else None
        )
        stem = f"{self._name}-{name}{'-expired' if expired else ''}"
        pair = Pair(self._directory / f"{stem}.pem", self._directory / f"{stem}.key")
        pair.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(pair.key)
        pair.key.chmod(0o600)
        return pair
