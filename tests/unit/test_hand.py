"""What a worker has in hand: in order, bounded, read once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from contracts.message import Event
from messaging.bus import Delivery
from messaging.envelope import Envelope
from messaging.hand import MOST_BYTES, READ_AT_ONCE, Hand
from messaging.received import Arrival, Received, Unreadable

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Reader:
    """Reads deliveries, and counts how often."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __call__(self, delivery: Delivery) -> Received | Unreadable:
        self.read.append(delivery.tag)
        return Unreadable(delivery, "malformed", "a test's")


@dataclass(frozen=True)
class Due:
    """Something of this correlation id is due."""

    correlation_id: str


class Parcel(Event, type="parcel.ordered", key="parcel"):
    parcel: str


class Opened(Event, type="depot.opened"):
    """What has no key."""


def hand(reader: Reader, holds: Callable[[Delivery], bool] = lambda _: True, most: int = 1_000) -> Hand:
    """A hand that holds what it is given."""
    return Hand(reader, holds, most)


def delivery(tag: int, size: int = 2) -> Delivery:
    """A delivery of so many bytes."""
    return Delivery("depot.in", tag, bytes(size), "amends.commands", "parcel.pack")


def tags(arrivals: Sequence[Arrival]) -> list[int]:
    """Which they are."""
    return [each.delivery.tag for each in arrivals if each.delivery is not None]


async def test_arrivals_are_taken_in_their_order_and_read_once() -> None:
    """What was read ahead is not read again, what was not is read when it is wanted, however often it is asked for."""
    reader = Reader()
    held = hand(reader)
    for tag in range(1, 5):
        held.deliver(delivery(tag))
    reading = asyncio.create_task(held.read_ahead())
    held.read_on()
    await asyncio.sleep(0)
    assert reader.read == [1, 2, 3, 4]

    first = held.take(3)
    assert tags(first) == [1, 2, 3]
    for each in (*first, *first):
        assert held.content(each) is not None
    assert reader.read == [1, 2, 3, 4]
    held.done(first)
    reading.cancel()
    held.deliver(delivery(5))
    rest = held.take(10)
    assert tags(rest) == [4, 5]
    assert [held.content(each) is not None for each in rest] == [True, True]
    assert reader.read == [1, 2, 3, 4, 5]
    assert len(held) == 0


async def test_others_have_their_turn_while_much_is_read_ahead() -> None:
    """Who waits for the database is not made to wait until everything has been read."""
    reader = Reader()
    held = hand(reader)
    for tag in range(3 * READ_AT_ONCE):
        held.deliver(delivery(tag))
    reading = asyncio.create_task(held.read_ahead())
    held.read_on()
    seen = []
    for _ in range(4):
        await asyncio.sleep(0)
        seen.append(len(reader.read))
    reading.cancel()
    assert seen == [READ_AT_ONCE, 2 * READ_AT_ONCE, 3 * READ_AT_ONCE, 3 * READ_AT_ONCE]


async def test_a_batch_taken_while_the_next_is_read_does_not_put_the_reader_off_its_place() -> None:
    """Reading goes on behind what was taken: nothing is read twice, and nothing is left out."""
    reader = Reader()
    held = hand(reader)
    for tag in range(3 * READ_AT_ONCE):
        held.deliver(delivery(tag))
    reading = asyncio.create_task(held.read_ahead())
    held.read_on()
    await asyncio.sleep(0)
    held.done(held.take(READ_AT_ONCE + 5))
    for _ in range(3):
        await asyncio.sleep(0)
    reading.cancel()
    left = held.take(1_000)
    assert all(held.content(each) is not None for each in left)
    assert reader.read == [*range(READ_AT_ONCE), *range(READ_AT_ONCE + 5, 3 * READ_AT_ONCE)]


async def test_a_batch_ends_with_its_bytes() -> None:
    """However many messages it could take, no further one is taken once their bodies are as long as it may hold."""
    held = hand(Reader())
    for tag in range(4):
        held.deliver(delivery(tag, MOST_BYTES // 2))
    assert tags(held.take(100)) == [0, 1]
    assert tags(held.take(100)) == [2, 3]


async def test_what_lost_channels_delivered_is_let_go_of() -> None:
    """Past the most it should hold, it looks what the broker still waits for, and forgets what was read of the rest."""
    reader = Reader()
    alive: set[int] = set()
    held = hand(reader, lambda each: each.tag in alive, most=3)
    reading = asyncio.create_task(held.read_ahead())
    held.read_on()
    for tag in (1, 2, 3):
        held.deliver(delivery(tag))
    await asyncio.sleep(0)
    alive.update({3, 4})
    held.deliver(delivery(4))
    await asyncio.sleep(0)
    reading.cancel()
    taken = held.take(10)
    assert tags(taken) == [3, 4]
    assert all(held.content(each) is not None for each in taken)
    assert reader.read == [1, 2, 3, 4]


async def test_what_nobody_has_taken_can_be_left() -> None:
    """In its order, without what comes again by itself; what was taken stays read."""
    reader = Reader()
    held = hand(reader, lambda each: each.tag != 3)
    reading = asyncio.create_task(held.read_ahead())
    held.read_on()
    for tag in range(5):
        held.deliver(delivery(tag))
    held.add([Arrival(tick=Due("saga-1"))])
    await asyncio.sleep(0)
    taken = held.take(2)
    assert [each.tag for each in held.leave()] == [2, 4]
    assert (len(held), held.take(10), held.leave()) == (0, [], [])
    assert all(held.content(each) is not None for each in taken)
    assert reader.read == [0, 1, 2, 3, 4]
    held.deliver(delivery(5))
    await asyncio.sleep(0)
    reading.cancel()
    assert tags(held.take(10)) == [5]


async def test_what_has_rested_is_added_only_while_the_broker_waits_for_it() -> None:
    """A delivery whose channel was lost while it rested comes again by itself; what comes from a table counts."""
    held = hand(Reader(), lambda each: each.tag == 1)
    held.add([Arrival(delivery=delivery(1)), Arrival(delivery=delivery(2)), Arrival(tick=Due("saga-1"))])
    taken = held.take(10)
    assert tags(taken) == [1]
    assert held.content(taken[1]) is None


async def test_a_hand_that_is_given_room_holds_more() -> None:
    """Whoever reads another queue holds its messages too before it looks which of them are lost."""
    held = hand(Reader(), lambda _: False, most=1)
    held.make_room(3)
    for tag in (1, 2, 3):
        held.deliver(delivery(tag))
    assert len(held) == 3
    held.deliver(delivery(4))
    assert len(held) == 1


def received(correlation_id: str | None, key: str | None, message: Event | None = None) -> Arrival:
    """A message of this correlation id and key that has come due."""
    envelope = Envelope(UUID(int=1), "parcel.pack", 1, "depot", NOON, correlation_id=correlation_id, key=key)
    return Arrival(received=Received(envelope, message or Opened(), {}, "", "depot.in"))


async def test_what_belongs_together_is_never_taken_by_two() -> None:
    """What shares a correlation id or a key with what is being handled stays, in its order, until that is done."""
    held = Hand(Reader(), lambda _: True, 1_000, concerns=lambda _: ())
    first, of_its_saga, of_its_key = received("saga-1", "a"), received("saga-1", "b"), received("saga-2", "a")
    behind, due, free = received("saga-3", "b"), Arrival(tick=Due("saga-1")), received("saga-4", None)
    held.add([first, of_its_saga, of_its_key, behind, due, free])

    taken = held.take(1)
    assert taken == [first]
    # The fourth has nothing in common with the first, but with the second, which was there before it.
    other = held.take(10)
    assert other == [free]
    assert held.take(10) == []
    held.done(other)
    assert held.take(10) == []
    held.done(taken)
    assert held.take(10) == [of_its_saga, of_its_key, behind, due]


async def test_what_moves_an_instance_waits_for_what_moves_it_too() -> None:
    """An approval names the order, an answer the saga: the consumer knows that both move one instance."""
    held = Hand(Reader(), lambda _: True, 1_000, concerns=lambda each: ["saga-1"] if each.envelope.key == "a" else [])
    approval, answer, other = received(None, "a"), received("saga-1", "b"), received("saga-2", "c")
    held.add([approval, answer, other])
    taken = held.take(1)
    assert taken == [approval]
    assert held.take(3) == [other]
    held.done(taken)
    assert held.take(3) == [answer]


async def test_of_one_lane_all_is_taken_in_its_order() -> None:
    """A batch may hold many messages of one key, and what names none is free."""
    held = Hand(Reader(), lambda _: True, 1_000, concerns=lambda _: ())
    these = [received("saga-1", "a"), received("saga-1", "a"), received(None, None), received(None, None)]
    held.add(these)
    assert held.take(3) == these[:3]
    assert held.take(3) == these[3:]


async def test_a_message_without_a_key_goes_by_its_own() -> None:
    """A plain client sets none in the envelope; the message's class knows which it would be."""
    held = Hand(Reader(), lambda _: True, 1_000, concerns=lambda _: ())
    first, third = received(None, None, Parcel(parcel="1")), received(None, None, Parcel(parcel="2"))
    second = received(None, "1")
    held.add([first, second, third])
    assert held.take(1) == [first]
    assert held.take(3) == [third]


async def test_what_stays_is_read_once_and_what_follows_it_is_read_ahead() -> None:
    """Deliveries that were looked at and left are not read again, and reading goes on behind them."""
    read: list[int] = []

    def reader(delivery: Delivery) -> Received:
        read.append(delivery.tag)
        found = received(f"saga-{delivery.tag % 2}", None).received
        assert found is not None
        return found

    held = Hand(reader, lambda _: True, 1_000, concerns=lambda _: ())
    for tag in range(1, 5):
        held.deliver(delivery(tag))
    taken = held.take(1)
    assert (tags(taken), read) == ([1], [1])
    other = held.take(1)
    assert (tags(other), read) == ([2], [1, 2])
    assert (held.take(5), read) == ([], [1, 2, 3, 4])
    reading = asyncio.create_task(held.read_ahead())
    held.read_on()
    held.deliver(delivery(5))
    await asyncio.sleep(0)
    reading.cancel()
    assert read == [1, 2, 3, 4, 5]
    held.done(taken)
    assert tags(held.take(5)) == [3, 5]
    held.done(other)
    assert tags(held.take(5)) == [4]
    assert read == [1, 2, 3, 4, 5]
