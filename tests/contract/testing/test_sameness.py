"""The kit plays a saga as the engine runs it: the same inputs, in any order, leave the same history in both."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from contracts.message import Event
from messaging import schema
from messaging.consumer import Batch
from messaging.database import Database
from messaging.envelope import Envelope, encode
from messaging.received import Received
from messaging.work import Work as Transaction
from orchestrator import CONTINUE, Parallel, Retry, Saga, Wait, seconds
from orchestrator import testing as kit
from orchestrator.catalog import Catalog
from orchestrator.engine import Engine
from orchestrator.folding import Folding
from orchestrator.loading import Loading
from orchestrator.operations.action import FOR_EVER
from orchestrator.remembered import Remembered
from orchestrator.replay.reading import recorded
from orchestrator.replay.recorded import Recorded
from orchestrator.saga.inputs import Action, EventArrived, PersonActed
from orchestrator.schema import metadata
from orchestrator.schema import saga as saga_table
from orchestrator.testing.memory_database import MemoryDatabase
from tests.unit.work import (
    Approved,
    Begun,
    Done,
    Refused,
    Undone,
    Withdrawn,
    Work,
    approval,
    cancel_on_withdrawal,
    done_before,
    pause,
    pivot,
    retriable,
    step,
    work_saga,
)

QUICK = {"timeout": seconds(10), "retry": Retry(attempts=2, backoff=seconds(1))}
MOMENTS = (1, 7, 11, 30, 400)


class Signed(Event, type="work.signed", key="id"):
    """Somebody has signed."""

    id: int


def _raising(data: Work, event: Done) -> Work:
    if event.note == "!":
        raise ZeroDivisionError("cannot take that")
    return data.told("taken")


SAGAS = {
    "steps": work_saga(
        done_before("order"),
        step("stock", **QUICK),
        step("money", on_success=_raising, **QUICK),
        pivot("ship"),
        retriable("invoice"),
        cancel_on=cancel_on_withdrawal(),
    ),
    "parallel": work_saga(
        Parallel(step("left", **QUICK), step("right", **QUICK | {"timeout": seconds(25)}), step("middle")),
        approval(timeout=seconds(50)),
        pivot("ship"),
    ),
    "waits": work_saga(
        approval("first", timeout=None),
        step("stock", **QUICK),
        pause("rest", seconds(20)),
        Wait(Signed, key=lambda event: event.id, name="second", timeout=seconds(40), on_timeout=CONTINUE),
        pivot("ship"),
        Parallel(retriable("invoice"), retriable("letter")),
        cancel_on=cancel_on_withdrawal(),
    ),
}


class RealEngine:
    """The engine on a database, given one input after another."""

    def __init__(self, saga: Saga[Any], database: Database) -> None:
        self.catalog = Catalog([saga])
        self.engine = Engine(self.catalog)
        self.database = database

    async def prepare(self) -> None:
        async with self.database.transaction() as connection:
            await connection.run_sync(schema.metadata.create_all)
            await connection.run_sync(metadata.create_all)

    async def event(self, given: EventArrived, correlation_id: str | None) -> None:
        """This message, at this moment."""
        envelope = Envelope(
            id=given.message_id,
            type=given.event.wire_type,
            version=1,
            source=given.source,
            time=given.at,
            correlation_id=correlation_id,
            causation_id=str(given.causation_id) if given.causation_id else None,
        )
        body = encode(envelope, given.event)
        received = Received(envelope, given.event, None, body, "orchestrator.events")
        async with self.database.transaction() as connection:
            work = Transaction(connection, given.at, "orchestrator", "orchestrator")
            await self.engine.handle(work, Batch(fresh=[received]))
            await work.write(None, timedelta(0))

    async def person(self, identity: UUID, given: PersonActed) -> None:
        """This action on this instance, at its moment."""
        async with self.database.transaction() as connection:
            work = Transaction(connection, given.at, "orchestrator", "orchestrator")
            loading = Loading(self.catalog, work, Remembered(), {identity})
            await loading.read()
            folding = Folding(self.catalog, FOR_EVER, work, loading)
            instance = folding.instance(identity)
            assert instance is not None
            folding.person(instance, given)
            await folding.write()
            await work.write(None, timedelta(0))

    async def until(self, end: Any) -> None:
        """Whatever comes due until then, each at its own moment, as the engine's poller would find it."""
        while True:
            async with self.database.transaction() as connection:
                moment = (await connection.execute(select(saga_table.c.deadline))).scalar()
                if moment is None or moment > end:
                    return
                ticks, _ = await self.engine.due(connection, moment, 10)
                work = Transaction(connection, moment, "orchestrator", "orchestrator")
                await self.engine.handle(work, Batch(ticks=list(ticks)))
                await work.write(None, timedelta(0))

    async def recorded(self) -> Recorded:
        async with self.database.reading() as connection:
            return await recorded(connection, (await connection.execute(select(saga_table))).one())


async def _play(saga: Saga[Any], choices: list[tuple[str, int]]) -> tuple[Recorded, Recorded]:
    """The same story in the kit and in the engine; the kit's choices decide which commands can be answered."""
    database = MemoryDatabase()
    real = RealEngine(saga, database)
    await real.prepare()
    scenario = kit.given(saga, Begun(id=7))
    seen = 0

    async def follow(*, through: bool = False) -> None:
        """What the kit has just been given, given to the engine too."""
        nonlocal seen
        fresh, seen = scenario.transitions[seen:], len(scenario.transitions)
        if through:
            await real.until(scenario.now)
        elif isinstance(arrived := fresh[0].given, EventArrived):
            await real.event(arrived, str(scenario.recorded.id))
        elif isinstance(arrived, PersonActed):
            await real.person(scenario.recorded.id, arrived)

    await follow()
    for kind, number in choices:
        if kind == "time":
            scenario.advance(timedelta(seconds=MOMENTS[number % len(MOMENTS)]))
            await follow(through=True)
        elif _act(scenario, kind, number):
            await follow()
    found = scenario.recorded, await real.recorded()
    await database.close()
    return found


def _act(scenario: kit.Scenario[Work], kind: str, number: int) -> bool:
    """One thing that happens to the saga, if it can happen now."""
    if kind == "event":
        known = {each.wire_type for each in scenario._playing.saga.events()}
        events: list[Event] = [Approved(id=7), Begun(id=7), Withdrawn(id=7), Signed(id=7)]
        heard = [each for each in events if each.wire_type in known]
        scenario.receives(heard[number % len(heard)])
        return True
    if kind == "person":
        _decide(scenario, number)
        return True
    under_way = scenario._answering._under_way()
    if kind == "late":
        sent = {each.id for each in under_way}
        under_way = [each for each in scenario._answering._sent() if each.id not in sent]
    if not under_way:
        return False
    asked = under_way[number % len(under_way)]
    if kind == "refuse" and asked.command.failure_type is None:
        return False
    answer: Event = Undone() if asked.command.success_type is Undone else Done(note="!" if number % 5 == 0 else "")
    event = Refused() if kind == "refuse" else answer
    scenario._answering._hand_over(event, [asked], None)
    return True


DEEDS = [each for each in Action if each is not Action.MIGRATE]


def _decide(scenario: kit.Scenario[Work], number: int) -> None:
    """A person does something, possible or not, to a step that is waited for, if one is."""
    playing, action = scenario._playing, DEEDS[number % len(DEEDS)]
    names = scenario._state.current or tuple(playing.saga.stages)
    answers: dict[Action, list[Event | None]] = {
        Action.SKIP: [Done(), Approved(id=7), Signed(id=7), Approved(id=8), None],
        Action.CANCEL: [Withdrawn(id=7), None],
    }
    possible = answers.get(action, [None])
    due = None if number % 3 == 0 or action is not Action.RESCHEDULE else playing.now + seconds(number)
    given = PersonActed(
        playing.now, action, "bea", "a test", names[number % len(names)], possible[number % len(possible)], due
    )
    scenario._ledger.turn()
    playing.take(given)
    scenario._ledger.note()


KINDS = st.sampled_from(["answer", "answer", "answer", "refuse", "late", "event", "time", "person", "person"])


@pytest.mark.parametrize("name", SAGAS)
@example(choices=[*[("answer", 1)] * 4, ("person", 5), ("time", 4), ("person", 0), ("person", 6), ("person", 4)])
@example(choices=[("event", 0), ("time", 0), ("answer", 1), ("answer", 1), ("answer", 1), ("time", 1)])
@given(choices=st.lists(st.tuples(KINDS, st.integers(0, 60)), max_size=25))
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_the_kit_and_the_engine_leave_the_same_history(name: str, choices: list[tuple[str, int]]) -> None:
    """Inputs, facts, commands, moments, data and status are the same to the letter; tracebacks but for their frames."""
    played, real = asyncio.run(_play(SAGAS[name], choices))
    assert _bare(played) == _bare(real)


def _bare(found: Recorded) -> Recorded:
    """Without the frames of tracebacks, which tell who called the saga's function."""
    rows = tuple(replace(each, facts=_without_frames(each.facts)) for each in found.transitions)
    return replace(
        found, reason=_without_frames(found.reason), progress=_without_frames(found.progress), transitions=rows
    )


def _without_frames(text: str) -> str:
    return re.sub(r"Traceback \(most recent.*?(?=ZeroDivisionError)", "", text, flags=re.DOTALL)


def test_the_stories_go_to_all_ends() -> None:
    """By hand: a story through a raising function, one with an early approval, one that is withdrawn and undone."""
    raised, _ = asyncio.run(_play(SAGAS["steps"], [("answer", 1), ("answer", 5)]))
    assert "stuck" == raised.status
    early, real = asyncio.run(_play(SAGAS["parallel"], [("event", 0), ("answer", 1), ("answer", 1), ("answer", 1)]))
    assert ("running", "ship", 5) == (early.status, early.step, len(real.transitions))
    undone, _ = asyncio.run(_play(SAGAS["steps"], [("answer", 1), ("event", 1), *[("answer", 1)] * 3]))
    assert "compensated" == undone.status
    skipped, same = asyncio.run(_play(SAGAS["waits"], [("person", 1), ("answer", 1), ("person", 3), ("person", 3)]))
    assert _deeds(skipped) == _deeds(same) == [Action.SKIP, Action.RESOLVE, Action.RESOLVE]
    assert skipped.step == "ship"


def _deeds(found: Recorded) -> list[str]:
    """What persons have done, by the history."""
    inputs = [json.loads(each.input) for each in found.transitions]
    return [each["action"] for each in inputs if each["kind"] == "person"]
