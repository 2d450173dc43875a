"""Taking a batch apart that failed, until the message that did it stands alone."""

from __future__ import annotations

from collections.abc import Sequence

from messaging.received import Arrival, Received


class HandlerFailed(Exception):
    """A handler raised; `received` are the messages it was given, `cause` what it raised."""

    def __init__(self, received: Sequence[Received], cause: Exception) -> None:
        super().__init__(str(cause))
        self.received = received
        self.cause = cause


def apart(arrivals: list[Arrival], error: Exception) -> list[list[Arrival]]:
    """The parts of a batch that failed, in order: round its culprit where one is known, else halves."""
    place = _culprit(arrivals, error)
    if place is None:
        parts = _halves(arrivals)
    elif place == 0:
        # Where the first failed the next may fail too: trying the whole rest each time would be quadratic.
        parts = [arrivals[:1], *_halves(arrivals[1:])]
    else:
        parts = [arrivals[:place], arrivals[place : place + 1], arrivals[place + 1 :]]
    return [part for part in parts if part]


def _halves(arrivals: list[Arrival]) -> list[list[Arrival]]:
    half = len(arrivals) // 2
    return [arrivals[:half], arrivals[half:]]


def _culprit(arrivals: Sequence[Arrival], error: Exception) -> int | None:
    """The place of the one message that a handler was given when it raised."""
    if not isinstance(error, HandlerFailed) or len(error.received) != 1:
        return None
    identity = error.received[0].envelope.id
    for place, arrival in enumerate(arrivals):
        if arrival.received is not None:
            if arrival.received.envelope.id == identity:
                return place
        elif arrival.delivery is not None and str(identity) == arrival.delivery.message_id:
            return place
    return None
