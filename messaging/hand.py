"""What has arrived at a worker and is not handled yet: in order, bounded, and read while the database has the batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from messaging.bus import Delivery
from messaging.received import Arrival, Received, Unreadable

MOST_BYTES = 16 * 1024 * 1024
"""Bodies in one batch: no further message is taken once they have so many bytes."""
READ_AT_ONCE = 20
"""Messages that are read ahead before somebody else has a turn, such as the database's answer."""


class Hand:
    """Arrivals in the order in which they came.

    `read` says what a delivery is; `holds` whether the broker still waits for it to be settled; `most` is how many
    arrivals there may be before those that nobody waits for are let go of. Where several lanes take from it, `concerns`
    says what a message moves, so that none is handled beside what another lane has taken of the same.
    """

    def __init__(
        self,
        read: Callable[[Delivery], Received | Unreadable],
        holds: Callable[[Delivery], bool],
        most: int,
        *,
        concerns: Callable[[Received], Sequence[str]] | None = None,
    ) -> None:
        self._read = read
        self._holds = holds
        self._least = self._most = most
        self._arrivals: deque[Arrival] = deque()
        self._found: dict[Arrival, Received | Unreadable] = {}
        self._ahead = 0
        """How many of the arrivals, from the first on, have been read."""
        self._to_read = asyncio.Event()
        self._concerns = concerns
        self._under_way: dict[Arrival, list[str]] = {}
        """Correlation ids and keys of what is being handled."""

    def make_room(self, most: int) -> None:
        """There may be so many arrivals from now on."""
        self._least = self._most = most

    def __len__(self) -> int:
        return len(self._arrivals)

    def deliver(self, delivery: Delivery) -> None:
        """Take one from the broker."""
        if len(self._arrivals) >= self._most:
            self._forget_lost()
        self._arrivals.append(Arrival(delivery=delivery))

    def add(self, arrivals: Iterable[Arrival]) -> None:
        """Take these behind all others, but for what lost channels delivered: it comes again by itself."""
        self._arrivals.extend(each for each in arrivals if self._is_alive(each))

    def read_on(self) -> None:
        """What is here and not taken at once is to be read ahead."""
        self._to_read.set()

    def take(self, count: int) -> list[Arrival]:
        """The oldest arrivals: so many, or as many as make a batch by their bytes.

        What shares a correlation id or a key with what is being handled stays, and all that follows it with its own.
        """
        if self._concerns is not None:
            return self._take_apart(count, self._concerns)
        taken: list[Arrival] = []
        size = 0
        while self._arrivals and len(taken) < count and size < MOST_BYTES:
            arrival = self._arrivals.popleft()
            size += 0 if arrival.delivery is None else len(arrival.delivery.body)
            taken.append(arrival)
        self._ahead = max(self._ahead - len(taken), 0)
        return taken

    def _take_apart(self, count: int, concerns: Callable[[Received], Sequence[str]]) -> list[Arrival]:
        taken: list[Arrival] = []
        left: list[Arrival] = []
        others = {name for names in self._under_way.values() for name in names}
        named: dict[Arrival, list[str]] = {}
        size = 0
        while self._arrivals and len(taken) < count and size < MOST_BYTES:
            arrival = self._arrivals.popleft()
            own = self._names(arrival, concerns)
            if not others.isdisjoint(own):
                others.update(own)
                left.append(arrival)
                continue
            size += 0 if arrival.delivery is None else len(arrival.delivery.body)
            named[arrival] = own
            taken.append(arrival)
        self._arrivals.extendleft(reversed(left))
        self._ahead = len(left) + max(self._ahead - len(taken) - len(left), 0)
        self._under_way |= named
        return taken

    def _names(self, arrival: Arrival, concerns: Callable[[Received], Sequence[str]]) -> list[str]:
        """What an arrival must not be handled beside: all of its correlation id, of its key, and of what it moves."""
        if arrival.tick is not None:
            return [arrival.tick.correlation_id]
        content = self.content(arrival)
        if arrival.received is None and content is not None:
            self._found[arrival] = content
        if content is None or content.envelope is None:
            return []
        names = [each for each in (content.envelope.correlation_id, content.envelope.key) if each]
        if isinstance(content, Received):
            if content.envelope.key is None and content.message.ordering_key:
                names.append(content.message.ordering_key)
            names.extend(concerns(content))
        return names

    def content(self, arrival: Arrival) -> Received | Unreadable | None:
        """What an arrival was read as; None for a tick."""
        if arrival.received is not None or arrival.delivery is None:
            return arrival.received
        found = self._found.get(arrival)
        return found if found is not None else self._read(arrival.delivery)

    def done(self, arrivals: Sequence[Arrival]) -> None:
        """These have been handled."""
        for each in arrivals:
            self._under_way.pop(each, None)
            self._found.pop(each, None)

    def leave(self) -> list[Delivery]:
        """Let go of all that has arrived and is not being handled; what the broker waits for of it, in order."""
        left = [each.delivery for each in self._arrivals if each.delivery is not None and self._is_alive(each)]
        for each in self._arrivals:
            self._found.pop(each, None)
        self._arrivals.clear()
        self._ahead = 0
        return left

    async def read_ahead(self) -> None:
        """Read what arrives, for ever: a batch's statements leave the time for it."""
        while True:
            await self._to_read.wait()
            self._to_read.clear()
            while self._ahead < len(self._arrivals):
                for _ in range(min(READ_AT_ONCE, len(self._arrivals) - self._ahead)):
                    arrival = self._arrivals[self._ahead]
                    if arrival.delivery is not None and arrival not in self._found:
                        self._found[arrival] = self._read(arrival.delivery)
                    self._ahead += 1
                await asyncio.sleep(0)

    def _is_alive(self, arrival: Arrival) -> bool:
        return arrival.delivery is None or self._holds(arrival.delivery)

    def _forget_lost(self) -> None:
        """Let go of what lost channels delivered: it comes again on new ones, and while the database is away every
        reconnect would add a prefetch to our memory.
        """
        self._arrivals = deque(each for each in self._arrivals if self._is_alive(each))
        self._found = {each: found for each, found in self._found.items() if self._is_alive(each)}
        self._ahead = 0
        # Living deliveries are bounded, rows that have come due too; where both are many, look again at twice as many.
        self._most = max(self._least, 2 * len(self._arrivals))
