"""Two orchestrators with two lanes each, whose connections to the database are killed and whose confirmations are lost:
every saga ends right, nothing is sent that was not committed, and each saga's messages leave in their order.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import count, pairwise
from uuid import UUID

import pytest
from sqlalchemy import text

from messaging.bus import Answers, Outgoing, Receipt
from messaging.database import Database
from messaging.rabbitmq import RabbitBus
from orchestrator.instance import SOURCE
from orchestrator.replay import reading
from orchestrator.replay.recorded import RecordedTransition
from tests.integration.mill import Mill, approvals
from tests.unit.work import Begun

SAGAS = 100
REFUSED = 10
KILL_EVERY = 50
"""Messages that the orchestrators publish from one killed connection to the next."""
LOSE_EVERY = 23
"""Of their confirmations, one in so many never comes."""


@dataclass
class Log:
    """What the orchestrators have published: by message, when it was first sent and when the broker first had it."""

    moments: count[int] = field(default_factory=count)
    sent: dict[str, int] = field(default_factory=dict)
    had: dict[str, int] = field(default_factory=dict)
    published: int = 0
    due: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a connection is to be killed."""


class Lossy(RabbitBus):
    """An orchestrator's connection to the broker, which loses confirmations."""

    def __init__(self, url: str, log: Log) -> None:
        super().__init__(url, service=SOURCE)
        self._log = log

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[Receipt]:
        self._note(messages)
        return self._heard(messages, await super().publish(messages))

    def send_now(self, messages: Sequence[Outgoing]) -> Answers | None:
        answers = super().send_now(messages)
        if answers is None:
            return None
        self._note(messages)
        return partial(self._answered, messages, answers)

    async def _answered(self, messages: Sequence[Outgoing], answers: Answers) -> Sequence[Receipt]:
        return self._heard(messages, await answers())

    def _note(self, messages: Sequence[Outgoing]) -> None:
        for each in messages:
            self._log.sent.setdefault(each.message_id, next(self._log.moments))

    def _heard(self, messages: Sequence[Outgoing], receipts: Sequence[Receipt]) -> Sequence[Receipt]:
        log, said = self._log, list(receipts)
        for number, (each, receipt) in enumerate(zip(messages, receipts, strict=True)):
            if receipt is Receipt.CONFIRMED:
                log.had.setdefault(each.message_id, next(log.moments))
                log.published += 1
                if log.published % KILL_EVERY == 0:
                    log.due.set()
                if log.published % LOSE_EVERY == 0:
                    said[number] = Receipt.UNKNOWN
        return said


@pytest.fixture
async def log() -> Log:
    """Nothing has been published yet."""
    return Log()


@pytest.fixture
async def mill(amqp_url: str, fresh_postgres: Callable[[], str], log: Log) -> AsyncIterator[Mill]:
    """A participant on servers, and no orchestrator yet."""

    def bus(name: str) -> RabbitBus:
        return Lossy(amqp_url, log) if name == SOURCE else RabbitBus(amqp_url, service=name)

    mill = Mill(bus, fresh_postgres())
    await mill.open()
    yield mill
    await mill.close()


async def test_nothing_is_lost_or_overtaken(mill: Mill, postgres_url: str, log: Log) -> None:
    """Starts that come twice, approvals that come early, connections that die: all ends as if nothing had happened."""
    both = [mill.orchestrator(postgres_url, lanes=2, outbox_grace=timedelta(seconds=1)) for _ in range(2)]
    await mill.start(*both)
    killer = asyncio.create_task(_kill(postgres_url, log, await mill.looks_with(postgres_url)))
    begun = [Begun(id=number) for number in range(SAGAS)]
    approved = approvals(range(SAGAS), lambda number: number % (SAGAS // REFUSED) == 0)
    await mill.publish(*approved[: SAGAS // 2])
    await mill.publish(*begun, *begun[: SAGAS // 3])
    await mill.publish(*approved[SAGAS // 2 :])
    await mill.come([postgres_url], {"completed": SAGAS - REFUSED, "compensated": REFUSED})
    killer.cancel()
    killed = await killer
    await mill.settled(postgres_url)

    assert killed >= SAGAS // KILL_EVERY
    assert await mill.audit(postgres_url) == SAGAS
    commanded = await _commanded(postgres_url)
    assert set(log.sent) == {message for messages in commanded.values() for message in messages}
    for messages in commanded.values():
        for earlier, later in pairwise(messages):
            assert log.had[earlier] < log.sent[later], (earlier, later)


async def _kill(database_url: str, log: Log, spared: int) -> int:
    """Kill a connection whenever one is to be killed, until this is canceled; returns how many it has killed."""
    database = Database(database_url, pool_size=1)
    killed = 0
    try:
        while True:
            await log.due.wait()
            log.due.clear()
            async with database.reading() as connection:
                found = await connection.execute(_TERMINATE, {"number": killed, "spared": spared})
                killed += len(found.all())
    except asyncio.CancelledError:
        return killed
    finally:
        await database.close()


# Each of them in its turn, whatever it is doing: what it does is undone, or nobody hears that it was done.
_TERMINATE = text("""
    WITH others AS (
        SELECT pid, row_number() OVER (ORDER BY pid) - 1 AS place, count(*) OVER () AS several FROM pg_stat_activity
        WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), :spared)
          AND backend_type = 'client backend'
    )
    SELECT pg_terminate_backend(pid) FROM others WHERE place = :number % several
""")


async def _commanded(database_url: str) -> dict[UUID, list[str]]:
    """Ids of the messages that each instance has sent by its history, each once, in order."""
    database = Database(database_url, pool_size=1)
    try:
        async with database.reading() as connection:
            return {each.id: _once(each.transitions) async for each in reading.stream(connection)}
    finally:
        await database.close()


def _once(transitions: Sequence[RecordedTransition]) -> list[str]:
    return list(dict.fromkeys(sent["id"] for row in transitions for sent in json.loads(row.commands)))
