"""What every bus adapter must do, tried on each: in memory, on RabbitMQ, and on RabbitMQ with unknown
libraries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from messaging import rabbitmq_writing
from messaging.bus import Bus, BusUnavailable, QueueState, Receipt, TopologyMismatch
from messaging.memory import MemoryBroker, MemoryBus
from messaging.rabbitmq import RabbitBus
from tests.contract.buses import (
    PATIENCE,
    Bench,
    MemoryBench,
    RabbitBench,
    Reader,
    WatchedBench,
    bodies,
    dead_queue,
    message,
    publishing,
    queue,
    read,
    topology,
    until,
)

CONFIRMED, UNROUTABLE, UNKNOWN = Receipt.CONFIRMED, Receipt.UNROUTABLE, Receipt.UNKNOWN


@pytest.fixture(params=["memory", "kit", "rabbitmq", "rabbitmq-public-api"])
async def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """Each adapter in turn."""
    if request.param == "rabbitmq-public-api":
        monkeypatch.setitem(rabbitmq_writing.KNOWN_VERSIONS, "aiormq", "another release")
    made: MemoryBench | RabbitBench
    if request.param == "memory":
        made = MemoryBench()
    elif request.param == "kit":
        made = WatchedBench()
    else:
        # The broker is asked for by name, so that the other half needs none.
        made = RabbitBench(request.getfixturevalue("broker_url"))
    yield made
    await made.close()


async def test_topic_patterns_choose_the_queues(bench: Bench) -> None:
    """`*` matches one word and `#` any number, at any place in the pattern."""
    bus = await bench.connect()
    one, two = queue(bench, "one", "order.*", "*.failed"), queue(bench, "two", "#.created")
    three = queue(bench, "three", "order.#")
    await bus.declare(topology(bench, one, two, three))
    readers = [await read(bus, each) for each in (one, two, three)]
    keys = ["order.created", "order.item.created", "payment.failed", "created", "order"]
    receipts = await bus.publish([message(bench, key, key.encode()) for key in keys])
    assert receipts == [CONFIRMED] * 5
    assert bodies(await readers[0].take(2)) == [b"order.created", b"payment.failed"]
    assert bodies(await readers[1].take(3)) == [b"order.created", b"order.item.created", b"created"]
    assert bodies(await readers[2].take(3)) == [b"order.created", b"order.item.created", b"order"]
    assert [reader.untaken() for reader in readers] == [[], [], []]


async def test_two_bindings_deliver_once(bench: Bench) -> None:
    """A message that matches two bindings of one queue lies there once."""
    bus = await bench.connect()
    one = queue(bench, "one", "order.*", "*.created")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    await bus.publish([message(bench, "order.created", b"once"), message(bench, "order.x", b"then")])
    assert bodies(await reader.take(2)) == [b"once", b"then"]


async def test_receipts_stand_where_their_messages_stood(bench: Bench) -> None:
    """Each message has its own receipt, and one that no queue is bound for is UNROUTABLE."""
    bus = await bench.connect()
    one = queue(bench, "one", "order.created")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    keys = ["order.created", "order.lost", "order.created", "order.lost", "order.lost", "order.created"]
    receipts = await bus.publish([message(bench, key) for key in keys])
    assert receipts == [CONFIRMED, UNROUTABLE, CONFIRMED, UNROUTABLE, UNROUTABLE, CONFIRMED]
    await reader.take(3)
    assert reader.untaken() == []


async def test_nothing_to_publish(bench: Bench) -> None:
    """Publishing no message returns no receipt."""
    assert await (await bench.connect()).publish([]) == []


async def test_order_is_kept(bench: Bench) -> None:
    """Messages of one publish arrive in the order in which they were given."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    receipts = await bus.publish([message(bench, "order.created", b"%d" % n) for n in range(1_200)])
    assert receipts == [CONFIRMED] * 1_200
    assert bodies(await reader.take(1_200)) == [b"%d" % n for n in range(1_200)]


async def test_concurrent_publishes_are_written_in_turn(bench: Bench) -> None:
    """The messages of an earlier call come before those of a later one."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    calls = [[message(bench, "order.created", b"%d.%d" % (call, n)) for n in range(40)] for call in range(20)]
    receipts = await asyncio.gather(*(bus.publish(each) for each in calls))
    assert receipts == [[CONFIRMED] * 40] * 20
    arrived = bodies(await reader.take(800))
    assert arrived == [b"%d.%d" % (call, n) for call in range(20) for n in range(40)]


async def test_one_message_id_twice_in_one_publish(bench: Bench) -> None:
    """Messages that share an id are kept apart: each has its own receipt, and none is lost."""
    bus = await bench.connect()
    one = queue(bench, "one", "order.created")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    keys = ["order.created", "order.lost", "order.created", "order.lost"]
    receipts = await bus.publish([message(bench, key, b"%d" % n, message_id="twin") for n, key in enumerate(keys)])
    assert receipts == [CONFIRMED, UNROUTABLE, CONFIRMED, UNROUTABLE]
    assert bodies(await reader.take(2)) == [b"0", b"2"]


async def test_a_missing_exchange_harms_nobody_else(bench: Bench) -> None:
    """A message the broker refuses is UNKNOWN, and those around it are confirmed all the same."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    good = [message(bench, "order.created", b"%d" % n) for n in range(4)]
    bad = replace(message(bench, "order.created", b"bad"), exchange=f"{bench.events}.nowhere")
    other = publishing(bus, [message(bench, "order.other", b"other")])
    assert await bus.publish([*good[:2], bad, *good[2:]]) == [CONFIRMED, CONFIRMED, UNKNOWN, CONFIRMED, CONFIRMED]
    assert await other == [CONFIRMED]
    await until(lambda: {b"0", b"1", b"2", b"3", b"other"} <= set(bodies(reader.seen)), "the good messages")
    assert b"bad" not in bodies(reader.seen)


@pytest.mark.parametrize("size", [0, 1, 4_096, 131_064, 131_065, 256 * 1024])
async def test_bodies_of_every_size(bench: Bench, size: int) -> None:
    """A body arrives as it was sent, be it empty or longer than a frame."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    body = bytes(n % 251 for n in range(size))
    assert await bus.publish([message(bench, "order.created", body)]) == [CONFIRMED]
    assert (await reader.take(1))[0].body == body


async def test_properties_travel(bench: Bench) -> None:
    """Every property arrives as it was sent, with the queue and the exchange it came by."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    sent = replace(
        message(bench, "order.created", b"{}", message_id="id-1"),
        correlation_id="saga-1",
        content_type="application/cloudevents+json",
        headers={"traceparent": "00-1-2-03", "grüße": "schöne"},
        app_id="order",
    )
    await bus.publish([sent])
    (got,) = await reader.take(1)
    assert (got.queue, got.exchange, got.routing_key) == (one.name, bench.events, "order.created")
    assert (got.message_id, got.type, got.correlation_id) == ("id-1", "order.created", "saga-1")
    assert (got.content_type, got.app_id) == ("application/cloudevents+json", "order")
    assert got.timestamp == sent.timestamp
    assert got.headers == {"traceparent": "00-1-2-03", "grüße": "schöne"}
    assert (got.redelivered, got.malformed) == (False, None)
    assert got.user_id is not None


async def test_absent_properties_stay_absent(bench: Bench) -> None:
    """What a message does not have is None or empty when it arrives."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    await bus.publish([message(bench, "order.created")])
    (got,) = await reader.take(1)
    assert (got.correlation_id, got.headers) == (None, {})


async def test_an_unencodable_message_harms_nobody_else(bench: Bench) -> None:
    """An id that AMQP cannot carry is UNKNOWN on RabbitMQ and harmless in memory; its neighbors are
    confirmed.
    """
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    messages = [message(bench, "order.created", b"%d" % n) for n in range(3)]
    messages[1] = replace(messages[1], message_id="x" * 256)
    first, middle, last = await bus.publish(messages)
    assert (first, last) == (CONFIRMED, CONFIRMED)
    assert middle is (CONFIRMED if isinstance(bench, MemoryBench) else UNKNOWN)
    await until(lambda: {b"0", b"2"} <= set(bodies(reader.seen)), "the neighbors")


async def test_what_was_not_acknowledged_comes_back(bench: Bench) -> None:
    """When a bus closes, what it had not settled is delivered to another, marked, and in order."""
    first, second = await bench.connect("first"), await bench.connect("second")
    one = queue(bench, "one", "#")
    await first.declare(topology(bench, one))
    reader = await read(first, one, ack=False)
    sending = publishing(second, [message(bench, "order.x", b"%d" % n) for n in range(4)])
    taken = await reader.take(4)
    assert [each.redelivered for each in taken] == [False] * 4
    await reader.subscription.ack([taken[1]])
    await first.close()
    again = await (await read(second, one)).take(3)
    assert bodies(again) == [b"0", b"2", b"3"]
    assert [each.redelivered for each in again] == [True] * 3
    assert await sending == [CONFIRMED] * 4


async def test_a_delivery_is_held_until_it_is_handed_out_to_others(bench: Bench) -> None:
    """A subscription tells a delivery that waits for us from one that others get, because its connection is gone."""
    first, second = await bench.connect(), await bench.connect("second")
    one = queue(bench, "one", "#")
    await first.declare(topology(bench, one))
    reader = await read(first, one, ack=False)
    sending = publishing(second, [message(bench, "order.x", b"again")])
    (delivery,) = await reader.take(1)
    assert reader.subscription.holds(delivery)
    await first.close()
    assert not reader.subscription.holds(delivery)
    assert bodies(await (await read(second, one)).take(1)) == [b"again"]
    assert await sending == [CONFIRMED]


async def test_acknowledging_twice_is_harmless(bench: Bench) -> None:
    """A delivery may be settled twice, in any order, and after its bus has closed."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one, ack=False)
    sending = publishing(bus, [message(bench, "order.x") for _ in range(6)])
    taken = await reader.take(6)
    for settled in ([4], [1, 4], [0], [0, 1], [3, 5, 5], [2, 0], [5]):
        await reader.subscription.ack([taken[at] for at in settled])
    await reader.subscription.reject([taken[3]], requeue=True)
    assert await sending == [CONFIRMED] * 6
    fresh = publishing(bus, [message(bench, "order.x", b"fresh")])
    assert bodies(await reader.take(1)) == [b"fresh"]
    await reader.subscription.ack(reader.seen)
    assert await fresh == [CONFIRMED]
    await bus.close()
    await reader.subscription.ack(taken)
    await reader.subscription.reject(taken, requeue=False)


async def test_a_rejected_message_can_come_back(bench: Bench) -> None:
    """A message given back is delivered again and says so."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one, ack=False)
    sending = publishing(bus, [message(bench, "order.x", b"stubborn")])
    (first,) = await reader.take(1)
    await reader.subscription.reject([first], requeue=True)
    (second,) = await reader.take(1)
    assert (second.body, second.redelivered) == (b"stubborn", True)
    await reader.subscription.ack([second])
    assert await sending == [CONFIRMED]


async def test_a_rejected_message_becomes_a_dead_letter(bench: Bench) -> None:
    """A message nobody wants lies in the dead-letter queue, with its routing key and where it died."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader, dead = await read(bus, one, ack=False), await read(bus, dead_queue(bench))
    sending = publishing(
        bus, [replace(message(bench, "order.x", b"bad"), headers={"a": "b"}), message(bench, "order.y")]
    )
    bad, good = await reader.take(2)
    await reader.subscription.reject([bad], requeue=False)
    await reader.subscription.ack([good])
    (letter,) = await dead.take(1)
    assert (letter.body, letter.routing_key, letter.exchange) == (b"bad", "order.x", bench.dead_letters)
    assert letter.headers["a"] == "b"
    assert letter.headers["x-first-death-queue"] == one.name
    assert letter.headers["x-first-death-reason"] == "rejected"
    assert await sending == [CONFIRMED, CONFIRMED]


async def test_the_delivery_limit_ends_a_circle(bench: Bench) -> None:
    """A message given back more often than its queue allows becomes a dead letter."""
    bus = await bench.connect()
    one = queue(bench, "one", "#", delivery_limit=2)
    await bus.declare(topology(bench, one))
    reader, dead = await read(bus, one, ack=False), await read(bus, dead_queue(bench))
    sending = publishing(bus, [message(bench, "order.x", b"poison")])
    for _ in range(3):
        await reader.subscription.reject(await reader.take(1), requeue=True)
    (letter,) = await dead.take(1)
    assert letter.body == b"poison"
    assert letter.headers["x-first-death-reason"] == "delivery_limit"
    assert reader.untaken() == []
    assert await sending == [CONFIRMED]


async def test_prefetch_bounds_what_is_unsettled(bench: Bench) -> None:
    """Never are more deliveries unsettled than the prefetch allows, and settling lets the next ones in."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one, prefetch=3)
    receipts = await bus.publish([message(bench, "order.x", b"%d" % n) for n in range(60)])
    assert receipts == [CONFIRMED] * 60
    assert bodies(await reader.take(60)) == [b"%d" % n for n in range(60)]
    assert 1 <= reader.most_unsettled <= 3


@pytest.mark.parametrize("prefetch", [0, -1])
async def test_a_prefetch_without_bound_is_refused(bench: Bench, prefetch: int) -> None:
    """A prefetch below one would mean no bound, and is a ValueError."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    with pytest.raises(ValueError, match="prefetch"):
        await read(bus, one, prefetch=prefetch)


async def test_two_consumers_share_a_queue(bench: Bench) -> None:
    """Each message goes to one of a queue's consumers, and none starves."""
    left, right = await bench.connect("left"), await bench.connect("right")
    one = queue(bench, "one", "#")
    await left.declare(topology(bench, one))
    readers = [await read(bus, one, prefetch=2) for bus in (left, right)]
    await left.publish([message(bench, "order.x", b"%d" % n) for n in range(50)])
    await until(lambda: sum(len(reader.seen) for reader in readers) == 50, "all fifty deliveries")
    assert sorted(int(body) for reader in readers for body in bodies(reader.seen)) == list(range(50))
    assert all(len(reader.seen) > 5 for reader in readers)


async def test_a_canceled_subscription_settles_but_gets_no_more(bench: Bench) -> None:
    """After cancel nothing is delivered, what was can still be acknowledged, and the rest goes back at
    close.
    """
    first, second = await bench.connect("first"), await bench.connect("second")
    one = queue(bench, "one", "#")
    await first.declare(topology(bench, one))
    reader = await read(first, one, prefetch=2, ack=False)
    sending = publishing(second, [message(bench, "order.x", b"%d" % n) for n in range(4)])
    taken = await reader.take(2)
    await reader.subscription.cancel()
    assert not reader.subscription.attached
    await reader.subscription.ack([taken[0]])
    later = await read(second, one)
    assert bodies(await later.take(2)) == [b"2", b"3"]
    await first.close()
    assert bodies(await later.take(1)) == [b"1"]
    assert await sending == [CONFIRMED] * 4
    assert reader.untaken() == []


async def test_all_that_a_canceled_subscription_was_sent_can_be_given_back(bench: Bench) -> None:
    """Also what came while it was being canceled: somebody else then has every message, before the first has closed."""
    first, second = await bench.connect("first"), await bench.connect("second")
    one = queue(bench, "one", "#")
    await first.declare(topology(bench, one))
    sending = publishing(second, [message(bench, "order.x", b"%d" % n) for n in range(200)])
    reader = await read(first, one, prefetch=50, ack=False)
    await reader.take(1)
    await reader.subscription.cancel()
    given_back = list(reader.seen)
    await reader.subscription.reject(given_back, requeue=True)
    later = await read(second, one, prefetch=200, ack=False)
    taken = await later.take(200)
    assert sorted(int(each.body) for each in taken) == [*range(200)]
    assert reader.seen == given_back
    await later.subscription.ack(taken)
    assert await sending == [CONFIRMED] * 200


async def test_a_queue_declared_differently_is_a_mismatch(bench: Bench) -> None:
    """A queue that exists with other settings is named, and the bus goes on working."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    with pytest.raises(TopologyMismatch, match=one.name):
        await bus.declare(topology(bench, replace(one, delivery_limit=7)))
    with pytest.raises(TopologyMismatch, match=one.name):
        await bus.declare(topology(bench, replace(one, dead_letter_exchange=bench.events)))
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    assert await bus.publish([message(bench, "order.x", b"still here")]) == [CONFIRMED]
    assert bodies(await reader.take(1)) == [b"still here"]


async def test_declaring_adds_bindings(bench: Bench) -> None:
    """A queue declared with one binding more has both."""
    bus = await bench.connect()
    await bus.declare(topology(bench, queue(bench, "one", "order.*")))
    one = queue(bench, "one", "order.*", "payment.*")
    await bus.declare(topology(bench, one))
    await read(bus, one)
    receipts = await bus.publish([message(bench, "order.x"), message(bench, "payment.x")])
    assert receipts == [CONFIRMED, CONFIRMED]


async def test_a_passive_bus_only_checks(bench: Bench) -> None:
    """With passive, what is missing is named and not made; what is there is good enough to work with."""
    passive, owner = await bench.connect("passive", passive=True), await bench.connect("owner")
    one, two = queue(bench, "one", "#"), queue(bench, "two", "#")
    with pytest.raises(TopologyMismatch, match=bench.events):
        await passive.declare(topology(bench, one))
    await owner.declare(topology(bench, one))
    await passive.declare(topology(bench, one))
    with pytest.raises(TopologyMismatch, match=two.name):
        await passive.declare(topology(bench, one, two))
    reader = await read(passive, one)
    assert await passive.publish([message(bench, "order.x", b"hello")]) == [CONFIRMED]
    assert bodies(await reader.take(1)) == [b"hello"]


async def test_a_missing_queue_cannot_be_consumed(bench: Bench) -> None:
    """Subscribing to a queue that nobody has declared names it at once."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    with pytest.raises(TopologyMismatch, match=one.name):
        await bus.subscribe(one.name, prefetch=1, deliver=lambda _delivery: None)


async def test_a_queue_is_looked_at_and_not_touched(bench: Bench) -> None:
    """What is ready and who consumes it; looking takes no message, and makes no queue that is missing."""
    bus = await bench.connect()
    one, two = queue(bench, "one", "#"), queue(bench, "two", "#")
    await bus.declare(topology(bench, one))
    assert await bus.inspect(two.name) is None
    assert await bus.inspect(two.name) is None
    sent = publishing(bus, [message(bench, "order.x", b"first"), message(bench, "order.x", b"second")])

    async def seen(wanted: QueueState) -> None:
        async with asyncio.timeout(PATIENCE):
            while await bus.inspect(one.name) != wanted:  # noqa: ASYNC110 - a broker's counts lag behind a little
                await asyncio.sleep(0.02)

    await seen(QueueState(one.name, ready=2, consumers=0))
    reader = await read(bus, one)
    assert bodies(await reader.take(2)) == [b"first", b"second"]
    assert await sent == [CONFIRMED, CONFIRMED]
    await seen(QueueState(one.name, ready=0, consumers=1))
    await bus.close()
    with pytest.raises(BusUnavailable):
        await bus.inspect(one.name)


async def test_a_closed_bus_does_nothing_and_says_so(bench: Bench) -> None:
    """After close a publish is UNKNOWN, a subscription refused, and the bus not connected."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    assert (bus.connected, reader.subscription.attached) == (True, True)
    await bus.close()
    assert (bus.connected, reader.subscription.attached) == (False, False)
    assert await bus.publish([message(bench, "order.x")] * 2) == [UNKNOWN, UNKNOWN]
    with pytest.raises(BusUnavailable):
        await Reader().subscribe(bus, one.name)
    with pytest.raises(BusUnavailable):
        await bus.declare(topology(bench, one))
    await bus.close()


@pytest.mark.parametrize(
    "bus",
    [
        MemoryBus(MemoryBroker(), service="tester"),
        RabbitBus("amqp://guest:guest@127.0.0.1:1/", service="tester"),
    ],
    ids=["memory", "rabbitmq"],
)
async def test_a_bus_that_was_never_started(bus: Bus) -> None:
    """Before start a publish is UNKNOWN and a subscription refused."""
    assert not bus.connected
    assert await bus.publish([message(MemoryBench(), "order.x")]) == [UNKNOWN]
    with pytest.raises(BusUnavailable):
        await bus.subscribe("anything", prefetch=1, deliver=lambda _delivery: None)
    await bus.close()


async def test_ten_thousand_messages(bench: Bench) -> None:
    """Nothing is lost, doubled or reordered among ten thousand messages published in batches."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one, prefetch=500)
    for start in range(0, 10_000, 1_000):
        batch = [message(bench, "order.x", b"%d" % n) for n in range(start, start + 1_000)]
        assert await bus.publish(batch) == [CONFIRMED] * 1_000
    assert bodies(await reader.take(10_000)) == [b"%d" % n for n in range(10_000)]
    assert reader.untaken() == []
