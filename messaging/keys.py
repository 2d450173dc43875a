"""Keys that services sign with: files of JSON Web Keys (RFC 7517, Ed25519 as in RFC 8037), read and written.

A key has an id, and the service that it speaks for. One half is private, and of one service; the other is public, and
every reader has it. Nothing here computes: who only reads keys loads no cryptography.
"""

from __future__ import annotations

import json
import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_BYTES = 32
"""Of an Ed25519 key, either half, and of an AES-256 key."""
_PRIVATE = 0o600
_MAKER = "amends keys new"


class UnusableKey(ValueError):
    """A key that cannot be used; says which, where, and how to mend it."""


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


Identified = TypeVar("Identified", bound=_Identified)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What proves that a service has signed. From `retired` on it proves nothing any more."""

    id: str
    service: str
    public: bytes
    retired: datetime | None = None

    def is_retired(self, now: datetime) -> bool:
        """Whether nobody takes what it signs, or has signed."""
        return self.retired is not None and self.retired <= now


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """What a service signs with. Never shown."""

    id: str
    service: str
    public: bytes
    private: bytes = field(repr=False)

    @property
    def public_half(self) -> PublicKey:
        return PublicKey(self.id, self.service, self.public)


def require_library(what: str = "signatures need") -> None:
    """Raise UnusableKey where nothing here can compute with keys; `what` begins the sentence."""
    if find_spec("cryptography") is None:
        raise UnusableKey(f"{what} the package cryptography: pip install 'amends[crypto]'")


def private_key(text: str) -> PrivateKey:
    """The key that a file made by `amends keys new` holds. Raises UnusableKey, which never quotes it."""
    said = _object(text, "the private key")
    if "d" not in said:
        raise UnusableKey(
            "the private key is only a public half (it has no d); give what `amends keys new` has written"
        )
    found = _public(said, "the private key")
    return PrivateKey(found.id, found.service, found.public, raw(said, "d", "the private key"))


def public_keys(path: Path) -> dict[str, PublicKey]:
    """By id, from a file with one key or a set of them (`{"keys": [...]}`), or a folder of `*.json`.

    Raises UnusableKey, also where two have one id, or a private one lies among them.
    """
    return by_id(path, "public keys", "amends keys new", _public_only)


def by_id(
    path: Path, what: str, maker: str, parse: Callable[[Mapping[str, Any], str], Identified]
) -> dict[str, Identified]:
    """What `parse` makes of each key in a file or a folder of `*.json`, told where that is.

    `what` they are called, and `maker` is the command that makes them. Raises UnusableKey.
    """
    try:
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        texts = {str(each): each.read_text(encoding="utf-8") for each in files}
    except OSError as error:
        raise UnusableKey(f"{error.filename or path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise UnusableKey(f"{path} is no UTF-8 text") from None
    if not texts:
        raise UnusableKey(f"{path} holds no {what} (*.json); make one with `{maker}`")
    found: dict[str, Identified] = {}
    for where, text in texts.items():
        for each in _each(_object(text, where, maker), where):
            key = parse(each, where)
            if key.id in found:
                raise UnusableKey(f"{where}: there are two keys of the id {key.id!r}; each needs one of its own")
            found[key.id] = key
    return found


def _public_only(said: Mapping[str, Any], where: str) -> PublicKey:
    if "d" in said:
        raise UnusableKey(f"{where} holds a private key; only public halves belong there. Make a new one")
    return _public(said, where)


def new(service: str, identity: str | None = None) -> PrivateKey:
    """A key that nobody has seen. By default its id is the service's name and the beginning of the key.

    Raises UnusableKey.
    """
    require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    made = Ed25519PrivateKey.generate()
    public = made.public_key().public_bytes_raw()
    key = PrivateKey(identity or f"{service}-{public[:4].hex()}", service, public, made.private_bytes_raw())
    for what, name in (("service", service), ("id", key.id)):
        check_name(name, what)
    return key


def check_name(name: str, what: str = "id") -> None:
    """Raise UnusableKey where a key cannot bear this name."""
    if not _NAME.fullmatch(name):
        raise UnusableKey(f"{name!r} cannot be a key's {what}: letters, digits, '.', '_' and '-', 100 at most")


def as_json(key: PublicKey | PrivateKey) -> str:
    """A key as a file holds it."""
    said = {"kty": "OKP", "crv": "Ed25519", "kid": key.id, "service": key.service, "x": encoded(key.public)}
    if isinstance(key, PrivateKey):
        said["d"] = encoded(key.private)
    elif key.retired is not None:
        said["retired"] = key.retired.isoformat()
    return json.dumps(said, indent=2) + "\n"


def write_private(key: PrivateKey, path: Path) -> None:
    """A new file, as `write_secret` makes one."""
    write_secret(as_json(key), path)


def write_secret(text: str, path: Path) -> None:
    """A new file that its owner alone can read. Raises OSError, FileExistsError too: a key is never written over."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "w", encoding="utf-8") as file:
        file.write(text)


def _each(said: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    keys = said.get("keys", [said])
    if not isinstance(keys, list) or not all(isinstance(each, dict) for each in keys):
        raise UnusableKey(f'{where} is no set of keys; write {{"keys": [...]}}')
    return keys


def _object(text: str, where: str, maker: str = _MAKER) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except ValueError:
        # Without the original: it would quote the text.
        raise UnusableKey(f"{where} is no JSON; give what `{maker}` has written") from None
    if not isinstance(said, dict):
        raise UnusableKey(f"{where} is no JSON Web Key; give what `{maker}` has written")
    return said


def _public(said: Mapping[str, Any], where: str) -> PublicKey:
    if (said.get("kty"), said.get("crv")) != ("OKP", "Ed25519"):
        raise UnusableKey(
            f'{where} is no Ed25519 key ("kty": "OKP", "crv": "Ed25519"); make one with `amends keys new`'
        )
    return PublicKey(
        name_in(said, "kid", where), name_in(said, "service", where), raw(said, "x", where), _retired(said, where)
    )


def name_in(said: Mapping[str, Any], name: str, where: str) -> str:
    """The name that a JSON Web Key has in this place. Raises UnusableKey."""
    value = said.get(name)
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise UnusableKey(f"{where}: its {name} is missing, or not letters, digits, '.', '_' and '-', 100 at most")
    return value


def _retired(said: Mapping[str, Any], where: str) -> datetime | None:
    text = said.get("retired")
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise UnusableKey(f"{where}: retired is no moment; write 2026-12-01T00:00:00Z") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def raw(said: Mapping[str, Any], name: str, where: str, maker: str = _MAKER) -> bytes:
    """The 32 bytes that a JSON Web Key has by this name. Raises UnusableKey."""
    text = said.get(name)
    try:
        found = decoded(text) if isinstance(text, str) else b""
    except ValueError:
        found = b""
    if len(found) != _BYTES:
        raise UnusableKey(f"{where}: its {name} is not {_BYTES} bytes of base64url; make a key with `{maker}`")
    return found


def decoded(text: str) -> bytes:
    """Base64url without padding, as JSON Web Keys have it. Raises ValueError."""
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))


def encoded(raw: bytes) -> str:
    """The same from bytes."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
