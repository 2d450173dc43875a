"""The three services under AMENDS_SIGNING=require: what they say is believed, what others say in their names is not.

In one process on SQLite with the exchange in memory, and on RabbitMQ and PostgreSQL.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Never
from uuid import UUID

import pytest
from pydantic import SecretStr

from contracts.money import Money
from contracts.order import OrderCreated
from contracts.payment import AuthorizePayment
from messaging import keys
from messaging.bus import Bus, Outgoing
from messaging.dead_letters import resolution
from messaging.envelope import Envelope
from messaging.keys import PrivateKey
from messaging.memory import MemoryBroker, MemoryBus
from messaging.outbox_rows import as_message, outgoing
from messaging.process import bus_of
from messaging.rabbitmq import RabbitBus
from messaging.settings import MEMORY, ServiceSettings
from messaging.signing import Signer, SigningBus
from orchestrator.schema import collected_letter, saga
from services.payment.ledger import Ledger
from services.payment.schema import journal_entry
from tests.integration.shop import NAMES, Shop
from tests.signatures import publish

KEYS = {name: keys.new(name) for name in NAMES}
NEWER = keys.new("payment", "payment-newer")
RETIRED = keys.new("order", "order-before")


@dataclass(frozen=True)
class Guarded:
    """A shop whose services sign, and a way to the broker for somebody who may publish there."""

    shop: Shop
    stranger: Bus

    async def forge(self, message: Outgoing, key: PrivateKey | None) -> None:
        """Publish what somebody has made up, or has changed."""
        await self.stranger.publish([message if key is None else Signer(key).signed(message)])


class _Signed(Shop):
    """Each service is built, and gets its bus, as its process would from its environment."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, url: str, broker: MemoryBroker, databases: dict[str, str]
    ) -> None:
        super().__init__(lambda name: bus_of(ServiceSettings(amqp_url=SecretStr(url)), name, broker), databases)
        self._folder = folder
        self._environment = monkeypatch

    async def begin(self, name: str, key: PrivateKey) -> None:
        """Start a service that signs with this key."""
        self._environment.setenv("AMENDS_SIGNING_KEY_FILE", str(self._folder / f"{key.id}.private.json"))
        self.build(name)
        assert isinstance(self.services[name].bus, SigningBus)
        await self.services[name].start()


@pytest.fixture(params=["memory", "servers"])
def bought(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[_Signed, Bus]]:
    """A shop, once there is an event loop; not an asynchronous fixture, because it asks for one by name."""
    public = publish(tmp_path, *KEYS.values(), NEWER)
    publish(tmp_path, RETIRED, retired=datetime(2026, 1, 1, tzinfo=UTC))
    monkeypatch.setenv("AMENDS_SIGNING", "require")
    monkeypatch.setenv("AMENDS_PUBLIC_KEYS", str(public))
    monkeypatch.setenv("AMENDS_SIGNING_KEY_FILE", str(tmp_path / f"{KEYS['orchestrator'].id}.private.json"))
    broker = MemoryBroker()
    if request.param == "memory":
        databases = {each: f"sqlite:///{tmp_path / each}.db" for each in NAMES}
        return lambda: (
            _Signed(tmp_path, monkeypatch, MEMORY, broker, databases),
            MemoryBus(broker, service="stranger"),
        )
    url: str = request.getfixturevalue("amqp_url")
    fresh: Callable[[], str] = request.getfixturevalue("fresh_postgres")
    taken = {each: fresh() for each in NAMES}
    return lambda: (_Signed(tmp_path, monkeypatch, url, broker, taken), RabbitBus(url, service="stranger"))


@pytest.fixture
async def guarded(bought: Callable[[], tuple[_Signed, Bus]]) -> AsyncIterator[Guarded]:
    """All three at work."""
    shop, stranger = bought()
    for name in ("payment", "order", "orchestrator"):
        await shop.begin(name, KEYS[name])
    await stranger.start()
    yield Guarded(shop, stranger)
    await stranger.close()
    await asyncio.gather(*(each.quiesce() for each in shop.services.values()))
    for each in shop.services.values():
        await each.close()


async def _break(self: Ledger, commands: Sequence[AuthorizePayment], *_: object) -> Never:
    raise ValueError("the ledger's page is torn")


async def test_a_whole_saga_runs_signed_and_through_a_change_of_keys(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orders are paid, before and after payment signs with its newer key; a letter is redriven, signed by us."""
    shop = guarded.shop
    assert isinstance(shop, _Signed)
    await shop.place(1)
    await shop.come(1, "orchestrator", saga, status="completed")
    await shop.services["payment"].drain()
    await shop.begin("payment", NEWER)
    await shop.place(2)
    await shop.come(2, "orchestrator", saga, status="completed")

    with monkeypatch.context() as broken:
        broken.setattr(Ledger, "authorize", _break)
        await shop.place(3)
        await shop.come(1, "orchestrator", collected_letter, state="open", reason="handler_failed", service="payment")
    redriven = await shop.amends("redrive", "--all", "--reason", "ledger mended", "--yes")
    assert redriven.exit_code == 0, redriven.stderr
    await shop.come(3, "orchestrator", saga, status="completed")
    await shop.come(1, "orchestrator", collected_letter, state="handled")
    assert await shop.count("orchestrator", collected_letter) == 1
    assert await shop.count("payment", journal_entry, operation="capture") == 3


def _created(number: int) -> Outgoing:
    event = OrderCreated(order_id=UUID(int=number), customer_id="ada", total=Money(amount=1, currency="USD"), items=1)
    envelope = Envelope(UUID(int=number), event.wire_type, 1, "order", datetime(2026, 3, 1, tzinfo=UTC))
    return as_message(outgoing(event, envelope))


async def test_what_is_forged_is_a_dead_letter_and_touches_nothing_else(guarded: Guarded) -> None:
    """Each kind once, told why; what is genuine and of the same id is taken all the same.

    A redrive sends none of it, but for what only had another type on its outside: its inside is what order signed.
    """
    shop, own = guarded.shop, KEYS["order"]
    genuine = Signer(own).signed(_created(1))
    tampered = replace(genuine, body=genuine.body.replace(b'"time":"2026-03-01', b'"time":"2026-03-02'))
    assert tampered.body != genuine.body
    await guarded.forge(tampered, None)
    await guarded.forge(replace(Signer(own).signed(_created(2)), type="order.confirmed"), None)
    await guarded.forge(_created(3), None)
    await guarded.forge(_created(4), keys.new("order", "nobodys"))
    await guarded.forge(_created(5), RETIRED)
    await guarded.forge(_created(6), KEYS["payment"])
    await shop.come(5, "orchestrator", collected_letter, reason="bad_signature", state="open")
    await shop.come(1, "orchestrator", collected_letter, reason="forbidden_sender", state="open")

    listed = json.loads((await shop.amends("list", "-o", "json")).stdout)
    changed = f"its signature with the key '{own.id}' is wrong: its body, type, id or source is not what was signed"
    assert sorted((each["message_id"], each["error"]) for each in listed) == [
        (str(UUID(int=1)), changed),
        (str(UUID(int=2)), changed),
        (str(UUID(int=3)), "it is not signed"),
        (str(UUID(int=4)), "it is signed with the key 'nobodys', which is not among the public keys here"),
        (
            str(UUID(int=5)),
            "it is signed with the key 'order-before', which is retired since 2026-01-01T00:00:00+0000",
        ),
        (str(UUID(int=6)), "by its signature user 'payment' may not say order.created; that is for 'order'"),
    ]
    assert await shop.count("orchestrator", saga) == 0
    redriven = await shop.amends("redrive", "--all", "--reason", "why not", "--yes")
    assert redriven.exit_code == 1
    await shop.come(1, "orchestrator", saga, key=str(UUID(int=2)))
    await shop.come(1, "orchestrator", collected_letter, state="handled")
    assert await shop.count("orchestrator", collected_letter, state="open") == 5

    await guarded.stranger.publish([genuine])
    await shop.come(1, "orchestrator", saga, key=str(UUID(int=1)))
    assert await shop.count("orchestrator", saga) == 2


async def test_what_somebody_says_of_anothers_letters_needs_that_ones_key(guarded: Guarded) -> None:
    """A word about payment's letter, unsigned, is kept as what it is."""
    shop = guarded.shop
    await guarded.forge(_created(3), None)
    await shop.come(1, "orchestrator", collected_letter, state="open", service="orchestrator")
    (letter,) = json.loads((await shop.amends("list", "-o", "json")).stdout)
    for day, key in ((1, None), (2, KEYS["order"])):
        told = resolution(UUID(letter["id"]), "orchestrator", datetime(2026, 12, day, tzinfo=UTC))
        await guarded.forge(as_message(told), key)
    await shop.come(1, "orchestrator", collected_letter, state="open", reason="forbidden_sender")
    await shop.come(2, "orchestrator", collected_letter, state="open", reason="bad_signature")
    assert await shop.count("orchestrator", collected_letter, state="handled") == 0
