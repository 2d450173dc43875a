"""A person from the first order to the erasure, in real services: nothing that is kept or sent tells them, then nothing
does at all, and every history replays as before.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from typer.testing import CliRunner

from contracts import Erased
from messaging.bus import Outgoing, Receipt
from messaging.memory import MemoryBroker, MemoryBus
from messaging.outbox import emit
from messaging.participant import Participant
from messaging.service import Service, participant_service
from messaging.settings import ServiceSettings
from orchestrator.assembly import orchestrator
from orchestrator.catalog import Catalog
from orchestrator.cli.app import app
from orchestrator.saga.state import saga_id
from orchestrator.schema import collected_letter, saga
from orchestrator.settings import OrchestratorSettings
from tests.unit.mailing import MAILING, Ordered, Parcel, ReceiptRefused, ReceiptSent, SendReceipt

EMAIL = "ada@lovelace.example"
NAME = "Annabella Lovelace"
SERVER = "mx.lovelace.example"
PATIENCE = 30.0


class OverheardBus(MemoryBus):
    """A bus of which every byte that is published is kept."""

    heard: list[Outgoing]

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[Receipt]:
        self.heard.extend(messages)
        return await super().publish(messages)


class House:
    """A shop that says who orders, a mail service that may read it, and an orchestrator that may not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.heard: list[Outgoing] = []
        self.read: list[object] = []
        self.mail = Participant("mail")
        self.mail.handles(SendReceipt)(self._send)

    async def _send(self, command: SendReceipt, db: AsyncSession) -> ReceiptSent | ReceiptRefused:
        self.read.append(command.to)
        if isinstance(command.to, Erased):
            return ReceiptRefused(order_id=command.order_id, reason="erased")
        if command.order_id.int % 2 == 0:
            raise ValueError(f"nobody at {command.to}")
        return ReceiptSent(order_id=command.order_id, customer_id=command.customer_id, server=SERVER)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[dict[str, Service]]:
        """The three services; their queues and outboxes are empty when it closes."""
        broker = MemoryBroker()
        keys: dict[str, Any] = {
            "subject_keys": SecretStr(f"sqlite:///{self.folder / 'keys.db'}"),
            "master_keys": self.folder / "master",
        }
        services = {
            "orchestrator": orchestrator(
                OrchestratorSettings(database_url=self._database("orchestrator")),
                Catalog([MAILING]),
                self._bus(broker, "orchestrator"),
            ),
            "mail": participant_service(
                self.mail, ServiceSettings(database_url=self._database("mail"), **keys), self._bus(broker, "mail")
            ),
            "shop": participant_service(
                Participant("shop"),
                ServiceSettings(database_url=self._database("shop"), **keys),
                self._bus(broker, "shop"),
            ),
        }
        for service in services.values():
            broker.declare(service.topology)
        for service in services.values():
            await service.start()
        try:
            yield services
            for service in services.values():
                await service.quiesce()
        finally:
            for service in services.values():
                await service.close()

    def _database(self, name: str) -> SecretStr:
        return SecretStr(f"sqlite:///{self.folder / name}.db")

    def _bus(self, broker: MemoryBroker, name: str) -> OverheardBus:
        bus = OverheardBus(broker, service=name)
        bus.heard = self.heard
        return bus

    async def order(self, services: dict[str, Service], number: int) -> UUID:
        """Somebody orders; returns the saga's id."""
        shop = services["shop"]
        parcels = (Parcel(weight=1, recipient=NAME),)
        ordered = Ordered(order_id=UUID(int=number), customer_id="ada", email=EMAIL, parcels=parcels)
        async with AsyncSession(shop.database.engine, info=shop.info) as session, session.begin():
            emit(session, ordered)
        return saga_id("mailing", str(UUID(int=number)))

    async def amends(self, *words: str, code: int = 0, keys: bool = False, typed: str | None = None) -> str:
        """What the command prints, as the orchestrator's operator calls it; with `keys` as one who has them."""
        environment = {
            "DATABASE_URL": f"sqlite:///{self.folder / 'orchestrator.db'}",
            "AMENDS_SAGAS": "tests.unit.mailing",
            "AMQP_URL": "memory://",
        }
        if keys or words[0] in ("subjects", "start"):
            environment |= {
                "AMENDS_SUBJECT_KEYS": f"sqlite:///{self.folder / 'keys.db'}",
                "AMENDS_MASTER_KEYS": str(self.folder / "master"),
            }
        ran = await asyncio.to_thread(lambda: CliRunner().invoke(app, words, typed, env=environment))
        assert ran.exit_code == code, ran.output
        return ran.output

    def kept(self) -> bytes:
        """Every byte of every file, and of every message that was published."""
        files = [_bytes(path) for path in sorted(self.folder.rglob("*")) if path.is_file()]
        return b"\n".join([*files, *(each.body for each in self.heard), str(self.heard).encode()])


def _bytes(path: Path) -> bytes:
    found = path.read_bytes()
    return gzip.decompress(found) if found.startswith(b"\x1f\x8b") else found


async def _until(service: Service, look: Callable[[AsyncSession], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            async with AsyncSession(service.database.engine) as session:
                if await look(session):
                    return
            await asyncio.sleep(0.02)


async def _ended(services: dict[str, Service], identity: UUID, status: str) -> None:
    async def look(session: AsyncSession) -> bool:
        return (await session.scalar(select(saga.c.status).where(saga.c.id == identity))) == status

    await _until(services["orchestrator"], look)


async def _collected(services: dict[str, Service]) -> None:
    async def look(session: AsyncSession) -> bool:
        return await session.scalar(select(collected_letter.c.reason)) is not None

    await _until(services["orchestrator"], look)


@pytest.fixture
async def house(tmp_path: Path) -> House:
    """A house with a master key."""
    house = House(tmp_path)
    (tmp_path / "master").mkdir()
    await house.amends("subjects", "master", "new", str(tmp_path / "master" / "one.json"), "--id", "one")
    return house


async def test_a_person_is_nowhere_in_plain_text_and_is_erased(house: House) -> None:
    """Tables, files, messages, dead letters and exports hold tokens; histories replay after the erasure, too."""
    await house.amends("migrate")
    await house.amends("subjects", "migrate")
    started = {"order_id": str(UUID(int=5)), "customer_id": "ada", "email": EMAIL}
    by_hand = UUID((await house.amends("start", "mailing", json.dumps(started), "--yes")).splitlines()[0])
    async with house.open() as services:
        done, failed = await house.order(services, 1), await house.order(services, 2)
        await _ended(services, done, "completed")
        await _ended(services, by_hand, "completed")
        await _collected(services)
    assert {EMAIL} == set(house.read)
    assert b"$sealed" in house.kept()
    assert b"ovelace" not in house.kept()

    # What people look at, export and replay tells nothing either, and says what it is.
    told = await house.amends("show", str(done), "--data", "--messages")
    assert '"email": "<sealed>"' in told or 'email: "<sealed>"' in told
    before = await house.amends("replay", str(done))
    bundle, redacted = house.folder / "told.json", house.folder / "redacted.json"
    await house.amends("export", str(done), "-o", str(bundle))
    await house.amends("export", str(done), "--redact", "-o", str(redacted))
    await house.amends("export", str(done), "--as-test", "-o", str(house.folder / "test_told.py"))
    await house.amends("why", str(failed))
    letters = json.loads(await house.amends("dead-letters", "list", "-o", "json"))
    letter = await house.amends("dead-letters", "show", letters[0]["id"])
    assert "ValueError: nobody at <sealed>" in letter
    assert '"to": "<sealed>"' in letter
    forked = await house.amends("fork", str(done), "--at", "1", "--drop", "2", "--silence")
    assert '- server: "<sealed>"' in forked
    await house.amends("preflight")
    assert "same: 2 transitions as recorded" in await house.amends("replay", str(redacted))
    keys = [set(re.findall(r'"key\W+([\w-]{22})\W', path.read_text())) for path in (bundle, redacted)]
    assert keys[0]
    assert keys[0].isdisjoint(keys[1])
    assert b"ovelace" not in house.kept()

    # Erased: every history is as it was, and what is said of the person from now on is not written down.
    await house.amends("subjects", "erase", "ada", "--reason", "request 7", "--as", "bob", "--yes")
    assert before == await house.amends("replay", str(done))
    async with house.open() as services:
        again = await house.order(services, 3)
        await _ended(services, again, "compensated")
    assert isinstance(house.read[-1], Erased)
    assert '"<erased>"' in await house.amends("show", str(again), "--data", "--messages")
    assert "same: 2 transitions as recorded" in await house.amends("replay", str(again))
    await house.amends("prune", "--older-than", "0s", "--archive", str(house.folder / "archive"), "--yes")
    assert b"ovelace" not in house.kept()
    archived = b"".join(_bytes(path) for path in (house.folder / "archive").rglob("*") if path.is_file())
    assert b"$sealed" in archived


async def test_what_a_person_gives_for_an_answer_is_sealed_where_they_have_keys(house: House) -> None:
    """Also what is only tried or asked about, which makes nobody a key; without keys a line says that it is plain."""
    await house.amends("migrate")
    await house.amends("subjects", "migrate")
    async with house.open() as services:
        failed = await house.order(services, 2)
        await _collected(services)
    given = {"order_id": str(UUID(int=2)), "customer_id": "ada", "server": SERVER}
    skip = ("skip", str(failed), "send_receipt", "--with", json.dumps(given), "--reason", "told by phone")
    for_another = json.dumps(given | {"customer_id": "bob"})

    plain = await house.amends(*skip, "--dry-run")
    assert "mail.receipt_sent is written in plain text: AMENDS_SUBJECT_KEYS says with which keys" in plain
    tried = await house.amends(*skip[:4], for_another, *skip[5:], "--dry-run", "--output", "json", keys=True)
    assert "plain text" not in tried
    assert "$sealed" in tried
    asked = await house.amends(*skip[:4], for_another, *skip[5:], keys=True, typed="n\n", code=1)
    assert "skip this saga as" in asked
    assert "nobody has made a key for 'bob'" in await house.amends("subjects", "show", "bob", code=1)
    await house.amends(*skip, keys=True, typed="y\n")

    assert b"ovelace" not in house.kept()
    assert 'server: "<sealed>"' in await house.amends("show", str(failed), "--data", "--messages")
    assert "status  completed" in re.sub(" +", "  ", await house.amends("show", str(failed)))
    assert "same: " in await house.amends("replay", str(failed))


async def test_an_answer_is_not_taken_while_its_keys_are_away(house: House) -> None:
    """One line says which, and nothing was done."""
    await house.amends("migrate")
    await house.amends("subjects", "migrate")
    async with house.open() as services:
        failed = await house.order(services, 2)
        await _collected(services)
    (house.folder / "keys.db").rename(house.folder / "away.db")
    given = json.dumps({"order_id": str(UUID(int=2)), "customer_id": "ada", "server": SERVER})

    said = await house.amends(
        "skip", str(failed), "send_receipt", "--with", given, "--reason", "x", "--yes", code=69, keys=True
    )

    assert said.count("\n") == 1
    assert "keys of persons in sqlite:///" in said
    assert "completed" not in await house.amends("show", str(failed))
