"""What differs between recorded JSON and this checkout's, once the recorded is read the way this checkout reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_core import from_json

from orchestrator.changed import MISSING, Changed, changes


def meaningful(recorded: Any, now: Any, read: Callable[[Any], str]) -> list[Changed]:
    """What differs once `read` has told what this checkout makes of the recorded value.

    A field that came later means the same where reading an old value fills in what is there now. One that is gone, or
    says something else, does not. `read` may raise ValueError.
    """
    found = list(changes(recorded, now))
    if not found:
        return []
    understood = from_json(read(recorded))
    still = {each.path for each in changes(understood, now)}
    return [each for each in found if each.after is MISSING or any(_within(path, each.path) for path in still)]


def _within(path: str, place: str) -> bool:
    return path == place or path.startswith((f"{place}.", f"{place}[")) or place.startswith((f"{path}.", f"{path}["))
