"""Plain values as the JSON they have in the database. What comes again and again is written once."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from pydantic_core import to_json

from contracts.value import value


@value
class Said:
    """What stands of a sent message in the history and in the message alike: its id, and its data's JSON."""

    id: str
    data: str


@value
class Texts:
    """What a row of `saga` says of its state."""

    status: str
    reason: str
    data: str
    progress: str


@lru_cache(maxsize=1024)  # names of steps, wire types, sources: a few, again and again
def quoted(text: str | None) -> str:
    """A text or null."""
    return to_json(text).decode()


@lru_cache(maxsize=256)  # a batch takes everything up at one moment, and its commands fall due at a few
def moment(at: datetime, zone: object) -> str:
    """A moment in its own zone, which is `zone`: two moments are equal in whatever zones they are written."""
    return to_json(at).decode()
