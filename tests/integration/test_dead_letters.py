"""Dead letters end to end: a service breaks, its letters are collected, it is mended and they are redriven: all end.

In one process on SQLite with the exchange in memory, and on RabbitMQ and PostgreSQL.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Never

import pytest

from contracts.payment import AuthorizePayment
from messaging import schema
from messaging.bus import Delivery
from messaging.memory import MemoryBroker, MemoryBus
from messaging.rabbitmq import RabbitBus
from orchestrator.schema import collected_letter, saga
from services.payment.ledger import Ledger
from services.payment.schema import journal_entry
from tests.integration.shop import NAMES, Shop


def _in_memory(directory: Path) -> Shop:
    broker = MemoryBroker()
    shop = Shop(
        lambda name: MemoryBus(broker, service=name), {each: f"sqlite:///{directory / each}.db" for each in NAMES}
    )
    for name in NAMES:
        broker.declare(shop.build(name).topology)
    return shop


def _on_servers(url: str, fresh: Callable[[], str]) -> Shop:
    shop = Shop(lambda name: RabbitBus(url, service=name), {each: fresh() for each in NAMES})
    for name in NAMES:
        shop.build(name)
    return shop


@pytest.fixture(params=["memory", "servers"])
def bought(request: pytest.FixtureRequest) -> Callable[[], Shop]:
    """A shop, once there is an event loop; not an asynchronous fixture, because it asks for one by name."""
    if request.param == "memory":
        directory: Path = request.getfixturevalue("tmp_path")
        return lambda: _in_memory(directory)
    url: str = request.getfixturevalue("amqp_url")
    fresh: Callable[[], str] = request.getfixturevalue("fresh_postgres")
    return lambda: _on_servers(url, fresh)


@pytest.fixture
async def shop(bought: Callable[[], Shop]) -> AsyncIterator[Shop]:
    """Built, and not started."""
    shop = bought()
    yield shop
    await asyncio.gather(*(each.quiesce() for each in shop.services.values()))
    for each in shop.services.values():
        await each.close()


async def _break(self: Ledger, commands: Sequence[AuthorizePayment], *_: object) -> Never:
    raise ValueError("the ledger's page is torn")


async def test_what_a_broken_handler_left_is_collected_and_redriven(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three orders wait at payment; once mended and redriven all are paid, and redriving twice doubles nothing."""
    for name in NAMES:
        await shop.services[name].start()
    with monkeypatch.context() as broken:
        broken.setattr(Ledger, "authorize", _break)
        for number in range(3):
            await shop.place(number)
        await shop.come(3, "orchestrator", collected_letter, state="open", reason="handler_failed", service="payment")
    listed = json.loads((await shop.amends("list", "-o", "json")).stdout)
    assert {each["type"] for each in listed} == {"payment.authorize"}
    assert all("the ledger's page is torn" in each["error"] for each in listed)
    shown = await shop.amends("show", listed[0]["id"])
    assert "is running, waiting for authorize_payment" in shown.stdout

    redriven = await shop.amends("redrive", "--all", "--reason", "ledger mended", "--yes")
    assert redriven.exit_code == 0, redriven.stderr
    await shop.come(3, "orchestrator", saga, status="completed")
    await shop.come(3, "orchestrator", collected_letter, state="handled")
    assert await shop.count("payment", schema.dead_letter) == 0

    again = await shop.amends("redrive", "--all", "--state", "handled", "--reason", "to be sure", "--yes")
    assert again.exit_code == 0, again.stderr
    await shop.come(3, "orchestrator", collected_letter, state="handled")
    await shop.come(0, "orchestrator", schema.outbox)
    await shop.come(0, "payment", schema.outbox)
    assert await shop.count("payment", journal_entry, operation="authorize") == 3
    assert await shop.count("payment", journal_entry, operation="capture") == 3


async def test_a_letter_whose_handler_is_still_broken_is_open_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same letter, counted; from the service's own database it can be sent as well."""
    for name in NAMES:
        await shop.services[name].start()
    with monkeypatch.context() as broken:
        broken.setattr(Ledger, "authorize", _break)
        await shop.place(1)
        await shop.come(1, "orchestrator", collected_letter, state="open")
        await shop.amends("redrive", "--all", "--reason", "perhaps", "--yes")
        await shop.come(1, "orchestrator", collected_letter, state="open", failures=2)
        assert await shop.count("payment", schema.dead_letter) == 1
    sent = await shop.amends("redrive", "--all", "--reason", "ledger mended", "--yes", at="payment")

    assert sent.exit_code == 0, sent.stderr
    await shop.come(1, "orchestrator", saga, status="completed")
    await shop.come(1, "orchestrator", collected_letter, state="handled")
    assert await shop.count("orchestrator", collected_letter) == 1


async def test_what_the_broker_gave_up_is_collected_and_redriven(shop: Shop) -> None:
    """A command handed out and given back more often than its queue allows is nobody's row, and is not lost."""
    for name in ("orchestrator", "order"):
        await shop.services[name].start()
    payment = shop.services["payment"]
    bus = shop.bus("payment")
    await bus.start()
    await bus.declare(payment.topology)
    returned: set[asyncio.Task[None]] = set()

    def give_back(delivery: Delivery) -> None:
        task = asyncio.ensure_future(subscription.reject([delivery], requeue=True))
        returned.add(task)
        task.add_done_callback(returned.discard)

    subscription = await bus.subscribe("payment.commands", prefetch=1, deliver=give_back)
    await shop.place(1)
    await shop.come(1, "orchestrator", collected_letter, state="open", reason="delivery_limit", service="payment")
    await subscription.cancel()
    await bus.close()
    await payment.start()
    redriven = await shop.amends("redrive", "--died-of", "delivery_limit", "--reason", "payment is back", "--yes")

    assert redriven.exit_code == 0, redriven.stderr
    await shop.come(1, "orchestrator", saga, status="completed")
    await shop.come(1, "orchestrator", collected_letter, state="handled")
    assert await shop.count("payment", journal_entry, operation="authorize") == 1
