"""A user for each service on a real broker: what each needs works, what is granted to none is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Never

import aio_pika
import pytest
from aio_pika.exceptions import ProbableAuthenticationError

from contracts.payment import AuthorizePayment
from messaging import schema
from messaging.rabbitmq import RabbitBus
from orchestrator.schema import collected_letter, saga
from services.payment.ledger import Ledger
from services.payment.schema import journal_entry
from tests.integration.guarded import Guarded, Tries, allowed_of, guard, password_of
from tests.integration.shop import NAMES, Shop

QUEUES = (
    "orchestrator.events",
    "orchestrator.dead-letters",
    "order.commands",
    "order.events",
    "payment.commands",
    "amends.dead-letters",
)
EXCHANGES = ("amends.events", "amends.commands", "amends.dead-letters")
KEYS = {
    "amends.events": ("order.created", "payment.authorized", "fulfillment.completed", "shop.opened", "paymentx.sent"),
    "amends.commands": ("order.confirm", "payment.authorize"),
    "amends.dead-letters": ("orchestrator.expired", "order.handled", "payment.handler_failed", "shop.malformed"),
    # A queue's own name, by the exchange that has none.
    "": ("payment.commands", "orchestrator.events"),
    "amq.topic": ("payment.authorized",),
}
TRIED: tuple[tuple[Any, ...], ...] = (
    *(("publish", exchange, key) for exchange, keys in KEYS.items() for key in keys),
    *(("basic_get", queue) for queue in QUEUES),
    *(("queue_purge", queue) for queue in QUEUES),
    *(("queue_delete", queue) for queue in QUEUES),
    *(("exchange_delete", exchange) for exchange in EXCHANGES),
    *(("queue_bind", queue, "amends.events", "#") for queue in QUEUES),
    *(("queue_unbind", queue, "amends.events", "order.created") for queue in QUEUES),
    *(("exchange_bind", "amends.commands", "amends.events", "#") for _ in "1"),
    ("queue_declare", "payment.own"),
    ("queue_declare", "payment.commands"),
    ("exchange_declare", "payment.own"),
)

GRANTED: dict[str, set[tuple[Any, ...]]] = {
    "orchestrator": {
        ("publish", "amends.events", "order.created"),
        ("publish", "amends.events", "payment.authorized"),
        ("publish", "amends.events", "fulfillment.completed"),
        ("publish", "amends.events", "shop.opened"),
        ("publish", "amends.events", "paymentx.sent"),
        ("publish", "amends.commands", "order.confirm"),
        ("publish", "amends.commands", "payment.authorize"),
        ("publish", "amends.dead-letters", "orchestrator.expired"),
        ("basic_get", "orchestrator.events"),
        ("basic_get", "orchestrator.dead-letters"),
        ("queue_purge", "orchestrator.events"),
        ("queue_purge", "orchestrator.dead-letters"),
    },
    "order": {
        ("publish", "amends.events", "order.created"),
        ("publish", "amends.dead-letters", "order.handled"),
        ("basic_get", "order.commands"),
        ("basic_get", "order.events"),
        ("queue_purge", "order.commands"),
        ("queue_purge", "order.events"),
    },
    "payment": {
        ("publish", "amends.events", "payment.authorized"),
        ("publish", "amends.dead-letters", "payment.handler_failed"),
        ("basic_get", "payment.commands"),
        ("queue_purge", "payment.commands"),
    },
    "shop": {("publish", "amends.events", "shop.opened")},
    "monitor": set(),
}


@pytest.fixture(scope="module")
def vhosts(broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> list[Guarded]:
    """Two with the same users: one to try things on, one in which the services run."""
    return guard(broker_url, tmp_path_factory.mktemp("guarded"), 2)


@pytest.fixture
def guarded(vhosts: list[Guarded]) -> Guarded:
    """A vhost with users."""
    return vhosts[0]


async def test_each_user_may_do_what_is_granted_and_nothing_else(guarded: Guarded) -> None:
    """Every operation on everything there is, tried by every user, is done or refused as the table says."""
    found = {user: await allowed_of(guarded.url(user), TRIED) for user in GRANTED}

    assert found == GRANTED


async def test_the_operator_may_do_everything(guarded: Guarded) -> None:
    """Publish, read, bind and delete."""
    tried = (
        ("publish", "amends.events", "order.created"),
        ("publish", "amends.commands", "payment.authorize"),
        ("basic_get", "amends.dead-letters"),
        ("queue_bind", "payment.commands", "amends.events", "payment.test"),
        ("queue_purge", "order.commands"),
        ("queue_delete", "order.events"),
    )

    assert await allowed_of(guarded.url("operator"), tried) == set(tried)


async def test_nobody_may_name_another_as_the_sender(guarded: Guarded) -> None:
    """The broker closes the channel on which payment says it were order, and takes what payment says of itself."""
    async with Tries(guarded.url("payment")) as tries:
        channel = await tries.channel()
        exchange = await channel.get_exchange("amends.events", ensure=False)
        await exchange.publish(aio_pika.Message(b"{}", user_id="payment"), "payment.authorized")
        with pytest.raises(aio_pika.exceptions.ChannelPreconditionFailed, match="user_id"):
            await exchange.publish(aio_pika.Message(b"{}", user_id="order"), "payment.authorized")


async def test_a_user_without_a_password_cannot_log_in(broker_url: str, guarded: Guarded) -> None:
    """Nor can one with somebody else's."""
    wrong = password_of(str(guarded.broker), "order")
    for password in ("", wrong):
        url = guarded.broker.with_user("payment").with_password(password).with_path(f"/{guarded.vhost}")
        with pytest.raises(ProbableAuthenticationError):
            await aio_pika.connect(url)
    assert wrong in guarded.url("order")


# -- the services, as these users ----------------------------------------------------------------------------


@pytest.fixture
async def shop(vhosts: list[Guarded], tmp_path: Path) -> AsyncIterator[Shop]:
    """The three services as their users, on a topology that is not theirs; senders are looked at."""
    shop = Shop(
        lambda name: RabbitBus(vhosts[1].url(name), service=name, passive=True),
        {each: f"sqlite:///{tmp_path / each}.db" for each in NAMES},
        check_senders=True,
        passive_topology=True,
    )
    for name in NAMES:
        shop.build(name)
    for name in NAMES:
        await shop.services[name].start()
    yield shop
    await asyncio.gather(*(each.quiesce() for each in shop.services.values()))
    for each in shop.services.values():
        await each.close()


FORGED = """{
    "specversion": "1.0", "id": "%s", "source": "order", "type": "order.confirmed", "time": "2026-03-01T11:00:00Z",
    "dataversion": 1, "correlationid": "%s", "causationid": "%s", "data": {"order_id": "%s"}
}"""


async def test_what_payment_says_in_the_name_of_order_is_a_dead_letter(shop: Shop, vhosts: list[Guarded]) -> None:
    """The broker lets its routing key through, the reader looks at the type; nor is it sent again as it is."""
    number = "7d7d7d7d-0000-5000-8000-000000000001"
    body = (FORGED % (number, number, number, number)).encode()
    async with Tries(vhosts[1].url("payment")) as tries:
        exchange = await (await tries.channel()).get_exchange("amends.events", ensure=False)
        kind = "application/cloudevents+json"
        message = aio_pika.Message(body, content_type=kind, user_id="payment")
        await exchange.publish(message, "payment.authorized")
        nobody = aio_pika.Message(body.replace(b"order.confirmed", b"payment.voided"), content_type=kind)
        await exchange.publish(nobody, "payment.voided")
        around = aio_pika.Message(b"{}", headers={"CC": ["order.confirmed"]}, user_id="payment")
        await exchange.publish(around, "payment.failed")
    await shop.come(2, "orchestrator", collected_letter, reason="forbidden_sender", state="open")
    await shop.come(1, "orchestrator", collected_letter, reason="forbidden_header", state="open")

    listed = json.loads((await shop.amends("list", "--reason", "forbidden_sender", "-o", "json")).stdout)
    assert {each["error"] for each in listed} == {
        "user 'payment' may not say order.confirmed; that is for 'order'",
        "it names no sender (user_id), so nothing proves that payment.voided comes from who may say it",
    }
    refused = await shop.amends("redrive", "--all", "--reason", "why not", "--yes")
    assert refused.exit_code == 1
    await shop.come(3, "orchestrator", collected_letter, state="open")


async def _break(self: Ledger, commands: Sequence[AuthorizePayment], *_: object) -> Never:
    raise ValueError("the ledger's page is torn")


async def test_a_whole_saga_runs_with_these_users(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders are paid; one that died at payment is collected, sent again by the orchestrator, and paid."""
    await shop.place(1)
    await shop.come(1, "orchestrator", saga, status="completed")
    with monkeypatch.context() as broken:
        broken.setattr(Ledger, "authorize", _break)
        await shop.place(2)
        await shop.come(1, "orchestrator", collected_letter, state="open", reason="handler_failed", service="payment")
    redriven = await shop.amends("redrive", "--all", "--reason", "ledger mended", "--yes")

    assert redriven.exit_code == 0, redriven.stderr
    await shop.come(2, "orchestrator", saga, status="completed")
    await shop.come(1, "orchestrator", collected_letter, state="handled")
    assert await shop.count("payment", journal_entry, operation="capture") == 2
    for name in NAMES:
        await shop.come(0, name, schema.outbox)
