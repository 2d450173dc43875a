"""What was looked up a moment ago: bounded in number and in seconds."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Values by name, each forgotten `seconds` after the moment it was true at, and before that when `most` are newer.

    The moments are the caller's, and never go back.
    """

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._held: dict[str, tuple[float, T]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def of(self, names: Collection[str], now: float) -> dict[str, T]:
        """Those of these names that are remembered at this moment."""
        found = {}
        for name in names:
            held = self._held.get(name)
            if held is not None and now < held[0] + self._seconds:
                found[name] = held[1]
        return found

    def keep(self, values: Iterable[tuple[str, T]], at: float) -> None:
        """Remember what was true at this moment."""
        for name, value in values:
            # Behind all others, so that the first is always the oldest.
            self._held.pop(name, None)
            self._held[name] = (at, value)
        while self._held and (len(self._held) > self._most or self._gone(at)):
            del self._held[next(iter(self._held))]

    def _gone(self, now: float) -> bool:
        """Whether the oldest is forgotten."""
        return now >= next(iter(self._held.values()))[0] + self._seconds
