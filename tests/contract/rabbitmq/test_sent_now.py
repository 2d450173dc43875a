"""Messages that are written before `send_now` returns, and answered as what is published is."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from messaging import rabbitmq_publishing, rabbitmq_writing
from messaging.bus import Outgoing, Receipt
from messaging.rabbitmq_frames import FrameEncoder
from messaging.rabbitmq_writing import FrameWriter
from tests.contract.buses import PATIENCE, RabbitBench, bodies, message, queue, read, topology, until

CONFIRMED, UNROUTABLE, UNKNOWN = Receipt.CONFIRMED, Receipt.UNROUTABLE, Receipt.UNKNOWN


async def test_they_are_in_flight_when_it_returns_and_answered_like_others(bench: RabbitBench) -> None:
    """Each has its own receipt, in its own place."""
    bus = await bench.connect()
    one = queue(bench, "one", "order.created")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    sent = [message(bench, "order.created", b"1"), message(bench, "order.lost"), message(bench, "order.created", b"2")]
    answers = bus.send_now(sent)
    assert [each.message for each in bus._publisher._in_flight.values()] == sent
    assert answers is not None
    assert await answers() == [CONFIRMED, UNROUTABLE, CONFIRMED]
    assert bodies(await reader.take(2)) == [b"1", b"2"]
    assert bus._publisher._in_flight == {}


async def test_nothing_is_written_where_somebody_else_is_first(bench: RabbitBench) -> None:
    """While something is unanswered, or written by a call of `publish`, that call or the next one is to be used."""
    bus = await bench.connect()
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    first = bus.send_now([message(bench, "order.x")])
    assert first is not None
    assert bus.send_now([message(bench, "order.x")]) is None
    assert await first() == [CONFIRMED]
    async with bus._publisher._turn:
        assert bus.send_now([message(bench, "order.x")]) is None
    second = bus.send_now([message(bench, "order.x")])
    assert second is not None
    assert await second() == [CONFIRMED]


async def test_what_cannot_be_told_apart_or_is_too_much_at_once_is_not_written(
    bench: RabbitBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of one id are sent one after the other, and a long call in pieces: that is `publish`."""
    monkeypatch.setattr(rabbitmq_publishing, "_WRITE_BYTES", 1_000)
    bus = await bench.connect()
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    twins = [message(bench, "order.x", message_id="twin"), message(bench, "order.x", message_id="twin")]
    assert bus.send_now(twins) is None
    assert bus.send_now([message(bench, "order.x", bytes(1_001))]) is None
    assert bus.send_now([message(bench, "order.x") for _ in range(rabbitmq_publishing.WINDOW + 1)]) is None
    assert bus._publisher._in_flight == {}
    assert await bus.publish(twins) == [CONFIRMED, CONFIRMED]


async def test_without_a_channel_nothing_is_written(bench: RabbitBench) -> None:
    """Neither before the connection stands nor after it is closed."""
    bus = await bench.connect()
    sent = [message(bench, "order.x")]
    await bus.close()
    assert bus.send_now(sent) is None


async def test_with_libraries_that_are_not_known_nothing_is_written(
    bench: RabbitBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task of aio-pika's writes then, later."""
    monkeypatch.setitem(rabbitmq_writing.KNOWN_VERSIONS, "aiormq", "another release")
    bus = await bench.connect()
    assert bus.send_now([message(bench, "order.x")]) is None


async def test_a_missing_exchange_harms_nobody_else(bench: RabbitBench) -> None:
    """The broker closes the channel over it: its neighbors are sent again, one by one."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    good = [message(bench, "order.x", b"%d" % n) for n in range(3)]
    bad = replace(message(bench, "order.x", b"bad"), exchange=f"{bench.events}.nowhere")
    answers = bus.send_now([good[0], bad, *good[1:]])
    assert answers is not None
    assert await answers() == [CONFIRMED, UNKNOWN, CONFIRMED, CONFIRMED]
    await until(lambda: {b"0", b"1", b"2"} <= set(bodies(reader.seen)), "the good messages")
    assert b"bad" not in bodies(reader.seen)


async def test_a_channel_that_is_closed_while_nobody_waits_yet_harms_nobody_else(bench: RabbitBench) -> None:
    """Whoever asks later what became of it finds a new channel, on which others have sent, and has the rest sent."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    good = [message(bench, "order.x", b"%d" % n) for n in range(3)]
    bad = replace(message(bench, "order.x", b"bad"), exchange=f"{bench.events}.nowhere")
    before = bus._publisher._channel
    answers = bus.send_now([good[0], bad, *good[1:]])
    assert answers is not None
    await until(lambda: bus._publisher._channel not in (None, before), "another channel is open")
    assert await bus.publish([message(bench, "order.x", b"other")]) == [CONFIRMED]
    assert await answers() == [CONFIRMED, UNKNOWN, CONFIRMED, CONFIRMED]
    await until(lambda: {b"0", b"1", b"2", b"other"} <= set(bodies(reader.seen)), "the good messages")


async def test_a_connection_that_is_lost_while_nobody_waits_yet_leaves_it_unknown(bench: RabbitBench) -> None:
    """Its answer would have come on the one that is gone; the next one is nobody's but the next message's."""
    bus = await bench.connect()
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    before = bus._publishing.connection
    assert before is not None
    answers = bus.send_now([message(bench, "order.x")])
    assert answers is not None
    before.abort()
    await until(lambda: bus._publishing.connection not in (None, before), "another connection stands")
    following = bus.send_now([message(bench, "order.x")])
    assert following is not None
    assert [await answers(), await following()] == [[UNKNOWN], [CONFIRMED]]


async def test_what_amqp_cannot_carry_is_unknown_and_its_neighbor_leaves(bench: RabbitBench) -> None:
    """A routing key of more than 255 bytes has no place in a frame."""
    bus = await bench.connect()
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    answers = bus.send_now([message(bench, "x" * 256), message(bench, "order.x")])
    assert answers is not None
    assert await answers() == [UNKNOWN, CONFIRMED]


async def test_a_broker_that_does_not_answer_in_time_leaves_it_unknown(
    bench: RabbitBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `publish`, the wait has an end."""
    bus = await bench.connect(publish_timeout=timedelta(seconds=0.2))
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    monkeypatch.setattr(FrameWriter, "put", lambda *_: None)
    answers = bus.send_now([message(bench, "order.x")])
    assert answers is not None
    async with asyncio.timeout(PATIENCE):
        assert await answers() == [UNKNOWN]


async def test_what_fails_while_it_is_written_is_not_in_flight(
    bench: RabbitBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise nobody could send it any more."""
    bus = await bench.connect()
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    sent = message(bench, "order.x")

    def broken(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(FrameWriter, "put", broken)
        with pytest.raises(MemoryError):
            bus.send_now([sent])
    assert bus._publisher._in_flight == {}
    assert await bus.publish([sent]) == [CONFIRMED]


async def test_what_fails_while_it_is_written_has_no_number(
    bench: RabbitBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker has not counted it: otherwise what it says of one message would be taken for said of another."""
    bus = await bench.connect()
    one = queue(bench, "one", "order.created")
    await bus.declare(topology(bench, one))
    encode = FrameEncoder.encode

    def broken(self: FrameEncoder, each: Outgoing) -> bytes:
        if each.body == b"broken":
            raise MemoryError
        return encode(self, each)

    with monkeypatch.context() as patch:
        patch.setattr(FrameEncoder, "encode", broken)
        with pytest.raises(MemoryError):
            bus.send_now([message(bench, "order.created"), message(bench, "order.created", b"broken")])
    async with asyncio.timeout(PATIENCE / 2):
        assert await bus.publish([message(bench, "order.created"), message(bench, "order.created")]) == [
            CONFIRMED,
            CONFIRMED,
        ]


async def test_frames_that_were_made_ahead_are_those_that_leave(
    bench: RabbitBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are made once; only for that very message, and what cannot be carried is told of when it is sent."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    encode, encoded = FrameEncoder.encode, list[bytes]()

    def counted(self: FrameEncoder, each: Outgoing) -> bytes:
        encoded.append(each.body)
        return encode(self, each)

    monkeypatch.setattr(FrameEncoder, "encode", counted)
    first, second = message(bench, "order.x", b"1"), message(bench, "order.x", b"2")
    bus.prepare([first, second])
    answers = bus.send_now([first])
    assert answers is not None
    assert await answers() == [CONFIRMED]
    assert encoded == [b"1", b"2"]
    assert await bus.publish([replace(second, body=b"other")]) == [CONFIRMED]
    assert encoded == [b"1", b"2", b"other"]
    bus.prepare([message(bench, "x" * 256)])
    assert await bus.publish([message(bench, "x" * 256), second]) == [UNKNOWN, CONFIRMED]
    assert bodies(await reader.take(3)) == [b"1", b"other", b"2"]
