"""How an instance is named by a person: its id, the beginning of one, or its key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator import letters, queries
from orchestrator.saga.state import saga_id
from orchestrator.schema import saga
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.letters import collected, dead_letter
from tests.contract.orchestrator.office import Office
from tests.unit.work import pivot, step, work_saga

FIRST, SECOND = UUID("9a000000-0000-4000-8000-000000000001"), UUID("9a000000-0000-4000-8000-000000000002")


async def _found(office: Office, wanted: str) -> tuple[str, str]:
    async with office.database.reading() as connection:
        row = await queries.find(connection, wanted)
    return row.name, row.key


async def _refused(office: Office, wanted: str) -> str:
    with pytest.raises(queries.NoSuchSaga) as refused:
        await _found(office, wanted)
    return str(refused.value)


@pytest.fixture
async def three(office: Office) -> Office:
    """Key 9, and two whose ids begin with 9."""
    await office.employ(work_saga(step("dig"), pivot("sign")))
    await office.handle(*[office.begun(number) for number in (9, 10, 11)])
    async with office.database.transaction() as connection:
        for key, identity in (("10", FIRST), ("11", SECOND)):
            await connection.execute(saga.update().where(saga.c.key == key).values(id=identity))
    return office


async def test_an_exact_key_wins_over_ids_that_begin_so(three: Office) -> None:
    """Whoever types a whole key means it."""
    assert await _found(three, "9") == ("work", "9")


async def test_a_beginning_finds_one_or_names_those_it_fits(three: Office) -> None:
    """Digits in any case, with or without dashes."""
    assert await _found(three, " 9A0000000000400080000000000000-02 ") == ("work", "11")
    assert await _refused(three, "9a") == f"'9a' fits more than one saga ({FIRST}, {SECOND}); give more of it"


async def test_an_exact_key_is_found_among_many_that_begin_so(three: Office) -> None:
    """However many ids begin with it, and whatever their order is."""
    async with three.database.transaction() as connection:
        (row,) = (await connection.execute(saga.select().where(saga.c.key == "10"))).all()
        given = {name: value for name, value in row._mapping.items() if saga.c[name].computed is None}
        more = [given | {"id": UUID(int=(0x90 << 120) + n), "key": f"k{n}"} for n in range(20)]
        await connection.execute(saga.insert(), more)
    assert await _found(three, "9") == ("work", "9")


async def test_one_key_of_two_sagas_needs_an_id(three: Office) -> None:
    """Keys are unique within a saga, not among them; more of the key would not help."""
    await three.retire()
    await three.employ(work_saga(step("dig"), pivot("sign"), name="play"))
    await three.handle(three.begun(9))
    ids = sorted([saga_id("work", 9), saga_id("play", 9)])
    assert await _refused(three, "9") == f"'9' is the key of more than one saga ({ids[0]}, {ids[1]}); give an id"


async def test_nothing_is_found(three: Office) -> None:
    """Neither by what is no id, nor by nothing at all."""
    for wanted in ("shoe", "12", "", " "):
        assert await _refused(three, wanted) == (
            f"no saga has the id or the key {wanted!r}; `amends list` shows what there is"
        )


async def _plans(office: Office, look: Callable[[AsyncConnection], Awaitable[object]]) -> list[str]:
    """How the database answers each statement that `look` sends, in its own words; a small table is no excuse."""
    engine, sent = office.database.engine.sync_engine, list[tuple[str, Any]]()

    def note(on: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        # The office's worker looks at its tables now and then, on a connection of its own.
        if on is connection.sync_connection:
            sent.append((statement, parameters))

    async with office.database.transaction() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            await connection.execute(text("SET LOCAL enable_seqscan = off"))
        event.listen(engine, "before_cursor_execute", note)
        try:
            await look(connection)
        finally:
            event.remove(engine, "before_cursor_execute", note)
        plans = []
        for statement, parameters in sent:
            explained = f"EXPLAIN {'QUERY PLAN ' if sqlite else ''}{statement}"
            plans.append("\n".join(str(row) for row in await connection.exec_driver_sql(explained, parameters)))
    return plans


async def _finding(connection: AsyncConnection) -> None:
    with suppress(queries.NoSuchSaga):
        await queries.find(connection, "9a")


def _reads_all(plan: str) -> bool:
    """SQLite says SCAN for a walk along an index too, and then names it."""
    return "Seq Scan" in plan or any("SCAN saga" in line and " USING INDEX " not in line for line in plan.split("\n"))


async def test_an_instance_is_found_without_reading_the_table(three: Office) -> None:
    """First by the index on the key, then by the primary key."""
    by_key, by_id = await _plans(three, _finding)
    assert "ix_saga_key" in by_key
    assert "pk_saga" in by_id or "sqlite_autoindex_saga_1" in by_id
    assert not _reads_all(by_key)
    assert not _reads_all(by_id)


@pytest.mark.parametrize(
    ("conditions", "index"),
    [
        ({}, "ix_saga_status_rested_at"),
        ({"since": NOON}, "ix_saga_status_rested_at"),
        ({"key": "9"}, "ix_saga_key"),
        ({"status": "running"}, "ix_saga_status_rested_at"),
    ],
)
async def test_a_listing_does_not_read_the_table(three: Office, conditions: dict[str, Any], index: str) -> None:
    """It walks along the index on status and rest, or that of what was asked for."""
    plan, *_attributes = await _plans(three, lambda connection: queries.listing(connection, **conditions))
    assert index in plan
    assert not _reads_all(plan)


async def test_the_letters_of_a_message_are_found_without_reading_them_all(three: Office) -> None:
    """By the index on the message's id, beside the primary key."""

    async def look(connection: AsyncConnection) -> None:
        with suppress(letters.NoSuchLetter):
            await letters.find(connection, letters.COLLECTED, "9a")

    plans = await _plans(three, look)
    assert len(plans) == 2
    assert "ix_collected_letter_message_id" in plans[0]
    for plan in plans:
        assert "Seq Scan" not in plan
        assert "SCAN" not in plan


async def test_keys_and_message_ids_may_be_longer_than_an_index_page(three: Office) -> None:
    """Neither is bounded, and an instance that cannot be written would stop its whole batch."""
    long = "".join(sha256(str(number).encode()).hexdigest() for number in range(200))
    async with three.database.transaction() as connection:
        await connection.execute(saga.update().where(saga.c.key == "10").values(key=long))
    assert await _found(three, long) == ("work", long)
    await collected(three, dead_letter(message_id=long))
