"""Looks at the database: seldom, bounded, by indexes, and told with their age where they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Select

from messaging import schema
from messaging.bus import BusUnavailable
from messaging.database import Database
from messaging.telemetry import depths, looking
from messaging.telemetry.depths import Depths
from messaging.telemetry.families import Family
from messaging.telemetry.looking import DatabaseLook, KeptFigures, told
from orchestrator import depths as saga_depths
from tests.contract.messaging.bench import NOON, StillClock
from tests.contract.orchestrator.conftest import make_tables
from tests.contract.orchestrator.office import Office
from tests.contract.telemetry.figures import values


class Sight:
    """What is to be seen, as a test says: how often, when, or an error."""

    def __init__(self) -> None:
        self.looks = 0
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def __call__(self) -> Sequence[Family]:
        self.looks += 1
        number = self.looks
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return (Family("looks", "", "gauge", (), {(): number}),)


def _seen(found: Sequence[Family]) -> object:
    return [value for family in found for value in family.values.values()]


async def test_whoever_asks_often_gets_what_was_found_before() -> None:
    """A look every ten seconds, however many ask."""
    clock, sight = StillClock(), Sight()
    kept = KeptFigures("sight", sight, clock)
    assert [_seen(await kept.fresh()) for _ in range(3)] == [[1], [1], [1]]
    clock.advance(9.9)
    assert _seen(await kept.fresh()) == [1]
    clock.advance(0.2)
    assert _seen(await kept.fresh()) == [2]


@pytest.mark.parametrize("error", [ConnectionRefusedError("away"), BusUnavailable("away")])
async def test_what_was_found_stays_with_its_age_while_looks_fail(error: Exception) -> None:
    """And the failures are counted."""
    clock, sight = StillClock(), Sight()
    kept = KeptFigures("sight", sight, clock)
    await kept.fresh()
    sight.error = error
    for _ in range(2):
        clock.advance(10)
        assert _seen(await kept.fresh()) == [1]
    found = list(told([kept]))
    assert values(found, "amends_look_age_seconds") == {("sight",): 20.0}
    assert values(found, "amends_look_failures") == {("sight",): 2}


async def test_before_anything_was_found_there_is_no_age() -> None:
    """A look that has never succeeded tells of nothing but its failures."""
    sight = Sight()
    sight.error = ConnectionRefusedError("away")
    kept = KeptFigures("sight", sight, StillClock())
    assert _seen(await kept.fresh()) == []
    found = list(told([kept]))
    assert values(found, "amends_look_age_seconds") == {}
    assert values(found, "amends_look_failures") == {("sight",): 1}


async def test_a_mistake_in_a_look_is_told_to_whoever_asks() -> None:
    """It passes for no database that is away."""
    sight = Sight()
    sight.error = ZeroDivisionError("a mistake")
    kept = KeptFigures("sight", sight, StillClock())
    with pytest.raises(ZeroDivisionError):
        await kept.fresh()
    assert kept.failures == 0


async def test_a_slow_look_holds_nobody_up_and_is_not_begun_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks meanwhile gets what there is; what it finds is there for the next."""
    monkeypatch.setattr(looking, "PATIENCE", 0.01)
    clock, sight = StillClock(), Sight()
    kept = KeptFigures("sight", sight, clock)
    sight.gate = asyncio.Event()
    assert _seen(await kept.fresh()) == []
    clock.advance(60)
    assert _seen(await kept.fresh()) == []
    assert sight.looks == 1
    sight.gate.set()
    sight.gate = None
    monkeypatch.setattr(looking, "PATIENCE", 20.0)
    assert _seen(await kept.fresh()) == [1]
    await kept.close()


async def test_what_waits_in_a_service_is_found(office: Office) -> None:
    """Outbox rows and the oldest one's age, messages put off by consumer, open letters by reason."""
    outbox = {
        "exchange": "e",
        "routing_key": "r",
        "type": "t.t",
        "source": "s",
        "body": "{}",
        "available_at": NOON,
    }
    put_off = {
        "queue": "q",
        "type": "t.t",
        "body": "{}",
        "due_at": NOON,
        "attempts": 1,
        "last_error": "e",
        "consumer": "order",
    }
    letter = {
        "service": "order",
        "queue": "q",
        "error": "e",
        "exchange": "",
        "routing_key": "r",
        "properties": "{}",
        "body": b"",
        "attempts": 0,
        "at": NOON,
    }
    ages = (300, 20)
    letters = [("unknown", "open"), ("unknown", "open"), ("unknown", "discarded"), ("nonsense", "open")]
    async with office.database.transaction() as connection:
        await connection.execute(
            schema.outbox.insert(),
            [outbox | {"message_id": UUID(int=age), "created_at": NOON - timedelta(seconds=age)} for age in ages],
        )
        await connection.execute(
            schema.deferred.insert(),
            [put_off | {"message_id": UUID(int=age), "first_at": NOON - timedelta(seconds=age)} for age in ages],
        )
        await connection.execute(
            schema.dead_letter.insert(),
            [
                letter | {"letter_id": UUID(int=number), "reason": reason, "state": state}
                for number, (reason, state) in enumerate(letters)
            ],
        )
    office.clock.moment = NOON
    found = await DatabaseLook(office.database, [Depths(["order", "idle"])], office.clock)()

    assert values(found, "amends_outbox_messages") == {(): 2}
    assert values(found, "amends_outbox_oldest_age_seconds") == {(): 300.0}
    assert values(found, "amends_deferred_messages") == {("order",): 2}
    assert values(found, "amends_deferred_oldest_age_seconds") == {("order",): 300.0}
    assert values(found, "amends_dead_letters") == {("unknown",): 2, ("other",): 1}
    (told_of,) = [family for family in found if family.name == "amends_deferred_messages"]
    assert told_of.values["idle",] == 0


QUERIES: dict[str, Select[Any]] = {
    "outbox": depths._OUTBOX,
    "deferred": depths._DEFERRED,
    "dead letters": depths._LETTERS,
    "sagas": saga_depths._SAGAS,
    "parked": saga_depths._PARKED,
    "collected letters": saga_depths._LETTERS,
}


@pytest.mark.parametrize("name", QUERIES)
async def test_no_look_reads_a_table_from_end_to_end(name: str, postgres_url: str) -> None:
    """PostgreSQL finds the rows of each by an index, and stops at the bound."""
    database = Database(postgres_url, by_index=True)
    await make_tables(database)
    given = {f"since{number}": NOON for number in range(len(saga_depths._BOUNDS))} | {"status": "running"}
    query = QUERIES[name]
    compiled = query.compile(dialect=database.engine.dialect)
    wanted = {key: value for key, value in given.items() if key in compiled.params}
    text = str(query.params(wanted).compile(dialect=database.engine.dialect, compile_kwargs={"literal_binds": True}))
    async with database.reading() as connection:
        plan = "\n".join(row[0] for row in await connection.exec_driver_sql(f"EXPLAIN {text}"))
    await database.close()
    assert "Seq Scan" not in plan, plan
    assert "Limit" in plan, plan
