"""Messages that took the database too long even alone: from then on they are tried apart from their neighbors.

Otherwise each of them would hold up the batch that it comes in, whenever it comes, until it has been found again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from messaging.received import Arrival

_MOST = 1_000
"""Of more, the oldest is forgotten, and would have to be found again."""


class Slow:
    """What has been found to be too slow, by the message's id."""

    def __init__(self) -> None:
        self._found: dict[object, None] = {}

    def __contains__(self, arrival: Arrival) -> bool:
        return _name(arrival) in self._found

    def note(self, arrival: Arrival) -> None:
        """It has taken too long, and nothing else was with it."""
        self._found[_name(arrival)] = None
        while len(self._found) > _MOST:
            del self._found[next(iter(self._found))]

    def forget(self, arrivals: Iterable[Arrival]) -> None:
        """They have gone through."""
        for each in arrivals if self._found else ():
            self._found.pop(_name(each), None)

    def apart(self, arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
        """The neighbors, and those that are to be tried after them, one by one."""
        if not self._found:
            return list(arrivals), []
        return [each for each in arrivals if each not in self], [each for each in arrivals if each in self]


def _name(arrival: Arrival) -> object:
    if arrival.received is not None:
        return str(arrival.received.envelope.id)
    if arrival.delivery is None:
        return arrival.tick
    # Without an id it is only known while it is the same delivery.
    return arrival.delivery.message_id or (arrival.delivery.queue, arrival.delivery.tag)
