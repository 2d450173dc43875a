"""Messages that the broker does not confirm: they hold up nobody but themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from messaging.bus import Receipt
from messaging.rabbitmq_publishing import WINDOW
from messaging.rabbitmq_writing import FrameWriter, InFlight
from tests.contract.buses import (
    PATIENCE,
    RabbitBench,
    message,
    publishing,
    queue,
    topology,
    until,
)
from tests.contract.rabbitmq.sending import publish_until_confirmed

CONFIRMED, UNKNOWN = Receipt.CONFIRMED, Receipt.UNKNOWN


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
