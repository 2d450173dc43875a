"""A service with keys on both databases: its handlers read what is sealed, and nothing kept or sent tells it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from contracts import Erased, Event, Personal, Sealed
from messaging import schema
from messaging.bus import Delivery
from messaging.envelope import CONTENT_TYPE
from messaging.memory_keys import MemoryKeys
from messaging.outbox import INFO, Emitting, OutboxMessage, emit, emit_all
from messaging.participant import Participant, RetryLater
from messaging.sealing import Sealing, UnusableSubject, sealing_in_a_thread
from messaging.serving import ParticipantConsumer
from messaging.subject_keys import KeysUnavailable, NoKeyYet, SubjectKey
from tests.contract.messaging.bench import Bench
from tests.unit.mailing import Ordered, ReceiptRefused, ReceiptSent, SendReceipt

EMAIL = "ada.lovelace@example.com"
SERVER = "mx1.lovelace.example"


class Bounced(Event, type="mail.bounced", key="customer_id", subject="customer_id"):
    """Something that a handler says besides its answer."""

    customer_id: str
    why: Personal[str]


def _order(number: int) -> UUID:
    return UUID(int=1000 + number)


def _ordered(number: int, *, email: str = EMAIL) -> Ordered:
    return Ordered(order_id=_order(number), customer_id=f"c-{number}", email=email)


class Mail:
    """A mail service: what it was given to read, and what it does then."""

    def __init__(self) -> None:
        self.read: list[object] = []
        self.mood: Exception | None = None
        self.participant = Participant("depot")

        @self.participant.handles(SendReceipt)
        async def send(command: SendReceipt, db: AsyncSession) -> ReceiptSent | ReceiptRefused:
            emit(db, Bounced(customer_id=command.customer_id, why=f"{command.customer_id} has {SERVER}"))
            return self._answer(command)

    def _answer(self, command: SendReceipt) -> ReceiptSent | ReceiptRefused:
        self.read.append(command.to)
        if self.mood is not None:
            raise self.mood
        if isinstance(command.to, Erased):
            return ReceiptRefused(order_id=command.order_id, reason="erased")
        return ReceiptSent(order_id=command.order_id, customer_id=command.customer_id, server=SERVER)

    def all_at_once(self) -> Participant:
        """The same for a whole batch."""
        participant = Participant("depot")

        @participant.handles_batch(SendReceipt)
        async def send(commands: Sequence[SendReceipt], db: AsyncSession) -> Sequence[ReceiptSent | ReceiptRefused]:
            return [self._answer(command) for command in commands]

        return participant

    def outside(self) -> Participant:
        """The same outside of any transaction."""
        participant = Participant("depot")

        @participant.handles_outside(SendReceipt, time_limit=timedelta(seconds=5))
        async def send(command: SendReceipt, key: UUID) -> ReceiptSent | ReceiptRefused:
            return self._answer(command)

        return participant


async def _serve(bench: Bench, keys: MemoryKeys, participant: Participant) -> None:
    consumer = ParticipantConsumer(participant, clock=bench.clock, entropy=bench.entropy)
    consumer.seal_with(Sealing(keys))
    await bench.serve(consumer)


async def _command(bench: Bench, keys: MemoryKeys, number: int, **changed: object) -> Delivery:
    """What a saga sends that was told of an order: the token of its e-mail address."""
    (text,) = await Sealing(keys).written([_ordered(number)])
    data = {"order_id": str(_order(number)), "customer_id": f"c-{number}", "to": json.loads(text)["email"]} | changed
    message = {"id": str(UUID(int=number)), "type": "mail.send_receipt", "source": "orchestrator", "data": data}
    body = json.dumps(message | {"specversion": "1.0", "correlationid": "saga-1", "dataversion": 1})
    return bench.raw(body.encode(), content_type=CONTENT_TYPE, message_id=str(UUID(int=number)))


async def _to(keys: MemoryKeys, number: int, email: str) -> dict[str, object]:
    """Another address, sealed for the same person."""
    (text,) = await Sealing(keys).written([_ordered(number, email=email)])
    return {"to": json.loads(text)["email"]}


async def _kept(bench: Bench) -> str:
    """Every row of every table, and every byte that was published."""
    rows = [str(tuple(row)) for table in schema.metadata.tables.values() for row in await bench.rows(table)]
    return "\n".join([*rows, *(str(each) for each in bench.bus.published)])


def _tells_nothing(kept: str) -> None:
    assert "$sealed" in kept
    assert "lovelace" not in kept


async def test_a_handler_reads_and_answers_and_nothing_kept_tells(bench: Bench) -> None:
    """Its answer in the inbox and on the wire, and what it emits, hold tokens; a repetition gets the same bytes."""
    keys, mail = MemoryKeys(), Mail()
    await _serve(bench, keys, mail.participant)
    await bench.handle(await _command(bench, keys, 7))
    await bench.flush()

    assert [EMAIL] == mail.read
    (answer,), (bounced,) = bench.bus.sent("mail.receipt_sent"), bench.bus.sent("mail.bounced")
    _tells_nothing(await _kept(bench))
    said = json.loads(answer.body)["data"]
    assert (said["customer_id"], said["server"]["field"]) == ("c-7", "server")
    assert json.loads(bounced.body)["data"]["why"]["type"] == "mail.bounced"

    await bench.handle(await _command(bench, keys, 7))
    await bench.flush()
    assert [answer.body] * 2 == [each.body for each in bench.bus.sent("mail.receipt_sent")]
    assert [EMAIL] == mail.read


async def test_a_batch_looks_for_keys_twice(bench: Bench) -> None:
    """Once to open what came, once to seal what is answered, whatever their number."""
    keys, mail = MemoryKeys(), Mail()
    await _serve(bench, keys, mail.all_at_once())
    commands = [await _command(bench, keys, number) for number in range(1, 31)]
    keys.looks = 0
    await bench.handle(*commands)
    await bench.flush()
    assert (keys.looks, len(mail.read), set(mail.read)) == (2, 30, {EMAIL})
    assert len(bench.bus.sent("mail.receipt_sent")) == 30
    _tells_nothing(await _kept(bench))


async def test_a_handler_decides_about_who_is_erased(bench: Bench) -> None:
    """It gets `Erased` in the value's place; what it says of them holds nothing, and others are served."""
    keys, mail = MemoryKeys(), Mail()
    await _serve(bench, keys, mail.participant)
    of_erased, of_other = await _command(bench, keys, 1), await _command(bench, keys, 2)
    keys.erase("c-1")
    await bench.handle(of_erased, of_other)
    await bench.flush()
    assert [str(type(each).__name__) for each in mail.read] == ["Erased", "str"]
    (refused,), (sent,) = bench.bus.sent("mail.receipt_refused"), bench.bus.sent("mail.receipt_sent")
    assert json.loads(refused.body)["data"]["reason"] == "erased"
    assert json.loads(sent.body)["data"]["customer_id"] == "c-2"
    whys = [json.loads(each.body)["data"]["why"] for each in bench.bus.sent("mail.bounced")]
    assert [{"$sealed": "1", "erased": True}, True] == [whys[0], "data" in whys[1]]


async def test_what_a_handler_raises_tells_nothing(bench: Bench) -> None:
    """Neither the dead letter's error nor the reason for which a message waits quotes what was opened."""
    keys, mail = MemoryKeys(), Mail()
    await _serve(bench, keys, mail.participant)
    mail.mood = ValueError(f"no such user: {EMAIL}")
    await bench.handle(await _command(bench, keys, 1))
    mail.mood = RetryLater(f"{EMAIL} is full")
    await bench.handle(await _command(bench, keys, 2))
    await bench.flush()
    (letter,), (waiting,) = await bench.rows(schema.dead_letter), await bench.rows(schema.deferred)
    assert letter.reason == "handler_failed"
    assert "ValueError: no such user: <sealed>" in letter.error
    assert waiting.last_error == "<sealed> is full"
    _tells_nothing(await _kept(bench))


async def test_a_batch_handler_tells_nothing_of_others(bench: Bench) -> None:
    """The reason for which one message waits may quote another of the batch: without what was opened."""
    keys, participant = MemoryKeys(), Participant("depot")

    @participant.handles_batch(SendReceipt)
    async def send(
        commands: Sequence[SendReceipt], db: AsyncSession
    ) -> Sequence[ReceiptSent | ReceiptRefused | RetryLater]:
        return [RetryLater(f"after {each.to}") for each in reversed(commands)]

    await _serve(bench, keys, participant)
    other = await _to(keys, 2, "charles@lovelace.example")
    await bench.handle(await _command(bench, keys, 1), await _command(bench, keys, 2, **other))
    assert ["after <sealed>"] * 2 == [each.last_error for each in await bench.rows(schema.deferred)]
    _tells_nothing(await _kept(bench))


async def test_what_a_database_quotes_of_a_handlers_rows_tells_nothing(bench: Bench) -> None:
    """Rows that are refused only when the batch is written, after the handler, are quoted without what was opened."""
    keys, participant = MemoryKeys(), Participant("depot")
    address = f"{EMAIL}, {'Lovelace Street ' * 8}"

    @participant.handles(SendReceipt)
    async def send(command: SendReceipt, db: AsyncSession) -> ReceiptSent | ReceiptRefused:
        db.add(OutboxMessage(key=command.to, attempts=command.to, message_id=UUID(int=1), body="{}"))
        return ReceiptRefused(order_id=command.order_id, reason="none")

    await _serve(bench, keys, participant)
    with capture_logs() as logs:
        await bench.handle(await _command(bench, keys, 1, **await _to(keys, 1, address)))
    (letter,) = await bench.rows(schema.dead_letter)
    assert letter.reason == "handler_failed"
    assert "message_failed" in [each["event"] for each in logs]
    assert "lovelace" not in f"{letter.error} {logs}".lower()


async def test_what_does_not_open_is_a_dead_letter_and_harms_nobody(bench: Bench) -> None:
    """Moved to another subject, with a byte changed, with a stranger's key: it is settled, and says why."""
    keys, mail = MemoryKeys(), Mail()
    await _serve(bench, keys, mail.participant)
    good, moved = await _command(bench, keys, 1), await _command(bench, keys, 2, customer_id="c-1")
    token = json.loads((await _command(bench, keys, 3)).body)["data"]["to"]
    changed = await _command(bench, keys, 3, to=token | {"data": token["data"][:-4] + "AAAA"})
    strange = await _command(bench, keys, 4, to=token | {"key": "nobodys"})
    elsewhere = await _command(bench, keys, 5, to=token | {"field": "phone"})
    await bench.handle(moved, changed, good, strange, elsewhere)
    await bench.flush()
    assert [EMAIL] == mail.read
    letters = {row.message_id: (row.reason, row.error) for row in await bench.rows(schema.dead_letter)}
    assert {UUID(each).int: reason for each, (reason, _) in letters.items()} == {
        2: "unopenable",
        3: "unopenable",
        4: "unopenable",
        5: "invalid",
    }
    told = {UUID(each).int: error for each, (_, error) in letters.items()}
    assert "it was changed, or sealed for another subject, type or field" in told[2]
    assert "it was changed, or sealed for another subject, type or field" in told[3]
    assert "names a key that was never made here" in told[4]
    assert "what was sealed for shop.ordered phone does not open there" in told[5]
    _tells_nothing(await _kept(bench))


@pytest.mark.parametrize("sealed", [True, False], ids=["to open", "to seal"])
async def test_a_batch_waits_for_keys_that_are_away(bench: Bench, sealed: bool) -> None:
    """As it does for the database: nothing is a dead letter, and all is handled when they are back."""
    keys, mail = MemoryKeys(), Mail()
    await _serve(bench, keys, mail.participant)
    commands = [await _command(bench, keys, number, **({} if sealed else {"to": EMAIL})) for number in (1, 2, 3)]
    keys.away = True
    bench.bus.hand_over(commands)
    await bench.until(lambda: bench.worker.waiting_for is not None, "the batch waits")
    assert bench.worker.waiting_for == "the keys of subjects are away"
    looks = keys.looks
    await bench.pass_time(lambda: keys.looks > looks + 12, "it goes on trying")
    assert (await bench.letters(), await bench.rows(schema.deferred), bench.bus.settled) == ([], [], [])
    keys.away = False
    tags = {each.tag for each in commands}
    await bench.pass_time(lambda: tags <= set(bench.bus.settled), "the batch is handled")
    await bench.flush()
    assert [EMAIL] * 3 == mail.read[-3:]
    assert len(bench.bus.sent("mail.receipt_sent")) == 3
    assert await bench.letters() == []


class ReaderKeys(MemoryKeys):
    """Of a process that may make none: who is `known` has one."""

    known: frozenset[str] = frozenset()

    async def ensure(self, subjects: Collection[str]) -> Mapping[str, SubjectKey | None]:
        """The keys of these, who have to be known."""
        if self.known and (new := set(subjects) - self.known):
            raise NoKeyYet(f"{min(new)!r} has no key yet")
        return await super().ensure(subjects)


async def test_what_may_not_be_sealed_is_a_dead_letter_and_harms_nobody(bench: Bench) -> None:
    """Of who has no key yet, where this process makes none; the others of the batch are answered."""
    keys, mail = ReaderKeys(), Mail()
    await _serve(bench, keys, mail.all_at_once())
    commands = [await _command(bench, keys, number) for number in (7, 8, 9)]
    keys.known = frozenset({"c-7", "c-9"})
    await bench.handle(*commands)
    await bench.flush()

    assert [str(each.correlation_id) for each in bench.bus.sent("mail.receipt_sent")] == ["saga-1", "saga-1"]
    (letter,) = await bench.rows(schema.dead_letter)
    assert (letter.message_id, letter.reason) == (str(UUID(int=8)), "handler_failed")
    assert "'c-8' has no key yet" in letter.error
    _tells_nothing(await _kept(bench))


async def test_a_call_outside_gets_what_was_opened(bench: Bench) -> None:
    """The row that it waits in holds the token."""
    keys, mail = MemoryKeys(), Mail()
    await _serve(bench, keys, mail.outside())
    await bench.handle(await _command(bench, keys, 1))
    await bench.until_status(1, "done")
    await bench.flush()
    assert [EMAIL] == mail.read
    _tells_nothing(await _kept(bench))


async def test_a_call_outside_that_finds_no_keys_is_made_again(bench: Bench) -> None:
    """It waits in its row, and nobody else behind it."""
    keys, mail = MemoryKeys(), Mail()
    await _serve(bench, keys, mail.outside())
    mail.mood = KeysUnavailable("they are away")
    await bench.handle(await _command(bench, keys, 1))
    await bench.until_status(1, "deferred")
    mail.mood = None
    await bench.handle(await _command(bench, keys, 2))
    await bench.until_status(2, "done")
    bench.clock.advance(60)
    await bench.until_status(1, "done")
    assert await bench.letters() == []


async def test_plain_and_sealed_messages_come_mixed(bench: Bench) -> None:
    """What was written before sealing was turned on is handled as ever; a service without keys passes tokens on."""
    keys, mail = MemoryKeys(), Mail()
    await _serve(bench, keys, mail.participant)
    await bench.handle(await _command(bench, keys, 1, to="plain@example.com"), await _command(bench, keys, 2))
    assert ["plain@example.com", EMAIL] == mail.read
    await bench.retire()
    await bench.serve(mail.participant)
    await bench.handle(await _command(bench, keys, 3))
    assert isinstance(mail.read[-1], Sealed)


# -- emit ----------------------------------------------------------------------------------------------------


def _info(keys: MemoryKeys) -> dict[str, object]:
    return {INFO: Emitting(source="shop", sealing=Sealing(keys))}


async def test_emit_seals_when_the_session_is_written(bench: Bench) -> None:
    """One look for keys for all that a flush writes, also for what aggregates have recorded."""
    keys = MemoryKeys()
    async with AsyncSession(bench.database.engine, info=_info(keys)) as session, session.begin():
        for number in range(5):
            emit(session, _ordered(number))
    assert keys.looks == 1
    async with AsyncSession(bench.database.engine, info=_info(keys)) as session, session.begin():
        emit(session, ReceiptRefused(order_id=_order(1), reason="nobody"))
    assert keys.looks == 1
    async with bench.database.transaction() as connection:
        await emit_all(connection, [_ordered(7), _ordered(8)], Emitting(source="shop", sealing=Sealing(keys)))
    assert keys.looks == 2
    rows = await bench.rows(schema.outbox)
    assert len(rows) == 8
    assert [each.key for each in rows[:2]] == [str(_order(0)), str(_order(1))]
    _tells_nothing(await _kept(bench))


async def test_what_cannot_be_sealed_is_not_written(bench: Bench) -> None:
    """Without keys the transaction fails; a subject by no name is refused at once."""
    keys = MemoryKeys()
    keys.away = True
    with pytest.raises(KeysUnavailable):
        async with AsyncSession(bench.database.engine, info=_info(keys)) as session, session.begin():
            emit(session, _ordered(1))
    async with AsyncSession(bench.database.engine, info=_info(keys)) as session:
        with pytest.raises(UnusableSubject):
            emit(session, Ordered(order_id=_order(1), customer_id="", email=EMAIL))
    assert await bench.rows(schema.outbox) == []


async def test_keys_that_a_session_was_not_given_are_missed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process has keys, nothing that is to be sealed is written in plain text by an oversight."""
    monkeypatch.setenv("AMENDS_SUBJECT_KEYS_FILE", "/run/secrets/subject-keys")
    async with bench.database.session() as session:
        with pytest.raises(
            TypeError, match=r"shop\.ordered would be written in plain text, and AMENDS_SUBJECT_KEYS_FILE"
        ):
            emit(session, _ordered(1))
        emit(session, ReceiptRefused(order_id=_order(1), reason="nobody"))
    async with bench.database.transaction() as connection:
        with pytest.raises(TypeError, match="would be written in plain text"):
            await emit_all(connection, [_ordered(1)], Emitting(source="shop"))
    monkeypatch.delenv("AMENDS_SUBJECT_KEYS_FILE")
    async with bench.database.session() as session:
        emit(session, _ordered(1))
    assert [EMAIL in each.body for each in await bench.rows(schema.outbox)] == [False, True]


def test_a_plain_session_seals_with_keys_of_a_thread(sqlite_url: str) -> None:
    """A script or a Flask view: no loop anywhere near, and one look for keys a flush."""
    engine = create_engine(sqlite_url)
    schema.metadata.create_all(engine)
    keys = MemoryKeys()
    with (
        sealing_in_a_thread(lambda: keys) as sealing,
        Session(engine, info={INFO: Emitting(sealing=sealing)}) as session,
    ):
        emit(session, _ordered(1))
        emit(session, _ordered(2))
        session.commit()
        bodies = session.scalars(select(schema.outbox.c.body)).all()
    engine.dispose()
    assert (len(bodies), keys.looks) == (2, 1)
    assert all("$sealed" in body and "lovelace" not in body for body in bodies)
