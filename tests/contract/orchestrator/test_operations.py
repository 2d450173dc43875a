"""People act on instances while an engine runs them, on both databases."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import schema
from messaging.database import Conflict, Database
from orchestrator import Migration, Retry, Saga, Step, hours, seconds, versions
from orchestrator.catalog import Catalog
from orchestrator.operations import choice
from orchestrator.operations.action import Operator, Outcome, Result
from orchestrator.replay import reading
from orchestrator.replay.replaying import replay
from orchestrator.saga.inputs import Action, PersonActed
from orchestrator.saga.state import Direction, command_id, saga_id
from orchestrator.schema import saga as saga_table
from orchestrator.schema import saga_history
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.office import Office
from tests.unit.work import Done, Refused, Undone, Work, doing, pivot, retriable, step, undoing, work_saga

ONCE = Retry(attempts=1)
UNDO = Direction.COMPENSATION


@pytest.fixture
async def elsewhere(database_url: str) -> AsyncIterator[Database]:
    """The same database, opened by another process."""
    database = Database(database_url)
    yield database
    await database.close()


def _saga(**options: Any) -> Saga[Work]:
    """A step that is undone once and then given up, and what comes behind it."""
    return work_saga(step("dig", compensation_retry=ONCE), step("fill"), pivot("sign"), retriable("bill"), **options)


def _by_bea(action: Action, step: str | None = None, **rest: Any) -> PersonActed:
    return PersonActed(NOON - hours(1), action, "bea", "refund 7731 in the bank's console", step, **rest)


def _work(number: int) -> UUID:
    return saga_id("work", number)


async def _stuck(office: Office, *numbers: int) -> None:
    """Sagas whose `dig` was done and cannot be undone."""
    await office.handle(*[office.begun(number) for number in numbers])
    await office.handle(*[office.answer(number, "dig", Done()) for number in numbers])
    await office.handle(*[office.answer(number, "fill", Refused()) for number in numbers])
    async with asyncio.timeout(30):
        while not all([await office.status_of(number) == "stuck" for number in numbers]):
            office.clock.advance(10)
            await asyncio.sleep(0.005)
    await office.flush()
    office.bus.published.clear()


async def _tables(office: Office) -> list[list[Any]]:
    return [await office.rows(table) for table in (saga_table, saga_history, schema.outbox, schema.inbox)]


async def test_a_stuck_compensation_is_resolved_with_evidence(office: Office, elsewhere: Database) -> None:
    """Who and why lie in the history, the end is announced through the outbox, and the history folds to the state."""
    await office.employ(_saga())
    await _stuck(office, 1)
    operator = Operator(elsewhere, office.catalog, office.clock)
    outcome = await operator.act(_work(1), _by_bea(Action.RESOLVE, "dig"))

    assert (outcome.result, outcome.was, outcome.status, outcome.why) == (Result.DONE, "stuck", "compensated", "")
    assert (await office.sagas())["1"].status == "compensated"
    last = (await office.rows(saga_history, saga_history.c.seq))[-1]
    given = json.loads(last.input)
    assert (given["kind"], given["action"], given["step"]) == ("person", "resolve", "dig")
    assert (given["who"], given["why"]) == ("bea", "refund 7731 in the bank's console")
    assert [fact["fact"] for fact in json.loads(last.facts)] == ["resumed", "step_compensated", "compensated"]
    assert given["at"] == office.clock.now().isoformat().replace("+00:00", "Z")
    (row,) = await office.rows(schema.outbox)
    assert (row.type, row.key, row.source) == ("work.amended", str(_work(1)), "orchestrator")
    assert row.available_at == row.created_at == office.clock.now()
    assert await office.relay.sweep() == 1
    assert [each.type for each in office.bus.published] == ["work.amended"]
    assert await office.audit() == 1


async def test_a_rehearsal_says_what_would_be_and_changes_nothing(office: Office, elsewhere: Database) -> None:
    """Not a row differs afterwards, and the engine goes on."""
    await office.employ(_saga())
    await _stuck(office, 1)
    before = await _tables(office)
    operator = Operator(elsewhere, office.catalog, office.clock)
    outcome = await operator.rehearse(_work(1), _by_bea(Action.RETRY))

    assert (outcome.result, outcome.was, outcome.status) == (Result.POSSIBLE, "stuck", "compensating")
    (transition,) = outcome.transitions
    assert [(each["type"], each["id"]) for each in json.loads(transition.commands)] == [
        ("work.undo", str(command_id(_work(1), "dig", UNDO, 2)))
    ]
    assert await _tables(office) == before
    assert (await operator.act(_work(1), _by_bea(Action.RETRY), outcome.seen)).result is Result.DONE
    assert await office.audit() == 1


async def test_what_was_parked_is_taken_up_in_the_same_transaction(office: Office, elsewhere: Database) -> None:
    """The late answer that a stuck saga has kept becomes due with the retry; its command leaves all the same."""
    await office.employ(_saga())
    await _stuck(office, 1)
    await office.handle(office.answer(1, "dig", Undone(), direction=UNDO, round=2))
    assert len(await office.parked()) == 1
    outcome = await Operator(elsewhere, office.catalog, office.clock).act(_work(1), _by_bea(Action.RETRY))

    assert (outcome.status, len(outcome.transitions), await office.parked()) == ("compensated", 2, [])
    assert [row.type for row in await office.rows(schema.outbox, schema.outbox.c.id)] == ["work.undo", "work.amended"]
    assert await office.audit() == 1


async def test_what_is_refused_leaves_no_trace(office: Office, elsewhere: Database) -> None:
    """A step that waits for nothing, a saga that is not there, code that raises: the words, and not a row."""

    def choosy(data: Work, event: Done) -> Work:
        raise ZeroDivisionError("cannot read this")

    await office.employ(work_saga(step("dig", on_success=choosy), pivot("sign")))
    await office.handle(office.begun(1))
    before = await _tables(office)
    operator = Operator(elsewhere, office.catalog, office.clock)
    refused = [
        await operator.act(_work(1), _by_bea(Action.RESOLVE, "sign")),
        await operator.act(_work(2), _by_bea(Action.RETRY)),
        await operator.act(_work(1), _by_bea(Action.SKIP, "dig", answer=Done())),
    ]

    assert [each.result for each in refused] == [Result.REFUSED] * 3
    assert [each.why.strip().rpartition("\n")[2] for each in refused] == [
        "sign is not waiting for anything",
        "there is no such saga any more",
        "ZeroDivisionError: cannot read this",
    ]
    assert await _tables(office) == before
    assert refused[0].status == refused[0].was == "running"


async def test_one_that_refuses_does_not_stop_the_others(office: Office, elsewhere: Database) -> None:
    """Each of many has a transaction of its own."""
    await office.employ(_saga())
    await _stuck(office, 1, 2, 3)
    operator = Operator(elsewhere, office.catalog, office.clock)
    async with elsewhere.reading() as connection:
        chosen = await choice.stuck(connection, name="work", step="dig")
        assert await choice.stuck(connection, step="fill") == await choice.stuck(connection, name="play") == []
    assert {each.id for each in chosen} == {_work(1), _work(2), _work(3)}
    await operator.act(_work(2), _by_bea(Action.ABANDON))
    results = {each.id: (await operator.act(each.id, _by_bea(Action.RETRY))).result for each in chosen}

    assert results == {_work(1): Result.DONE, _work(2): Result.REFUSED, _work(3): Result.DONE}
    assert await office.audit() == 3


async def test_what_has_moved_since_it_was_shown_is_not_done(office: Office, elsewhere: Database) -> None:
    """A person has agreed to something else."""
    await office.employ(_saga())
    await office.handle(office.begun(1))
    operator = Operator(elsewhere, office.catalog, office.clock)
    shown = await operator.rehearse(_work(1), _by_bea(Action.COMPENSATE))
    await office.handle(office.answer(1, "dig", Done()))
    outcome = await operator.act(_work(1), _by_bea(Action.COMPENSATE), shown.seen)

    assert (outcome.result, outcome.why) == (Result.REFUSED, "it has moved since it was shown; look at it again")
    assert await office.status_of(1) == "running"


async def test_a_person_and_the_engine_may_meet_on_one_instance(office: Office, elsewhere: Database) -> None:
    """Whoever comes first: a saga turned back before its answer notes it as late, one turned back after undoes it."""
    numbers = range(1, 31)
    await office.employ(_saga())
    await office.handle(*[office.begun(number) for number in numbers])
    operator = Operator(elsewhere, office.catalog, office.clock)
    deliveries = [office.answer(number, "dig", Done()) for number in numbers]
    outcomes: list[Outcome] = []

    async def people() -> None:
        outcomes.extend([await operator.act(_work(number), _by_bea(Action.COMPENSATE)) for number in numbers])

    async def engine() -> None:
        for delivery in deliveries:
            office.bus.hand_over([delivery])
            await asyncio.sleep(0.001)
        await office.pass_time(lambda: len(office.bus.settled) >= office.bus.handed, "all are settled", step=0.1)

    await asyncio.gather(people(), engine())

    assert {each.result for each in outcomes} == {Result.DONE}
    assert await office.audit() == 30
    for row in (await office.sagas()).values():
        entries = [each for each in await office.rows(saga_history, saga_history.c.seq) if each.saga_id == row.id]
        kinds = [json.loads(each.input)["kind"] for each in entries]
        facts = [fact["fact"] for fact in json.loads(entries[-1].facts)]
        assert (kinds, facts) in (
            (["event", "person", "event"], ["came_late"]),
            (["event", "event", "person"], ["compensation_begun", "step_in_doubt", "command_sent"]),
        )
        assert row.status == "compensating"


class Interrupted(Database):
    """A database in which somebody else comes between, so many times."""

    def __init__(self, url: str, times: int) -> None:
        super().__init__(url)
        self.times = times

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Commits from the time on that nobody comes between any more."""
        async with super().transaction() as connection:
            yield connection
            if self.times:
                self.times -= 1
                raise Conflict("another process moved an instance of this batch")


@pytest.mark.parametrize(("times", "result"), [(4, Result.DONE), (5, Result.REFUSED)])
async def test_an_action_that_collides_is_begun_again(
    office: Office, database_url: str, times: int, result: Result
) -> None:
    """A few times, then it is refused, and whoever comes next has his turn; nothing is done twice or half."""
    await office.employ(_saga())
    await _stuck(office, 1)
    database = Interrupted(database_url, times)
    try:
        acting = asyncio.create_task(
            Operator(database, office.catalog, office.clock).act(_work(1), _by_bea(Action.RETRY))
        )
        await office.pass_time(acting.done, "it has been tried", step=0.1)
        outcome = await acting
    finally:
        await database.close()

    assert (outcome.result, database.times) == (result, 0)
    assert result is Result.DONE or outcome.why == (
        "somebody else kept moving it (another process moved an instance of this batch); try again"
    )
    assert len(await office.rows(schema.outbox)) == (1 if result is Result.DONE else 0)
    assert await office.audit() == 1


# -- deadlines -----------------------------------------------------------------------------------------------


async def test_a_moved_deadline_is_the_one_that_is_heeded(office: Office, elsewhere: Database) -> None:
    """Put off, it comes later; revoked, never; in the past, with the next look."""
    patient = work_saga(step("dig", timeout=seconds(30), retry=ONCE, compensation=None), pivot("sign"))
    await office.employ(patient)
    await office.handle(*[office.begun(number) for number in (1, 2, 3)])
    operator = Operator(elsewhere, office.catalog, office.clock)
    start = office.clock.now()
    for number, due in ((1, start + hours(1)), (2, None), (3, start - hours(1))):
        assert (await operator.act(_work(number), _by_bea(Action.RESCHEDULE, "dig", due=due))).result is Result.DONE
    assert {key: row.deadline for key, row in (await office.sagas()).items()} == {
        "1": start + hours(1),
        "2": None,
        "3": start,
    }
    await _let_pass(office, timedelta(minutes=50), until={"1": "running", "2": "running", "3": "compensated"})
    await _let_pass(office, timedelta(minutes=30), until={"1": "compensated", "2": "running", "3": "compensated"})
    assert await office.audit() == 3


async def _let_pass(office: Office, length: timedelta, *, until: dict[str, str]) -> None:
    end = office.clock.now() + length
    async with asyncio.timeout(30):
        while office.clock.now() < end or {k: row.status for k, row in (await office.sagas()).items()} != until:
            office.clock.advance(20)
            await asyncio.sleep(0.003)


# -- another version -----------------------------------------------------------------------------------------


def _noted(data: Work) -> Work:
    return data.told("migrated")


def _same(data: Work) -> Work:
    return data


def _second(old: Saga[Work], convert: Callable[[Work], Work] = _same) -> Saga[Work]:
    """The step is called otherwise, undoes something else, and another one lies before the pivot."""
    return work_saga(
        Step("dig_hole", doing("dig"), compensation=undoing("the hole"), compensation_retry=ONCE),
        step("fill"),
        step("plant"),
        pivot("sign"),
        version=2,
        migrations=(Migration(old, convert, steps={"dig": "dig_hole"}),),
    )


def _to_second() -> PersonActed:
    return _by_bea(Action.MIGRATE, from_version=1, to_version=2)


async def test_a_migrated_instance_goes_on_as_the_new_version(office: Office, elsewhere: Database) -> None:
    """Stuck in the old one, retried in the new one, its participant's answer found; the history folds by versions."""
    old = _saga()
    await office.employ(old)
    await _stuck(office, 1)
    await office.retire()
    await office.employ(old, _second(old, _noted))
    await versions.check(office.database, office.catalog, (), NOON)
    operator = Operator(elsewhere, office.catalog, office.clock)
    outcome = await operator.act(_work(1), _to_second())
    assert (outcome.result, outcome.version, outcome.status, outcome.step) == (Result.DONE, 2, "stuck", "dig_hole")
    await operator.act(_work(1), _by_bea(Action.RETRY))
    await office.relay.sweep()
    assert office.commands()[-1] == ("work.undo", "the hole")
    await office.handle(office.answer(1, "dig", Undone(), direction=UNDO, round=2))

    row = (await office.sagas())["1"]
    assert (row.status, row.version) == ("compensated", 2)
    assert json.loads(row.data)["log"] == ["dig done", "fill refused: no_time", "migrated"]
    assert await office.audit() == 1
    async with elsewhere.reading() as connection:
        (told,) = [each async for each in reading.stream(connection)]
    assert (told.started_version, told.versions()) == (1, (1, 1, 1, 1, 2, 2, 2))
    replayed = replay(told, office.catalog)
    assert (replayed.transitions, replayed.difference) == (7, None)
    assert "no definition of work v1 is loaded here" in str(replay(told, Catalog([_second(old)])).difference)


async def test_a_version_that_nobody_runs_is_no_place_to_go(office: Office, elsewhere: Database) -> None:
    """Not yet deployed, or not the same where the orchestrator runs: the instance would stand still, or worse."""
    old = _saga()
    await office.employ(old)
    await versions.check(office.database, office.catalog, (), NOON)
    await office.handle(office.begun(1))
    await office.retire()
    await office.employ(old, _second(old))
    operator = Operator(elsewhere, office.catalog, office.clock)
    words = "no orchestrator has started with v2 yet, so it would stand still; deploy first"
    assert (await operator.rehearse(_work(1), _to_second())).why == words
    await versions.check(office.database, office.catalog, (), NOON)
    assert (await operator.rehearse(_work(1), _to_second())).result is Result.POSSIBLE

    refusals = [
        (await operator.rehearse(_work(1), other)).why
        for other in (replace(_to_second(), to_version=3), replace(_to_second(), from_version=2))
    ]
    assert refusals == [
        "no definition of work v3 is loaded here; see AMENDS_SAGAS",
        "it is an instance of v1, not of v2",
    ]


async def test_nobody_acts_from_another_definition_than_the_orchestrators(office: Office, elsewhere: Database) -> None:
    """What is decided there would not be what replays here; who accepts the difference says so."""
    await office.employ(_saga())
    await versions.check(office.database, office.catalog, (), NOON)
    await office.handle(office.begun(1))
    other = work_saga(step("dig", timeout=seconds(7)), step("fill"), pivot("sign"), retriable("bill"))
    operator = Operator(elsewhere, Catalog([other]), office.clock)
    assert (await operator.act(_work(1), _by_bea(Action.RETRY))).why == (
        "work v1 is not the same here as where the orchestrator runs: act from a checkout that is, or with "
        "AMENDS_ACCEPT_CHANGED"
    )
    accepting = Operator(elsewhere, Catalog([other]), office.clock, ("work:1",))
    assert (await accepting.act(_work(1), _by_bea(Action.RETRY))).result is Result.DONE


async def test_what_cannot_be_read_is_not_moved(office: Office, elsewhere: Database) -> None:
    """A corrupt row, or a version that is not loaded: the words say which, and what can be done."""
    await office.employ(_saga())
    await office.handle(office.begun(1), office.begun(2))
    async with office.database.transaction() as connection:
        await connection.execute(update(saga_table).where(saga_table.c.key == "1").values(progress="nonsense"))
        await connection.execute(update(saga_table).where(saga_table.c.key == "2").values(version=5))
    operator = Operator(elsewhere, office.catalog, office.clock)
    before = await _tables(office)
    why = (await operator.act(_work(1), _by_bea(Action.RETRY))).why
    assert why.startswith(
        "the state of an instance of Saga('work', version=1) cannot be read: expected ident at line 1"
    )
    assert why.endswith("; deploy a definition of work v1 that reads it and then retry, or abandon it")
    assert (
        await operator.act(_work(2), _by_bea(Action.RETRY))
    ).why == "no definition of work v5 is loaded here; see AMENDS_SAGAS"
    assert await _tables(office) == before


async def test_what_nobody_has_the_definition_of_can_be_abandoned(office: Office, elsewhere: Database) -> None:
    """Its end needs nothing of the definition: only who, why and when; with the definition it folds and replays."""
    await office.employ(_saga())
    await office.handle(office.begun(1))
    await office.handle(office.answer(1, "dig", Done()))
    operator = Operator(elsewhere, Catalog([]), office.clock)
    before = await _tables(office)
    rehearsed = await operator.rehearse(_work(1), _by_bea(Action.ABANDON))
    assert await _tables(office) == before
    assert (rehearsed.result, rehearsed.was, rehearsed.status) == (Result.POSSIBLE, "running", "abandoned")

    done = await operator.act(_work(1), _by_bea(Action.ABANDON), rehearsed.seen)
    assert (done.result, done.was, done.status, done.step) == (Result.DONE, "running", "abandoned", "")
    assert (done.name, done.version, done.key, done.revision) == ("work", 1, "1", 3)
    row = (await office.sagas())["1"]
    assert (row.status, row.step, row.reason, row.revision) == (
        "abandoned",
        "",
        "bea: refund 7731 in the bank's console",
        3,
    )
    assert (row.deadline, row.updated_at) == (None, office.clock.now())
    assert await office.audit() == 1
    async with office.database.reading() as connection:
        told = await reading.recorded(connection, row)
    assert done.transitions == told.transitions[-1:]
    assert replay(told, office.catalog).difference is None
    # What was under way is late.
    await office.handle(office.answer(1, "fill", Done()))
    assert (await office.sagas())["1"].status == "abandoned"

    again = await operator.act(_work(1), _by_bea(Action.ABANDON))
    assert (again.result, again.why) == (Result.REFUSED, "the saga is abandoned; nothing can change it")


async def test_abandoned_without_a_definition_only_as_it_was_shown(office: Office, elsewhere: Database) -> None:
    """Where it has moved since a person saw it, nothing is done."""
    await office.employ(_saga())
    await office.handle(office.begun(1))
    operator = Operator(elsewhere, Catalog([]), office.clock)
    seen = await operator.rehearse(_work(1), _by_bea(Action.ABANDON))
    await office.handle(office.answer(1, "dig", Done()))

    assert (await operator.act(_work(1), _by_bea(Action.ABANDON), seen.seen)).why == (
        "it has moved since it was shown; look at it again"
    )
