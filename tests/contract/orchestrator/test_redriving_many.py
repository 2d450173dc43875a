"""Many dead letters at once, while others act on them too: each is sent once, and what was done is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.payment import PaymentFailed
from messaging import dead_letters, migrate
from messaging.clock import SystemClock
from messaging.database import Database
from messaging.dead_letters import letter_id
from orchestrator import letter_decisions, letters
from orchestrator.assembly import MIGRATIONS
from orchestrator.cli.letter_orders import LetterOrder
from orchestrator.dead_letters import Collector
from orchestrator.letter_decisions import Outcome
from orchestrator.letters import Criteria, Decision, State
from orchestrator.schema import collected_letter
from tests import laying
from tests.contract.orchestrator.letters import announced, collected
from tests.contract.orchestrator.office import Office
from tests.contract.orchestrator.post import COMMAND, EVENT, OLD, ORDER, Post, died


async def test_many_letters_are_redriven_page_by_page_and_each_once(post: Post) -> None:
    """More than one transaction takes, with some that cannot be sent between them."""
    office = Office(post.database)
    await office.serve(Collector())
    unreadable: dict[str, Any] = {"body": b"\xff"}
    many = [
        died(
            PaymentFailed(order_id=ORDER, reason="x"),
            UUID(int=1000 + number),
            queue="order.events",
            minutes=100,
            **(unreadable if number % 50 == 0 else {}),
        )
        for number in range(250)
    ]
    await office.handle(*(announced(office, dead_letters.announcement(each)) for each in many))
    await office.retire()

    result = await post.amends("redrive", "--since", "2h", "--older-than", "80m", "--reason", "mended", "--yes")

    sent = [row.message_id.int for row in await post.outbox()]
    assert sorted(sent) == [1000 + number for number in range(250) if number % 50]
    assert result.exit_code == 1
    assert "and 225 more" in result.stdout
    # After each transaction: a command that is killed has told what it has done.
    assert [line for line in result.stderr.splitlines() if "so far" in line] == [
        "redriven so far: 98; not sent again: 2",
        "redriven so far: 196; not sent again: 4",
        "redriven so far: 245; not sent again: 5",
    ]
    assert result.stderr.count("no reader will ever read it") == 1


async def _many(post: Post, number: int) -> None:
    """So many letters more, from 1000 on, that failed 100 minutes ago."""
    office = Office(post.database)
    event = PaymentFailed(order_id=ORDER, reason="x")
    await collected(
        office, *(died(event, UUID(int=1000 + each), queue="order.events", minutes=100) for each in range(number))
    )


def _after_each_commit(monkeypatch: pytest.MonkeyPatch, then: Callable[[Database], Awaitable[None]]) -> None:
    """Let something happen behind every transaction of a command."""
    transaction = Database.transaction

    @asynccontextmanager
    async def followed(self: Database) -> AsyncIterator[AsyncConnection]:
        async with transaction(self) as connection:
            yield connection
        monkeypatch.setattr(Database, "transaction", transaction)
        await then(self)
        monkeypatch.setattr(Database, "transaction", followed)

    monkeypatch.setattr(Database, "transaction", followed)


@pytest.mark.parametrize("name", ["redrive", "discard"])
async def test_a_letter_that_fails_again_meanwhile_is_not_sent_a_second_time(
    post: Post, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Those that were there when the command began, each once; neither one that comes back nor one that is new."""
    await _many(post, 250)
    late = letter_id(str(COMMAND), "payment")
    async with post.database.transaction() as connection:
        await connection.execute(update(collected_letter).where(collected_letter.c.id == late).values(state="handled"))
    pages = 0

    async def fail_again(database: Database) -> None:
        nonlocal pages
        pages += 1
        if pages > 10:
            raise RuntimeError("the command comes to no end")
        again = collected_letter.c.state.in_(("redriven", "discarded", "handled"))
        async with database.transaction() as connection:
            failed = {"state": "open", "at": SystemClock().now() + timedelta(seconds=1)}
            await connection.execute(update(collected_letter).where(again).values(**failed))

    _after_each_commit(monkeypatch, fail_again)
    result = await post.amends(name, "--all", "--reason", "mended", "--yes", "-o", "json")

    outcomes = [UUID(each["letter"]) for each in json.loads(result.stdout)]
    assert (len(outcomes), len(set(outcomes)), late in outcomes) == (254, 254, False), result.exception
    if name == "redrive":
        sent = [row.message_id.int for row in await post.outbox()]
        assert sorted(sent) == [12, 13, *range(1000, 1250)]


class _Deadlock(Exception):
    """As the driver tells of it."""

    sqlstate = "40P01"


async def test_a_page_that_collides_with_somebody_else_is_begun_again(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it was committed, and every letter leaves once."""
    await _many(post, 150)
    decide = letters.decide
    failures = 0

    async def collide(*given: Any) -> None:
        nonlocal failures
        await decide(*given)
        failures += 1
        if failures in (1, 3):
            raise DBAPIError(None, None, _Deadlock("deadlock detected"))

    monkeypatch.setattr(letters, "decide", collide)
    result = await post.amends("redrive", "--type", "payment.failed", "--reason", "mended", "--yes", "-o", "json")

    assert result.exit_code == 0, result.stderr
    assert len(json.loads(result.stdout)) == 152
    assert sorted(row.message_id.int for row in await post.outbox()) == [12, 13, *range(1000, 1150)]


async def test_what_was_done_is_told_when_the_database_goes_away_in_between(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages before are committed, and must be known; the exit code says that the database is away."""
    await _many(post, 150)

    decide = letters.decide
    pages = 0

    async def go_away(*given: Any) -> None:
        nonlocal pages
        pages += 1
        if pages == 2:
            raise DBAPIError(None, None, ConnectionResetError("it has gone"), connection_invalidated=True)
        await decide(*given)

    monkeypatch.setattr(letters, "decide", go_away)
    result = await post.amends("redrive", "--type", "payment.failed", "--reason", "mended", "--yes", "-o", "json")

    assert result.exit_code == 69, result.stderr
    told = [UUID(each["sent_as"]) for each in json.loads(result.stdout)]
    assert ": it has gone; " in result.stderr
    assert told == [row.message_id for row in await post.outbox()]
    assert len(told) == 100


async def test_a_redrive_and_the_collector_wait_for_each_other_in_one_order(postgres_url: str) -> None:
    """Whoever locks letters locks them by id: neither waits for one that the other has while holding what it wants."""
    database = Database(postgres_url)
    await laying.migrated(database, [migrate.MESSAGING, MIGRATIONS])
    event = PaymentFailed(order_id=ORDER, reason="x")
    first, second = UUID(int=1), UUID(int=2)
    # By age the other way round than by id.
    await collected(
        Office(database),
        died(event, UUID(int=11), queue="order.events", minutes=10, letter=first),
        died(event, UUID(int=12), queue="order.events", minutes=20, letter=second),
    )
    wanted = Criteria(ids=(second, first), states=frozenset({State.OPEN}))
    decision = Decision(State.REDRIVEN, "ann", "mended", SystemClock().now())
    found: list[Outcome] = []
    async with database.transaction() as collecting:
        row = collected_letter.c.id
        await collecting.execute(select(row).where(row == first).with_for_update())
        redriving = asyncio.create_task(
            letter_decisions.redrive(database, wanted, decision, found.extend, dry_run=False)
        )
        async with database.reading() as looking:
            await _somebody_waits(looking)
        await collecting.execute(select(row).where(row == second).with_for_update(nowait=True))
    await redriving
    await database.close()

    assert [each.sent_as for each in found] == [UUID(int=12), UUID(int=11)]


async def test_what_somebody_else_has_decided_meanwhile_is_told(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the question and the answer: what was shown and not done is no success."""

    async def discard() -> None:
        database = Database(post.url)
        async with database.transaction() as connection:
            mine = collected_letter.c.message_id == str(EVENT)
            await connection.execute(update(collected_letter).where(mine).values(state=State.DISCARDED))
        await database.close()

    monkeypatch.setattr(LetterOrder, "confirm", lambda _: asyncio.run(discard()))
    result = await post.amends("redrive", "--type", "payment.failed", "--reason", "mended")

    assert result.exit_code == 1
    assert [row.message_id for row in await post.outbox()] == [OLD]
    assert result.stderr.endswith(
        "amends: 1 of them is no longer like that: decided about, handled, failed again or pruned since they were "
        "shown; look at them again\n"
    )


async def _somebody_waits(connection: AsyncConnection) -> None:
    """Until some other session of this database waits for a row."""
    waiting = text(
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = "
        "current_database()"
    )
    async with asyncio.timeout(30):
        while not (await connection.execute(waiting)).scalar_one():  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.01)
