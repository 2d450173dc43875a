"""What only RabbitMQ can do to us: lost connections, silent peers, alarms, hostile properties."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta

import aio_pika
import pytest
from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from pamqp import commands, frame
from pamqp.common import FieldTable
from yarl import URL

from messaging.bus import Bus, BusUnavailable, Delivery, Receipt
from messaging.rabbitmq import RabbitBus
from messaging.rabbitmq_link import BrokerConnection
from messaging.rabbitmq_publishing import WINDOW
from messaging.rabbitmq_writing import FrameWriter, InFlight
from tests.contract.buses import (
    PATIENCE,
    RabbitBench,
    bodies,
    dead_queue,
    message,
    publishing,
    queue,
    read,
    topology,
    until,
)
from tests.contract.proxy import Proxy

CONFIRMED, UNKNOWN = Receipt.CONFIRMED, Receipt.UNKNOWN


@pytest.fixture
async def bench(broker_url: str) -> AsyncIterator[RabbitBench]:
    """Buses on the broker under test."""
    made = RabbitBench(broker_url)
    yield made
    await made.close()


@pytest.fixture
async def proxy(broker_url: str) -> AsyncIterator[Proxy]:
    """Something to break between us and the broker."""
    async with Proxy(broker_url) as made:
        yield made


async def publish_until_confirmed(bus: Bus, bench: RabbitBench, body: bytes) -> None:
    """Send again what is UNKNOWN, as the relay does."""
    async with asyncio.timeout(PATIENCE):
        while await bus.publish([message(bench, "order.x", body)]) != [CONFIRMED]:  # noqa: ASYNC110 - as the relay
            await asyncio.sleep(0.02)


async def test_everything_comes_back_after_a_lost_connection(bench: RabbitBench, proxy: Proxy) -> None:
    """After a reset, publishing and consuming go on by themselves, and what was unsettled is delivered
    again.
    """
    bus = await bench.connect(url=proxy.url)
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one, ack=False)
    assert await bus.publish([message(bench, "order.x", b"before")]) == [CONFIRMED]
    (before,) = await reader.take(1)
    proxy.reset()
    await until(lambda: not bus.connected, "the bus to notice the reset")
    assert await bus.publish([message(bench, "order.x", b"meanwhile")]) in ([UNKNOWN], [CONFIRMED])
    await until(lambda: bus.connected and reader.subscription.attached, "the bus to come back")
    await reader.subscription.ack([before])
    (again,) = await reader.take(1)
    assert (again.body, again.redelivered) == (b"before", True)
    await reader.subscription.ack([again])
    await publish_until_confirmed(bus, bench, b"after")
    await until(lambda: b"after" in bodies(reader.seen), "the message sent after the reset")


async def test_an_acknowledgment_of_a_lost_channel_settles_nothing(bench: RabbitBench, proxy: Proxy) -> None:
    """Acknowledging what came over a lost connection does not settle what has the same tag on the new one."""
    bus, witness = await bench.connect(url=proxy.url), await bench.connect("witness")
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one, ack=False)
    assert await witness.publish([message(bench, "order.x", b"twice")]) == [CONFIRMED]
    stale = await reader.take(1)
    assert reader.subscription.holds(stale[0])
    proxy.reset()
    fresh = await reader.take(1)
    assert bodies(fresh) == [b"twice"]
    assert [reader.subscription.holds(each) for each in (*stale, *fresh)] == [False, True]
    await reader.subscription.ack(stale)
    await reader.subscription.reject(stale, requeue=False)
    await bus.close()
    (again,) = await (await read(witness, one)).take(1)
    assert (again.body, again.redelivered) == (b"twice", True)


async def test_publish_does_not_wait_for_a_broker_that_is_away(bench: RabbitBench, proxy: Proxy) -> None:
    """While the broker is away a publish is UNKNOWN at once, and the bus says that it is not connected."""
    bus = await bench.connect(url=proxy.url)
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    await proxy.refuse()
    await until(lambda: not bus.connected, "the bus to notice")
    async with asyncio.timeout(1):
        assert await bus.publish([message(bench, "order.x")] * 3) == [UNKNOWN] * 3
    with pytest.raises(BusUnavailable):
        await bus.declare(topology(bench))
    await proxy.listen()
    await publish_until_confirmed(bus, bench, b"back")
    await until(lambda: bus.connected, "both connections")


async def test_messages_in_flight_when_the_connection_breaks_are_unknown(bench: RabbitBench, proxy: Proxy) -> None:
    """A publish that waits for its confirms returns as soon as the connection is cut."""
    bus = await bench.connect(url=proxy.url)
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    proxy.blackhole()
    under_way = publishing(bus, [message(bench, "order.x") for _ in range(700)])
    await asyncio.sleep(0)
    proxy.reset()
    proxy.let_through()
    async with asyncio.timeout(2):
        assert await under_way == [UNKNOWN] * 700


async def test_a_silent_peer_is_given_up(bench: RabbitBench, proxy: Proxy) -> None:
    """On a half-open connection a publish ends at its time limit, and a new connection is made."""
    bus = await bench.connect(url=proxy.url, publish_timeout=timedelta(seconds=0.5))
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    accepted = proxy.accepted
    proxy.blackhole()
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await bus.publish([message(bench, "order.x") for _ in range(3)]) == [UNKNOWN] * 3
    assert 0.4 < loop.time() - started < 2
    await until(lambda: proxy.accepted > accepted, "a new connection")
    proxy.let_through()
    await publish_until_confirmed(bus, bench, b"after")


class Withheld:
    """Keeps messages of these ids from the broker, which confirms them as little as a queue without a leader."""

    def __init__(self, patch: pytest.MonkeyPatch, *ids: str) -> None:
        self._ids = frozenset(ids)
        self._patch = patch
        self._write = FrameWriter.write
        self._kept: list[tuple[FrameWriter, InFlight]] = []

        async def write(writer: FrameWriter, messages: Sequence[InFlight]) -> None:
            self._kept += [(writer, each) for each in messages if each.message.message_id in self._ids]
            await self._write(writer, [each for each in messages if each.message.message_id not in self._ids])

        patch.setattr(FrameWriter, "write", write)

    async def until_kept(self, count: int) -> None:
        """Wait until so many have been kept back."""
        await until(lambda: len(self._kept) == count, f"{count} messages to be withheld")

    async def hand_over(self) -> None:
        """The leader is elected: the broker gets them, and whatever comes later."""
        self._patch.setattr(FrameWriter, "write", self._write)
        for writer, each in self._kept:
            await self._write(writer, [each])
        await until(lambda: all(each.settled for _, each in self._kept), "the late confirms")


async def test_an_unconfirmed_message_holds_up_nobody(bench: RabbitBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is still unconfirmed when it is sent again is UNKNOWN at once, the others are confirmed, and
    the connection is kept.
    """
    bus = await bench.connect(publish_timeout=timedelta(seconds=0.5))
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    connection = bus._publishing.connection
    stuck = message(bench, "order.x", message_id="stuck")
    withheld = Withheld(monkeypatch, "stuck")
    assert await bus.publish([message(bench, "order.x"), stuck]) == [CONFIRMED, UNKNOWN]
    async with bus._publisher._turn:
        # A call whose turn never comes says nothing about the connection.
        assert await bus.publish([message(bench, "order.x")]) == [UNKNOWN]
    # Longer than the test has patience: from here on nothing may end by its time limit.
    bus._publisher._timeout = 60
    async with asyncio.timeout(PATIENCE):
        assert await bus.publish([message(bench, "order.x"), stuck, message(bench, "order.x")]) == [
            CONFIRMED,
            UNKNOWN,
            CONFIRMED,
        ]
        assert await bus.publish([stuck, stuck]) == [UNKNOWN, UNKNOWN]
        await withheld.hand_over()
        assert await bus.publish([stuck]) == [CONFIRMED]
    assert bus.connected
    assert bus._publishing.connection is connection


async def test_a_repetition_waits_no_longer_than_the_first_call(
    bench: RabbitBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that repeats a message of a call under way goes on when that one gives the message up."""
    bus = await bench.connect(publish_timeout=timedelta(seconds=0.5))
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    stuck = message(bench, "order.x", message_id="stuck")
    withheld = Withheld(monkeypatch, "stuck")
    first = publishing(bus, [message(bench, "order.x"), stuck])
    await withheld.until_kept(1)
    bus._publisher._timeout = 60
    async with asyncio.timeout(PATIENCE):
        assert await bus.publish([stuck, message(bench, "order.x")]) == [UNKNOWN, CONFIRMED]
    assert await first == [CONFIRMED, UNKNOWN]


async def test_a_refused_message_is_found_beside_an_unconfirmed_one(
    bench: RabbitBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search for what the broker closed the channel over does not wait for a message that was given up."""
    bus = await bench.connect(publish_timeout=timedelta(seconds=0.5))
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    withheld = Withheld(monkeypatch, "stuck")
    answers = bus._publisher._answers
    first = publishing(bus, [message(bench, "order.x"), message(bench, "order.x", message_id="stuck")])
    await withheld.until_kept(1)
    await until(lambda: bus._publisher._answers > answers, "the confirm of its neighbor")
    bus._publisher._timeout = 60
    bad = replace(message(bench, "order.x"), exchange=f"{bench.events}.nowhere")
    async with asyncio.timeout(PATIENCE):
        # The refusal makes the first call send again what it waits for, and then give it up.
        assert await bus.publish([bad, message(bench, "order.x")]) == [UNKNOWN, CONFIRMED]
    assert await first == [CONFIRMED, UNKNOWN]


async def test_a_window_full_of_unconfirmed_messages_is_left(
    bench: RabbitBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When unconfirmed messages leave no room for another, and nothing is answered, a new connection makes room."""
    bus = await bench.connect(publish_timeout=timedelta(seconds=0.5))
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    connection = bus._publishing.connection
    ids = [f"stuck-{n}" for n in range(WINDOW)]
    Withheld(monkeypatch, *ids)
    stuck = [message(bench, "order.x", message_id=each) for each in ids]
    assert await bus.publish([message(bench, "order.x"), *stuck]) == [CONFIRMED, *[UNKNOWN] * WINDOW]
    assert await bus.publish(stuck) == [UNKNOWN] * WINDOW
    assert bus._publishing.connection is connection
    assert await bus.publish([message(bench, "order.x")]) == [UNKNOWN]
    await publish_until_confirmed(bus, bench, b"after")
    assert bus._publishing.connection is not connection


async def test_a_silent_peer_is_noticed_without_publishing(bench: RabbitBench, proxy: Proxy) -> None:
    """A consumer whose broker has fallen silent connects again after two heartbeats."""
    bus = await bench.connect(url=proxy.url, heartbeat=1)
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    accepted = proxy.accepted
    loop = asyncio.get_running_loop()
    started = loop.time()
    proxy.blackhole()
    await until(lambda: proxy.accepted >= accepted + 2, "both connections to be tried again")
    # Left to itself, aiormq would take six seconds.
    assert loop.time() - started < 5.5
    proxy.let_through()
    await until(lambda: bus.connected and reader.subscription.attached, "the bus to come back")
    await publish_until_confirmed(bus, bench, b"after")
    assert bodies(await reader.take(1)) == [b"after"]


def unsent(connection: BrokerConnection) -> int:
    """Bytes that wait for the peer to read."""
    writer = connection._socket._writer
    assert writer is not None
    return writer.transport.get_write_buffer_size()


async def test_a_peer_that_half_closes_and_does_not_read(bench: RabbitBench, proxy: Proxy) -> None:
    """A peer that says good-bye and reads no more does not keep the connection: it is made anew at once."""
    # Longer than the test has patience, so that no publish that times out saves the day.
    bus = await bench.connect(url=proxy.url, publish_timeout=timedelta(seconds=60))
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    accepted = proxy.accepted
    proxy.stop_reading()
    sending = publishing(bus, [message(bench, "order.x", b"x" * 200_000) for _ in range(60)])
    connection = bus._publishing.connection
    assert connection is not None
    await until(lambda: unsent(connection) > 0, "more to be sent than the network holds")
    proxy.blackhole()
    proxy.half_close()
    # Sooner than one connection alone could try twice.
    async with asyncio.timeout(5):
        await until(lambda: proxy.accepted >= accepted + 2, "both connections to be made anew")
    proxy.let_through()
    assert await sending == [UNKNOWN] * 60
    await until(lambda: bus.connected and reader.subscription.attached, "the bus to come back")
    await publish_until_confirmed(bus, bench, b"after")


async def test_a_blocked_connection_is_not_written_to(bench: RabbitBench, proxy: Proxy) -> None:
    """Under an alarm a publish is UNKNOWN at once, the connection is kept, and all goes on when the alarm
    ends.
    """
    bus = await bench.connect(url=proxy.url)
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    assert await bus.publish([message(bench, "order.x")]) == [CONFIRMED]
    accepted = proxy.accepted
    proxy.tell_clients(frame.marshal(commands.Connection.Blocked(reason="low on memory"), 0))
    await until(lambda: not bus.connected, "the bus to hear of the alarm")
    async with asyncio.timeout(1):
        assert await bus.publish([message(bench, "order.x")] * 2) == [UNKNOWN] * 2
    proxy.tell_clients(frame.marshal(commands.Connection.Unblocked(), 0))
    await until(lambda: bus.connected, "the bus to hear of the end of the alarm")
    assert await bus.publish([message(bench, "order.x")]) == [CONFIRMED]
    assert proxy.accepted == accepted


async def test_a_broker_that_comes_back_empty_gets_its_topology_again(bench: RabbitBench, proxy: Proxy) -> None:
    """Exchanges, queues and consumers that were lost with the connection are made again."""
    bus = await bench.connect(url=proxy.url)
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    await proxy.refuse()
    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(one.name)
        await channel.exchange_delete(bench.events)
    await proxy.listen()
    await until(lambda: bus.connected and reader.subscription.attached, "the bus to come back")
    await publish_until_confirmed(bus, bench, b"after")
    assert bodies(await reader.take(1)) == [b"after"]


async def test_a_service_that_only_publishes_declares_again_too(bench: RabbitBench, proxy: Proxy) -> None:
    """The topology comes back to an empty broker even if nobody consumes."""
    bus = await bench.connect(url=proxy.url)
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    await proxy.refuse()
    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel()
        await channel.exchange_delete(bench.events)
    await proxy.listen()
    await publish_until_confirmed(bus, bench, b"after")


async def test_a_deleted_queue_is_made_and_consumed_again(bench: RabbitBench) -> None:
    """A queue deleted under its consumer is declared again, and the consumer reads on."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(one.name)
    await publish_until_confirmed(bus, bench, b"after")
    assert bodies(await reader.take(1)) == [b"after"]
    assert bus.connected


async def test_no_broker_at_start(unused_tcp_port: int) -> None:
    """Without a broker start gives up within its bound, naming the address and never the password."""
    bus = RabbitBus(
        f"amqp://alice:very-secret@127.0.0.1:{unused_tcp_port}/",
        service="tester",
        connect_timeout=timedelta(seconds=0.7),
    )
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(BusUnavailable, match=f"127.0.0.1:{unused_tcp_port}") as raised:
        await bus.start()
    assert loop.time() - started < 3
    assert "very-secret" not in str(raised.value)
    assert not bus.connected


async def test_a_broker_that_does_not_answer_at_start(proxy: Proxy) -> None:
    """A broker that accepts the connection and stays silent is given up within the bound too."""
    proxy.blackhole()
    bus = RabbitBus(proxy.url, service="tester", connect_timeout=timedelta(seconds=0.3))
    async with asyncio.timeout(5):
        with pytest.raises(BusUnavailable, match="no answer"):
            await bus.start()


async def test_a_wrong_password_is_refused_at_once(broker_url: str) -> None:
    """A login that fails is not tried again until the bound is over, and the message names the user."""
    url = URL(broker_url).with_user("nobody-i-know").with_password("very-secret")
    bus = RabbitBus(str(url), service="tester", connect_timeout=timedelta(seconds=30))
    async with asyncio.timeout(10):
        with pytest.raises(BusUnavailable, match="refuses user 'nobody-i-know'") as raised:
            await bus.start()
    assert "very-secret" not in str(raised.value)


async def test_a_virtual_host_that_does_not_exist(broker_url: str) -> None:
    """A missing virtual host is named at once."""
    bus = RabbitBus(
        str(URL(broker_url).with_path("/no-such-vhost")),
        service="tester",
        connect_timeout=timedelta(seconds=30),
    )
    async with asyncio.timeout(10):
        with pytest.raises(BusUnavailable, match="no-such-vhost"):
            await bus.start()


@pytest.mark.parametrize("url", ["http://localhost/", "localhost:5672", "amqp://", "amqp://a:secret@h:port/"])
def test_what_is_no_amqp_url(url: str) -> None:
    """A URL that cannot be AMQP's is a ValueError that shows what one looks like, and no password."""
    with pytest.raises(ValueError, match="amqp://user:password@host:5672/vhost") as raised:
        RabbitBus(url, service="tester")
    assert "secret" not in str(raised.value)


async def publish_raw(bench: RabbitBench, properties: bytes, body: bytes, routing_key: bytes = b"order.x") -> None:
    """Publish a message whose properties are these very bytes."""
    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        underlying = await channel.get_underlay_channel()
        exchange = bench.events.encode()
        method = struct.pack(">HHH", 60, 40, 0) + bytes([len(exchange)]) + exchange
        method += bytes([len(routing_key)]) + routing_key + b"\x00"
        header = struct.pack(">HHQ", 60, 0, len(body)) + properties
        payload = b"".join(
            struct.pack(">BHI", kind, underlying.number, len(part)) + part + b"\xce"
            for kind, part in ((1, method), (2, header), (3, body))
        )
        assert isinstance(underlying, Channel)
        await underlying.write_queue.put(ChannelFrame(payload, should_close=False))
        # A conversation, so the broker has the message when it ends.
        await channel.declare_queue(f"{bench.prefix}.one", passive=True)


def table(entries: bytes) -> bytes:
    """A field table of encoded entries."""
    return struct.pack(">I", len(entries)) + entries


def nested(depth: int) -> bytes:
    """Headers that hold headers that hold headers."""
    entries = b""
    for _ in range(depth):
        entries = b"\x01nF" + table(entries)
    return entries


HOSTILE = {
    "content type that is no UTF-8": (struct.pack(">H", 0x8080) + b"\x02\xff\xfe" + b"\x02id", "content_type"),
    "header key that is no UTF-8": (
        struct.pack(">H", 0x2080) + table(b"\x02\xff\xfeS\x00\x00\x00\x01x") + b"\x02id",
        "headers",
    ),
    "timestamp far away": (struct.pack(">H", 0x00C0) + b"\x02id" + struct.pack(">Q", 2**62), "timestamp"),
    "headers nested deeply": (struct.pack(">H", 0x2080) + table(nested(2_000)) + b"\x02id", "headers"),
    "a frame full of tiny headers": (
        struct.pack(">H", 0x2080) + table(b"".join(b"\x03%03xV" % n for n in range(4_096))) + b"\x02id",
        "headers",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_properties_arrive_malformed(bench: RabbitBench, name: str) -> None:
    """Properties that cannot be read are named, the rest is saved, and the neighbors arrive as if nothing
    was.
    """
    properties, culprit = HOSTILE[name]
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    await publish_until_confirmed(bus, bench, b"first")
    await publish_raw(bench, properties, b"hostile body")
    await publish_until_confirmed(bus, bench, b"last")
    reader = await read(bus, one)
    first, hostile, last = await reader.take(3)
    assert (first.body, first.malformed, last.body, last.malformed) == (b"first", None, b"last", None)
    assert not any(each.redelivered for each in (first, hostile, last))
    assert hostile.body == b"hostile body"
    assert hostile.message_id == "id"
    assert hostile.malformed is not None
    assert culprit in hostile.malformed


async def test_a_routing_key_that_is_no_text_arrives_malformed(bench: RabbitBench) -> None:
    """A routing key that is no UTF-8 is shown escaped, and the neighbors arrive as if nothing was."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    await publish_raw(bench, struct.pack(">H", 0), b"hostile", routing_key=b"order.\xff")
    await publish_until_confirmed(bus, bench, b"last")
    hostile, last = await (await read(bus, one)).take(2)
    assert (hostile.body, hostile.routing_key, hostile.exchange) == (b"hostile", "order.\\xff", bench.events)
    assert hostile.malformed == "the routing key b'order.\\xff' is no UTF-8"
    assert (last.body, last.malformed) == (b"last", None)


async def test_a_plain_amqp_message_arrives_with_its_properties(bench: RabbitBench) -> None:
    """What any AMQP client sends arrives with its properties, whatever their types."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(bench.events)
        await exchange.publish(
            aio_pika.Message(
                b"hello", message_id="plain", type="order.created", headers={"number": 7, "list": ["a", 1]}
            ),
            "order.created",
        )
        await exchange.publish(aio_pika.Message(b"bare"), "order.created")
    first, second = await (await read(bus, one)).take(2)
    assert (first.body, first.message_id, first.type) == (b"hello", "plain", "order.created")
    assert first.headers == {"number": 7, "list": ["a", 1]}
    assert (first.content_type, first.correlation_id, first.timestamp, first.user_id) == (None,) * 4
    assert (second.body, second.type, second.headers) == (b"bare", None, {})


async def test_carbon_copies_can_be_seen(bench: RabbitBench) -> None:
    """A CC header, which gets around topic permissions on old brokers, is among the delivery's headers."""
    bus = await bench.connect()
    one = queue(bench, "one", "payment.#")
    await bus.declare(topology(bench, one))
    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(bench.events)
        await exchange.publish(aio_pika.Message(b"cc", headers={"CC": ["payment.x"]}), "order.x")
    (got,) = await (await read(bus, one)).take(1)
    assert (got.body, got.headers["CC"]) == (b"cc", ["payment.x"])


async def test_messages_name_their_sender(bench: RabbitBench) -> None:
    """The user id on a message is the user who is logged in; RabbitMQ vouches for it."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    await bus.publish([message(bench, "order.x")])
    (got,) = await reader.take(1)
    assert got.user_id == URL(bench.url).user


async def test_a_plain_client_reads_what_we_write(bench: RabbitBench) -> None:
    """Any AMQP client finds the native properties on our messages, persistence included."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    await bus.publish([message(bench, "order.x", b"ours", message_id="id-9")])
    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel()
        got = await (await channel.get_queue(one.name)).get(timeout=10)
        await got.ack()
    assert (got.body, got.message_id, got.type, got.app_id) == (b"ours", "id-9", "order.x", "tester")
    assert got.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert got.timestamp is not None
    assert got.timestamp.isoformat() == "2026-03-01T12:30:15+00:00"


async def test_dead_letters_are_never_lost_on_the_way(bench: RabbitBench) -> None:
    """Queues are declared with at-least-once dead-lettering: asking for anything less is a mismatch."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    arguments: FieldTable = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": bench.dead_letters,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(one.name, durable=True, arguments=arguments)
        await channel.declare_queue(dead_queue(bench).name, durable=True, arguments={"x-queue-type": "quorum"})


async def test_a_reader_that_stops_does_not_lose_the_connection(bench: RabbitBench) -> None:
    """Five thousand deliveries that nobody settles leave the bus connected and publishing."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    seen: list[Delivery] = []
    subscription = await bus.subscribe(one.name, prefetch=5_000, deliver=seen.append)
    for _ in range(5):
        assert await bus.publish([message(bench, "order.x") for _ in range(1_000)]) == [CONFIRMED] * 1_000
    await until(lambda: len(seen) == 5_000, "all deliveries")
    await subscription.ack(seen[::-1])
    assert await bus.publish([message(bench, "order.x", b"end")]) == [CONFIRMED]
    await until(lambda: seen[-1].body == b"end", "one more delivery")
