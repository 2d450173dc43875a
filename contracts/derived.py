"""Ids that follow from others: the same reason, the same id, however often it is asked for."""

from __future__ import annotations

from hashlib import sha1
from uuid import UUID, SafeUUID

_NEITHER_VERSION_NOR_VARIANT = ~((0xF000 << 64) | (0xC000 << 48))
_VERSION_5 = (0x5000 << 64) | (0x8000 << 48)


def derived_id(space: UUID, name: str) -> UUID:
    """`uuid.uuid5` at three fifths of its price: ids are derived for every command and every answer."""
    digest = sha1(space.bytes + name.encode(), usedforsecurity=False).digest()
    number = int.from_bytes(digest[:16], "big") & _NEITHER_VERSION_NOR_VARIANT | _VERSION_5
    # What UUID(int=number) sets after it has looked at each of its six ways to be called.
    fresh = UUID.__new__(UUID)
    object.__setattr__(fresh, "int", number)
    object.__setattr__(fresh, "is_safe", SafeUUID.unknown)
    return fresh
