"""Master keys: what wraps the keys of persons, so that whoever reads only the database opens none.

Files of JSON Web Keys (`"kty": "oct"`), several by id: one wraps what is made now, the others open what they have
wrapped. A wrapped key is sealed with AES-256-GCM, and with it its id and the person it belongs to: moved to another row
it opens nothing.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from messaging import keys
from messaging.keys import UnusableKey, check_name, decoded, encoded, require_library
from messaging.subject_keys import KEY_BYTES, SubjectKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAKER = "amends subjects master new"
_NONCE_BYTES = 12
_TAG_BYTES = 16
_WHAT = b"amends-subject-key-1"


class DamagedKey(Exception):
    """A wrapped key does not open: it was changed, moved to another row, or wrapped by another key of the same id."""


class UnknownMaster(Exception):
    """A key is wrapped by a master key that is not here; says which."""

    def __init__(self, master: str) -> None:
        super().__init__(f"the master key {master!r} is not here")
        self.master = master


@dataclass(frozen=True, slots=True)
class MasterKey:
    """What wraps keys. Never shown."""

    id: str
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A person's key as the database has it: what a token names, whose it is, the sealed text, by which master key."""

    id: str
    subject: str
    text: str
    master: str


class Masters:
    """Wraps with one of these keys and opens with any. Raises UnusableKey where there is no library to do it."""

    def __init__(self, known: Iterable[MasterKey], current: str) -> None:
        require_library("keys of persons need")
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.current = current
        self._invalid = InvalidTag
        self._ciphers: Mapping[str, AESGCM] = {each.id: AESGCM(each.key) for each in known}

    @property
    def ids(self) -> tuple[str, ...]:
        """Of all that are here."""
        return tuple(self._ciphers)

    def wrap(self, key: SubjectKey, subject: str) -> Wrapped:
        """This person's key, sealed by the current master key."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._ciphers[self.current].encrypt(nonce, key.key, _about(key.id, subject))
        return Wrapped(key.id, subject, encoded(nonce + sealed), self.current)

    def unwrap(self, wrapped: Wrapped) -> SubjectKey:
        """The key itself. Raises UnknownMaster, DamagedKey."""
        cipher = self._ciphers.get(wrapped.master)
        if cipher is None:
            raise UnknownMaster(wrapped.master)
        try:
            raw = decoded(wrapped.text)
            if len(raw) != _NONCE_BYTES + KEY_BYTES + _TAG_BYTES:
                raise DamagedKey(f"the key {wrapped.id} is not {KEY_BYTES} bytes long")
            key = cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _about(wrapped.id, wrapped.subject))
        except (self._invalid, ValueError):
            raise DamagedKey(f"the key {wrapped.id} does not open with the master key {wrapped.master!r}") from None
        return SubjectKey(wrapped.id, key)


def _about(key_id: str, subject: str) -> bytes:
    parts = (_WHAT, key_id.encode(), subject.encode())
    return b"".join(len(each).to_bytes(4, "big") + each for each in parts)


def new(identity: str | None = None) -> MasterKey:
    """A key that nobody has seen. Raises UnusableKey where it cannot bear this id."""
    key = MasterKey(identity or f"master-{secrets.token_hex(4)}", secrets.token_bytes(KEY_BYTES))
    check_name(key.id)
    return key


def as_json(key: MasterKey) -> str:
    """A key as a file holds it."""
    return json.dumps({"kty": "oct", "kid": key.id, "alg": "A256GCM", "k": encoded(key.key)}, indent=2) + "\n"


def read(path: Path, current: str | None) -> Masters:
    """The keys in a file or a folder of `*.json`; `current` names the one that wraps, None where there is but one.

    Raises UnusableKey, which never quotes a key.
    """
    found = keys.by_id(path, "master keys", MAKER, _master)
    if current is None:
        if len(found) > 1:
            raise UnusableKey(
                f"{path} holds several master keys ({', '.join(found)}): say in AMENDS_MASTER_KEY_ID which wraps what "
                "is made from now on"
            )
        (current,) = found
    if current not in found:
        raise UnusableKey(f"AMENDS_MASTER_KEY_ID={current}: {path} holds no such master key, but {', '.join(found)}")
    return Masters(found.values(), current)


def _master(said: Mapping[str, Any], where: str) -> MasterKey:
    if said.get("kty") != "oct":
        raise UnusableKey(f'{where} is no master key ("kty": "oct"); make one with `{MAKER}`')
    return MasterKey(keys.name_in(said, "kid", where), keys.raw(said, "k", where, MAKER))
