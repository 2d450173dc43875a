"""Which messages that come alone are committed with what they write last.

Where a service has several processes, a message of some kinds finds a row of its key that another process has sent and
not deleted yet, most times it comes: whatever follows an answer that another one has given. It is undone then, and done
again. Other kinds, the first of a saga, never do.
"""

from __future__ import annotations

from messaging.received import Arrival

AGAIN_AFTER = 60.0
"""Seconds for which messages of a kind are looked at before their commit, after one has met what it did not know of:
each that does is an error in PostgreSQL's log, and done twice."""
MOST_KINDS = 100
"""Kinds that are remembered: what a message says it is may be anything."""


class Lone:
    """What one worker's lanes know of it."""

    __slots__ = ("_met",)

    def __init__(self) -> None:
        self._met: dict[str, float] = {}

    def may(self, arrival: Arrival, now: float) -> bool:
        """Whether this one, which is alone, may be committed without a look; `now` is in seconds."""
        if not self._met:
            return True
        met = self._met.get(_kind(arrival))
        return met is None or now - met >= AGAIN_AFTER

    def met(self, arrival: Arrival, now: float) -> None:
        """It would have needed one."""
        if len(self._met) >= MOST_KINDS:
            self._met.clear()
        self._met[_kind(arrival)] = now


def _kind(arrival: Arrival) -> str:
    delivery = arrival.delivery
    return "" if delivery is None else delivery.type or ""
