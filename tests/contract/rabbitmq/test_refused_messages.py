"""What a refused message may cost its neighbors on RabbitMQ: nothing, whatever it takes down with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from messaging.bus import Receipt
from messaging.rabbitmq_link import BrokerConnection
from messaging.rabbitmq_publishing import Publisher
from tests.contract.buses import RabbitBench, message, queue, topology
from tests.contract.proxy import Proxy


async def test_neighbors_are_confirmed_though_the_refusal_costs_the_connection(
    bench: RabbitBench, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the connection is lost while the channel is opened again, the neighbors wait for the next one."""
    reopen = Publisher._reopen
    async with Proxy(broker_url) as proxy:
        bus = await bench.connect(url=proxy.url)
        await bus.declare(topology(bench, queue(bench, "one", "#")))

        async def cut_and_reopen(publisher: Publisher, connection: BrokerConnection) -> None:
            proxy.reset()
            await reopen(publisher, connection)

        monkeypatch.setattr(Publisher, "_reopen", cut_and_reopen)
        good = [message(bench, "order.created", b"%d" % n) for n in range(4)]
        bad = replace(good[0], message_id="bad", exchange=f"{bench.events}.nowhere")
        receipts = await bus.publish([*good[:2], bad, *good[2:]])
        assert receipts == [
            Receipt.CONFIRMED,
            Receipt.CONFIRMED,
            Receipt.UNKNOWN,
            Receipt.CONFIRMED,
            Receipt.CONFIRMED,
        ]
