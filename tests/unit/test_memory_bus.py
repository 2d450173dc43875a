"""What only the bus in memory promises: a confirm means committed, and nothing piles up."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from messaging.bus import Delivery, Outgoing, Receipt, TopologyMismatch
from messaging.memory import LAST_QUEUE_KEEPS, MemoryBroker, MemoryBus
from messaging.memory_broker import matches
from messaging.topology import (
    COLLECTED_QUEUE,
    COMMANDS,
    DEAD_LETTER_QUEUE,
    DEAD_LETTERS,
    EVENTS,
    Binding,
    Queue,
    Topology,
    collected_queue,
    dead_letter_queue,
)

ONE, TWO = "one", "two"
TOPOLOGY = Topology(
    queues=(Queue(ONE, (Binding(EVENTS, "#"),)), Queue(TWO, (Binding(EVENTS, "two.#"),)), dead_letter_queue())
)


def message(routing_key: str, number: int = 0, *, exchange: str = EVENTS) -> Outgoing:
    """A message, told apart by its number."""
    return Outgoing(
        exchange=exchange,
        routing_key=routing_key,
        message_id=f"id-{number}",
        body=b"%d" % number,
        type=routing_key,
        timestamp=datetime(2026, 3, 1, tzinfo=UTC),
        app_id="tester",
    )


async def started(broker: MemoryBroker, service: str = "tester", seconds: float = 30) -> MemoryBus:
    """A bus on that broker with the topology in place."""
    bus = MemoryBus(broker, service=service, publish_timeout=timedelta(seconds=seconds))
    await bus.start()
    await bus.declare(TOPOLOGY)
    return bus


async def turns(number: int = 5) -> None:
    """Let everything run that is ready to."""
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("order.created", "order.created", True),
        ("order.created", "order.create", False),
        ("order.*", "order.created", True),
        ("order.*", "order", False),
        ("order.*", "order.item.created", False),
        ("*", "", False),
        ("#", "", True),
        ("#", "a.b.c", True),
        ("order.#", "order", True),
        ("order.#", "orders", False),
        ("#.created", "created", True),
        ("#.created", "order.item.created", True),
        ("#.created", "order.created.late", False),
        ("*.#.*", "a", False),
        ("*.#.*", "a.b", True),
        ("#.b.#", "a.b.c", True),
        ("#.b.*.#.d", "a.b.b.c.c.d", True),
        ("a.#.#.b", "a.b", True),
        ("", "", True),
        ("", "a", False),
    ],
)
def test_topic_patterns(pattern: str, key: str, expected: bool) -> None:
    """`*` is exactly one word and `#` any number of words, none included."""
    assert matches(pattern, key) is expected


async def test_a_confirm_means_that_every_queue_has_committed() -> None:
    """A publish ends when the last of its copies is acknowledged, and not before."""
    bus = await started(MemoryBroker())
    ones: list[Delivery] = []
    twos: list[Delivery] = []
    one = await bus.subscribe(ONE, prefetch=10, deliver=ones.append)
    two = await bus.subscribe(TWO, prefetch=10, deliver=twos.append)
    sending = asyncio.create_task(bus.publish([message("two.x")]))
    await turns()
    await one.ack(ones)
    await turns()
    assert not sending.done()
    await two.ack(twos)
    assert await sending == [Receipt.CONFIRMED]


async def test_a_consumer_that_closes_confirms_nothing() -> None:
    """What a closing consumer held is not confirmed by that, however often it happens."""
    broker = MemoryBroker()
    sender = await started(broker, "sender")
    sending = asyncio.create_task(sender.publish([message("order.x")]))
    for _ in range(30):
        consumer = await started(broker, "consumer")
        held: list[Delivery] = []
        await consumer.subscribe(ONE, prefetch=1, deliver=held.append)
        await turns()
        assert [each.body for each in held] == [b"0"]
        await consumer.close()
        await turns()
        assert not sending.done()
    last = await started(broker, "last")
    subscription = await last.subscribe(ONE, prefetch=1, deliver=held.append)
    await turns()
    assert held[-1].redelivered
    await subscription.ack([held[-1]])
    assert await sending == [Receipt.CONFIRMED]


async def test_what_a_consumer_that_ends_gives_back_has_died_of_nothing() -> None:
    """As when it closes: however many processes end one after the other, no message of theirs becomes a dead letter."""
    broker = MemoryBroker()
    sender = await started(broker, "sender")
    sending = asyncio.create_task(sender.publish([message("order.x")]))
    for _ in range(30):
        held: list[Delivery] = []
        subscription = await (await started(broker, "consumer")).subscribe(ONE, prefetch=1, deliver=held.append)
        await turns()
        assert [each.body for each in held] == [b"0"]
        await subscription.cancel()
        await subscription.reject(held, requeue=True)
    assert (broker.depth(ONE), sending.done()) == (1, False)
    await sender.close()
    await sending


async def test_what_nobody_took_is_taken_back() -> None:
    """A publish that times out is UNKNOWN and leaves no copy behind in the queue; one that is held stays held."""
    broker = MemoryBroker()
    bus = await started(broker, seconds=0.02)
    held: list[Delivery] = []
    subscription = await bus.subscribe(ONE, prefetch=1, deliver=held.append)
    messages = [message("order.x", n) for n in range(3)]
    assert await bus.publish(messages) == [Receipt.UNKNOWN] * 3
    assert [each.body for each in held] == [b"0"]
    assert broker.depth(ONE) == 0
    await subscription.ack(held)
    again = asyncio.create_task(bus.publish(messages[1:2]))
    await turns()
    assert [each.body for each in held] == [b"0", b"1"]
    await subscription.ack(held)
    assert await again == [Receipt.CONFIRMED]


async def test_a_canceled_publish_leaves_nothing_behind() -> None:
    """A caller that gives up takes its undelivered copies along."""
    broker = MemoryBroker()
    bus = await started(broker)
    sending = asyncio.create_task(bus.publish([message("order.x", n) for n in range(3)]))
    await turns()
    assert broker.depth(ONE) == 3
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert broker.depth(ONE) == 0


async def test_closing_ends_a_publish_that_waits() -> None:
    """A bus that closes tells its own waiting publishes UNKNOWN, and keeps what was confirmed."""
    broker = MemoryBroker()
    sender, consumer = await started(broker, "sender"), await started(broker, "consumer")
    held: list[Delivery] = []
    subscription = await consumer.subscribe(ONE, prefetch=2, deliver=held.append)
    sending = asyncio.create_task(sender.publish([message("order.x", n) for n in range(4)]))
    await turns()
    await subscription.ack(held[:1])
    await sender.close()
    async with asyncio.timeout(30):
        assert await sending == [Receipt.CONFIRMED, Receipt.UNKNOWN, Receipt.UNKNOWN, Receipt.UNKNOWN]


async def test_a_last_queue_without_a_reader_takes_over_and_stays_bounded() -> None:
    """Dead letters are confirmed at once while nobody reads them, and the oldest make room."""
    broker = MemoryBroker()
    bus = await started(broker)
    letters = [message("order.x", n, exchange=DEAD_LETTERS) for n in range(LAST_QUEUE_KEEPS + 5)]
    assert await bus.publish(letters) == [Receipt.CONFIRMED] * (LAST_QUEUE_KEEPS + 5)
    assert broker.depth(DEAD_LETTER_QUEUE) == LAST_QUEUE_KEEPS
    read: list[Delivery] = []
    await bus.subscribe(DEAD_LETTER_QUEUE, prefetch=1, deliver=read.append)
    await turns()
    assert read[0].body == b"5"


async def test_a_rejected_message_is_confirmed_when_its_dead_letter_is_taken() -> None:
    """A crash before somebody has committed the dead letter would lose it, if its sender had let go of it."""
    broker = MemoryBroker()
    sender, reader, collector = [await started(broker, name) for name in ("sender", "reader", "collector")]
    await collector.declare(Topology(queues=(collected_queue(),)))
    held: list[Delivery] = []
    letters: list[Delivery] = []
    rejecting = await reader.subscribe(ONE, prefetch=1, deliver=held.append)
    sending = asyncio.create_task(sender.publish([message("order.x")]))
    await turns()
    await rejecting.reject(held, requeue=False)
    await turns()
    assert not sending.done()

    collecting = await collector.subscribe(COLLECTED_QUEUE, prefetch=1, deliver=letters.append)
    await turns()
    assert [(each.body, each.headers["x-first-death-queue"]) for each in letters] == [(b"0", ONE)]
    await collecting.ack(letters)
    assert await sending == [Receipt.CONFIRMED]


async def test_a_busy_queue_does_not_starve_another() -> None:
    """While one queue has many messages ready, another's are delivered in between."""
    bus = await started(MemoryBroker())
    order: list[str] = []
    await bus.subscribe(ONE, prefetch=1_000, deliver=lambda each: order.append(each.queue))
    await bus.subscribe(TWO, prefetch=1_000, deliver=lambda each: order.append(each.queue))
    messages = [*(message("one.x", n) for n in range(300)), message("two.x")]
    sending = asyncio.create_task(bus.publish(messages))
    await turns(20)
    assert len(order) == 302
    assert order.index(TWO) < 100
    sending.cancel()


async def test_delivering_is_left_to_the_loop() -> None:
    """A publish never calls a consumer itself, so no consumer runs inside somebody else's publish."""
    bus = await started(MemoryBroker())
    seen: list[Delivery] = []
    await bus.subscribe(ONE, prefetch=10, deliver=seen.append)
    sending = bus.publish([message("order.x")])
    waiting = sending.send(None)
    assert waiting is not None
    assert seen == []
    sending.close()


async def test_messages_name_their_sender() -> None:
    """The user id of a message is the service whose bus sent it, and cannot be chosen by the message."""
    broker = MemoryBroker()
    sender = await started(broker, "payment")
    seen: list[Delivery] = []
    await sender.subscribe(ONE, prefetch=10, deliver=seen.append)
    sending = asyncio.create_task(sender.publish([message("order.x")]))
    await turns()
    assert seen[0].user_id == "payment"
    sending.cancel()


async def test_a_binding_to_nowhere_is_a_mismatch() -> None:
    """A queue bound to an exchange that nobody declares names both."""
    bus = MemoryBus(MemoryBroker(), service="tester")
    await bus.start()
    with pytest.raises(TopologyMismatch, match=f"queue 'one' is bound to exchange '{COMMANDS}'"):
        await bus.declare(Topology((EVENTS,), (Queue(ONE, (Binding(COMMANDS, "#"),)),)))
