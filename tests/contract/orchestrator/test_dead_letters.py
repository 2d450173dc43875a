"""The collector on both databases: everybody's dead letters, each once, whatever it was and whoever gave it up."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import select, update
from sqlalchemy.engine import Row

from messaging import dead_letters, schema
from messaging.bus import Delivery, Outgoing, Receipt
from messaging.database import Database
from messaging.dead_letters import letter_id
from messaging.envelope import CONTENT_TYPE
from messaging.memory import MemoryBroker, MemoryBus
from messaging.topology import COLLECTED_QUEUE, DEAD_LETTERS
from orchestrator.assembly import orchestrator
from orchestrator.catalog import Catalog
from orchestrator.dead_letters import Collector
from orchestrator.schema import collected_letter
from orchestrator.settings import OrchestratorSettings
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.conftest import make_tables
from tests.contract.orchestrator.letters import LETTER, announced, dead_letter
from tests.contract.orchestrator.office import Office
from tests.unit.work import Done, pivot, step, work_saga

PATIENCE = 30.0
DIED = datetime(2026, 3, 1, 11, 0, tzinfo=UTC)


def _died(office: Office, body: bytes, *, at: datetime = DIED, **properties: Any) -> Delivery:
    """What RabbitMQ makes of a message it gives up."""
    death = {
        "count": 1,
        "reason": "delivery_limit",
        "queue": "payment.commands",
        "time": at,
        "exchange": "amends.commands",
        "routing-keys": ["payment.authorize"],
    }
    headers = {
        "x-death": [death],
        "x-first-death-queue": "payment.commands",
        "x-first-death-reason": "delivery_limit",
        "x-first-death-exchange": "amends.commands",
        "x-delivery-count": 21,
    }
    given = {"exchange": "amends.dead-letters", "routing_key": "payment.authorize", "headers": headers} | properties
    return office.raw(body, **given)


async def _collected(office: Office) -> list[Row[Any]]:
    return await office.rows(collected_letter)


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    """A collector at work."""
    database = Database(database_url)
    await make_tables(database)
    office = Office(database)
    await office.serve(Collector())
    yield office
    await office.close()


async def test_an_announced_letter_is_kept_once_with_all_that_was_told(office: Office) -> None:
    """However often the announcement comes, in one batch or in several."""
    row = dead_letters.announcement(dead_letter())
    await office.handle(announced(office, row), announced(office, row))
    await office.handle(announced(office, row))

    (kept,) = await _collected(office)
    assert (kept.id, kept.service, kept.queue) == (LETTER, "payment", "payment.commands")
    assert (kept.reason, kept.error) == ("handler_failed", "ValueError: no gateway")
    assert (kept.message_id, kept.type) == ("00000000-0000-0000-0000-000000000007", "payment.authorize")
    assert (kept.correlation_id, kept.routing_key, kept.attempts) == ("saga-1", "payment.authorize", 2)
    assert (kept.body, kept.encoding, kept.size) == ('{"specversion":"1.0"}', "text", 21)
    assert (kept.failures, kept.first_at, kept.at, kept.state) == (1, NOON, NOON, "open")
    assert json.loads(kept.properties) == {"app_id": "orchestrator"}


async def test_a_body_that_is_no_text_is_kept_to_the_byte(office: Office) -> None:
    """Bytes that no database and no JSON take as text travel as base64."""
    body = b"\xff\xfe\x00\x01"
    await office.handle(announced(office, dead_letters.announcement(dead_letter(body=body))))

    (kept,) = await _collected(office)
    assert (kept.body, kept.encoding, kept.size) == ("//4AAQ==", "base64", 4)


async def test_of_a_body_too_large_to_quote_the_size_is_kept(office: Office) -> None:
    """64 KiB of JSON text is what an announcement quotes; a control character takes six bytes there."""
    fits, large = b"x" * (64 * 1024 - 2), b"\x01" * 11_000
    await office.handle(
        announced(office, dead_letters.announcement(dead_letter(body=fits))),
        announced(office, dead_letters.announcement(dead_letter(body=large, letter=UUID(int=78)))),
    )

    kept = {row.id.int: (row.body is not None, row.encoding, row.size) for row in await _collected(office)}
    assert kept == {77: (True, "text", 65_534), 78: (False, None, 11_000)}


async def test_a_letter_that_fails_again_is_open_again_and_counted(office: Office) -> None:
    """After a redrive that did not help there is one letter, with the latest error and what had been decided."""
    await office.handle(announced(office, dead_letters.announcement(dead_letter())))
    async with office.database.transaction() as connection:
        decided = {"state": "redriven", "decided_by": "ann", "decided_why": "mended", "decided_at": NOON}
        await connection.execute(update(collected_letter).values(decided))
    later = NOON + timedelta(minutes=1)
    again = dead_letters.announcement(dead_letter(at=later, error="ValueError: no money"))
    await office.handle(announced(office, again), announced(office, again))

    (kept,) = await _collected(office)
    assert (kept.state, kept.failures, kept.error) == ("open", 2, "ValueError: no money")
    assert (kept.first_at, kept.at) == (NOON, later)
    assert (kept.decided_by, kept.decided_why) == ("ann", "mended")


async def test_a_letter_that_was_handled_is_no_longer_open(office: Office) -> None:
    """Whether a person had sent it again or nobody; an older failure that is heard of late does not open it."""
    first = dead_letters.announcement(dead_letter())
    second = dead_letters.announcement(dead_letter(at=NOON + timedelta(minutes=1)))
    handled_at = NOON + timedelta(minutes=2)
    handled = dead_letters.resolution(LETTER, "payment", handled_at)
    await office.handle(announced(office, first), announced(office, handled))
    await office.handle(announced(office, second))

    (kept,) = await _collected(office)
    assert (kept.state, kept.handled_at, kept.failures) == ("handled", handled_at, 2)


async def test_word_that_an_unknown_letter_was_handled_makes_no_letter(office: Office) -> None:
    """Pruned, or from before there was a collector."""
    await office.handle(announced(office, dead_letters.resolution(LETTER, "payment", NOON)))

    assert await _collected(office) == []


async def test_what_the_broker_gave_up_is_a_letter_of_the_queues_service(office: Office) -> None:
    """The message whole, where and why it died, under the id that the service itself would give it."""
    command = office.delivery(Done(note="x"), id=UUID(int=9))
    await office.handle(_died(office, command.body, content_type=CONTENT_TYPE, message_id=str(UUID(int=9))))

    (kept,) = await _collected(office)
    assert kept.id == letter_id("00000000-0000-0000-0000-000000000009", "payment")
    assert (kept.service, kept.queue, kept.reason) == ("payment", "payment.commands", "delivery_limit")
    assert kept.error.startswith("payment.commands: its consumer died or gave it back too often")
    assert (kept.exchange, kept.routing_key, kept.type) == ("amends.commands", "payment.authorize", "work.done")
    assert (kept.body.encode(), kept.correlation_id) == (command.body, "saga-1")
    assert json.loads(kept.properties)["content_type"] == "application/cloudevents+json"


async def test_what_the_broker_says_twice_is_counted_once(office: Office) -> None:
    """Dead-lettering at least once may double; dying another time is another failure of the same letter."""
    command = office.delivery(Done(note="x"), id=UUID(int=9))
    given: dict[str, Any] = {"content_type": CONTENT_TYPE, "message_id": str(UUID(int=9))}
    await office.handle(_died(office, command.body, **given), _died(office, command.body, **given))
    await office.handle(_died(office, command.body, **given))
    assert [row.failures for row in await _collected(office)] == [1]

    office.clock.advance(60)
    await office.handle(_died(office, command.body, at=DIED + timedelta(minutes=1), **given))
    assert [(row.failures, row.state) for row in await _collected(office)] == [(2, "open")]


async def test_of_what_nobody_could_read_each_message_given_up_is_a_letter_of_its_own(office: Office) -> None:
    """Where it was published and what stands on its outside tells two apart; why it died, and how often, does not."""
    rejected = {"count": 2, "reason": "rejected", "queue": "payment.commands", "exchange": "amends.commands"}
    elsewhere = rejected | {"exchange": "shop"}
    await office.handle(_died(office, b"\xff"), _died(office, b"\xff", routing_key="payment.capture"))
    await office.handle(_died(office, b"\xff", headers={"x-death": [rejected]}, redelivered=True))
    await office.handle(_died(office, b"\xff", headers={"x-death": [elsewhere]}))

    assert sorted((row.exchange, row.routing_key, row.failures) for row in await _collected(office)) == [
        ("amends.commands", "payment.authorize", 2),
        ("amends.commands", "payment.capture", 1),
        ("shop", "payment.authorize", 1),
    ]


_STRANGE: list[tuple[bytes, dict[str, Any], str]] = [
    (b"\xff\x00 nonsense", {}, "stray"),
    (b"[0]", {"headers": {"x-death": "nonsense"}}, "stray"),
    (b"[1]", {"headers": {"x-death": [{"queue": "a\x00b", "reason": "r" * 300, "count": -1}]}}, "r" * 40),
    (b"[2]", {"headers": {"x-death": [17], "x-first-death-reason": 5}}, "5"),
    (b"[3]", {"malformed": "the header frame is no UTF-8"}, "stray"),
    (b'{"specversion":"1.0","id":"1","source":"s","type":"amends.dead_lettered","data":{}}', {}, "stray"),
    (b"x" * 262_145, {"malformed": "the body has 9 MiB; only its beginning is kept"}, "stray"),
]


async def test_nothing_that_comes_becomes_a_dead_letter_of_the_collector(office: Office) -> None:
    """Whatever lies on the exchange is collected as it is; no announcement leaves that would come round again."""
    strange = [
        office.raw(body, **({"exchange": "amends.dead-letters", "content_type": CONTENT_TYPE, "app_id": "x"} | given))
        for body, given, _ in _STRANGE
    ]
    await office.handle(*strange)

    assert sorted(row.reason for row in await _collected(office)) == sorted(reason for _, _, reason in _STRANGE)
    assert await office.rows(schema.dead_letter) == []
    assert await office.rows(schema.outbox) == []
    bodies = {row.body for row in await _collected(office)}
    assert b64encode(b"\xff\x00 nonsense").decode() in bodies


async def test_a_strangers_announcement_is_collected_as_what_it_is(office: Office) -> None:
    """One that no column would take is a stray message, not a letter of whom it names."""
    row = dead_letters.announcement(dead_letter())
    bad = row.body.replace('"attempts":2', '"attempts":99999999999')
    await office.handle(announced(office, replace(row, body=bad)))

    (kept,) = await _collected(office)
    assert (kept.reason, kept.type, kept.body) == ("stray", "amends.dead_lettered", bad)


async def test_a_letter_that_cannot_be_written_does_not_come_round_again(office: Office) -> None:
    """It is rejected, and nothing is announced of it."""
    async with office.database.transaction() as connection:
        await connection.run_sync(collected_letter.drop)
    delivery = announced(office, dead_letters.announcement(dead_letter()))
    office.bus.hand_over([delivery])
    await office.until(lambda: office.bus.rejected == [delivery.tag], "it is rejected")

    assert await office.rows(schema.dead_letter) == []
    assert await office.rows(schema.outbox) == []


async def test_two_collectors_keep_one_letter_each_once(postgres_url: str) -> None:
    """Of forty letters, all failing twice, in two processes at once."""
    offices = []
    for number in range(2):
        database = Database(postgres_url)
        if number == 0:
            await make_tables(database)
        offices.append(Office(database))
        await offices[-1].serve(Collector())
    try:
        letters = [UUID(int=1000 + number) for number in range(40)]
        for place, office in enumerate(offices):
            at = NOON + timedelta(minutes=place)
            office.bus.hand_over(
                [announced(office, dead_letters.announcement(dead_letter(letter=each, at=at))) for each in letters]
            )
        async with asyncio.timeout(30):
            while any(len(office.bus.settled) < 40 for office in offices):
                for office in offices:
                    office.clock.advance(1)
                await asyncio.sleep(0.01)

        kept = await _collected(offices[0])
        assert {row.id: row.failures for row in kept} == dict.fromkeys(letters, 2)
        assert {row.at for row in kept} == {NOON + timedelta(minutes=1)}
    finally:
        for office in offices:
            await office.close()


@pytest.fixture
async def engine_room(database_url: str) -> AsyncIterator[Office]:
    """The tables, and no consumer yet."""
    database = Database(database_url)
    await make_tables(database)
    office = Office(database)
    yield office
    await office.close()


async def test_an_event_that_expired_in_parking_is_taken_in_when_it_is_sent_again(engine_room: Office) -> None:
    """Its saga has been started meanwhile: the event moves it, as if it had just come."""
    office = engine_room
    await office.employ(work_saga(step("dig"), pivot("sign")), patience=timedelta(hours=1))
    early = office.answer(1, "dig", Done())
    await office.handle(early)
    async with asyncio.timeout(30):
        while await office.parked():
            office.clock.advance(60)
            await asyncio.sleep(0.01)
    (row,) = await office.rows(schema.dead_letter)
    assert row.reason == "expired"
    await office.handle(office.begun(1))

    body = early.body.replace(b"{", b'{"redrives":"%s",' % str(row.letter_id).encode(), 1)
    await office.handle(replace(early, tag=office.bus.tag(), body=body))

    assert (await office.sagas())["1"].step == "sign"
    assert await office.rows(schema.dead_letter) == []


LONG = "".join(sha256(bytes([each % 256, each // 256])).hexdigest() for each in range(1600))
"""100 kB that no database makes smaller."""


async def test_a_stranger_who_announces_long_texts_stops_nobody(office: Office) -> None:
    """Whoever may publish there can call anything a letter; it is kept, with the beginning of what it says it is."""
    row = dead_letters.announcement(dead_letter(letter=UUID(int=78)))
    content = json.loads(row.body)
    content["data"] |= dict.fromkeys(
        ("service", "queue", "message_id", "message_type", "correlation_id", "exchange", "routing_key"), LONG[:30_000]
    )
    long = office.raw(
        json.dumps(content).encode(), content_type=CONTENT_TYPE, message_id=str(row.message_id), type=row.type
    )
    await office.handle(long, announced(office, dead_letters.announcement(dead_letter())))

    kept = {each.id: each for each in await _collected(office)}
    assert set(kept) == {LETTER, UUID(int=78)}
    told = kept[UUID(int=78)]
    short = {told.service, told.queue, told.message_id, told.type, told.correlation_id, told.exchange, told.routing_key}
    assert short == {LONG[:255]}


async def test_what_the_broker_gave_up_may_have_long_headers(office: Office) -> None:
    """A correlation id, a type and a queue's name of 100 kB each: the letter is kept, and so is its neighbor."""
    death = {"count": 1, "reason": LONG, "queue": LONG, "exchange": LONG, "time": LONG}
    outside: dict[str, Any] = dict.fromkeys(("message_id", "type", "correlation_id", "app_id", "routing_key"), LONG)
    await office.handle(
        _died(office, b"\xff", headers={"x-death": [death], "x-first-death-queue": LONG}, **outside),
        announced(office, dead_letters.announcement(dead_letter())),
    )
    (long,) = [each for each in await _collected(office) if each.id != LETTER]
    assert (long.correlation_id, long.type, long.queue, long.reason) == (
        LONG[:255],
        LONG[:255],
        LONG[:255],
        LONG[:40],
    )
    assert len(long.service) <= 255


async def test_an_orchestrator_that_ends_collects_what_it_has_in_hand(database_url: str) -> None:
    """Given back often enough, a letter would be dropped by the broker: its queue has no dead-letter exchange."""
    settings = OrchestratorSettings(
        database_url=SecretStr(database_url),
        amqp_url=SecretStr("memory://"),
        port=0,
        migrate_on_start=True,
        batch_size=3,
    )
    broker = MemoryBroker()
    service = orchestrator(settings, Catalog([]), MemoryBus(broker, service="orchestrator"))
    tester = MemoryBus(broker, service="tester")
    strays = [
        Outgoing(DEAD_LETTERS, "tester.lost", f"stray-{number}", b"{}", "", DIED, "tester", None, CONTENT_TYPE)
        for number in range(5)
    ]
    async with asyncio.timeout(PATIENCE):
        await service.start()
        await tester.start()
        collecting = service.workers[1]
        publishing = asyncio.create_task(tester.publish(strays))
        while collecting.in_hand_since is None:  # noqa: ASYNC110 - the worker has a task of its own
            await asyncio.sleep(0)
        await service.finish()
        assert await publishing == [Receipt.CONFIRMED] * 5
    assert broker.depth(COLLECTED_QUEUE) == 0
    async with service.database.reading() as connection:
        kept = list((await connection.execute(select(collected_letter.c.message_id))).scalars())
    assert sorted(kept) == [each.message_id for each in strays]
    await service.close()
