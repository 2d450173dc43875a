"""What `amends watch` sees, on both databases, and that it outlives the database's absence."""

from __future__ import annotations

import asyncio
import io
from datetime import timedelta
from uuid import UUID

import pytest
from rich.console import Console
from sqlalchemy import insert

from messaging import deferred, schema
from messaging.database import Database
from messaging.deferred import DeferredRow
from orchestrator import letters
from orchestrator.cli.opening import Output
from orchestrator.cli.watching import _All, _follow, _Screen
from orchestrator.letters import Decision, State
from orchestrator.watching import Pile, Rates, rates, snapshot
from tests.contract.messaging.bench import NOON, row, until
from tests.contract.orchestrator.conftest import make_tables
from tests.contract.orchestrator.letters import collected, dead_letter
from tests.contract.orchestrator.office import Office
from tests.contract.orchestrator.records import store
from tests.contract.proxy import Proxy
from tests.unit.begun import RecordedPlay
from tests.unit.work import Approved, Done, Undone, pivot, step, work_saga


def _after(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


async def test_a_look_counts_what_there_is_and_names_who_waits_longest(office: Office) -> None:
    """Numbers by saga and status, passed deadlines, the oldest under way, the stuck, and each pile with its age."""
    saga = work_saga(step("dig", timeout=_after(30)), pivot("sign"))
    plays = [RecordedPlay(saga, number) for number in range(1, 6)]
    plays[0].at(1).answer("dig", Done())
    plays[0].at(2).answer("sign", Done())
    plays[1].at(5).answer("dig", Done())
    plays[2].at(3).answer("dig", Undone())  # no answer that its contract knows
    other = RecordedPlay(work_saga(step("dig", timeout=_after(1000)), pivot("sign"), name="other"), 1)
    await store(office.database, [*(each.recorded for each in plays), other.recorded])
    await office.commit_rows([row(1), row(2)])
    waits = DeferredRow(UUID(int=1), "q", "parcel.pack", None, "{}", NOON + _after(40), NOON + _after(90), 1, "")
    async with office.database.transaction() as connection:
        await deferred.put_off(connection, "depot", [waits])
    await collected(
        office, *(dead_letter(letter=UUID(int=number), at=NOON + _after(40 + number)) for number in range(1, 5))
    )
    async with office.database.transaction() as connection:
        for number, state in ((1, State.DISCARDED), (2, State.REDRIVEN)):
            decision = Decision(state, "ann", "", NOON + _after(55))
            await letters.decide(connection, letters.COLLECTED, decision, [(UUID(int=number), None)])
    await office.employ(saga)
    async with office.database.reading() as connection:
        seen = await snapshot(connection, NOON + _after(60))

    assert seen.sagas == {"other": {"running": 1}, "work": {"completed": 1, "running": 3, "stuck": 1}}
    assert (seen.number(), seen.under_way, seen.number("stuck")) == (6, 4, 1)
    # Begun at noon with thirty seconds: two of them are not answered yet, one waits at its pivot since second five.
    assert seen.overdue == 3
    assert [(each.name, each.key) for each in seen.waiting][-1] == ("work", "2")
    assert {(each.name, each.key) for each in seen.waiting[:3]} == {("work", "4"), ("work", "5"), ("other", "1")}
    assert [(each.key, each.reason) for each in seen.stuck] == [
        ("3", "dig was answered with work.undone, which its contract does not allow there")
    ]
    assert seen.outbox == Pile(2, 60.0)
    assert seen.deferred == Pile(1, 20.0)
    assert seen.parked == Pile(0, None)
    # The first is discarded, the second sent again: two wait for a person, the older for 17 seconds.
    assert seen.dead_letters == Pile(2, 17.0)


async def test_rates_are_what_has_changed_between_two_looks(office: Office) -> None:
    """Starts and ends a second; sagas that were pruned meanwhile make no negative rate."""
    saga = work_saga(step("dig"), pivot("sign"))
    async with office.database.reading() as connection:
        before = await snapshot(connection, NOON)
    done = RecordedPlay(saga, 1)
    done.answer("dig", Done())
    done.answer("sign", Done())
    await store(office.database, [done.recorded, RecordedPlay(saga, 2).recorded, RecordedPlay(saga, 3).recorded])
    async with office.database.reading() as connection:
        after = await snapshot(connection, NOON + _after(2))
    assert rates(before, after) == Rates(started=1.5, ended=0.5)
    assert rates(before, before) is None
    assert rates(after, before) is None


async def test_an_early_event_is_a_pile_of_its_own(office: Office) -> None:
    """A parked event is counted with its age."""
    await office.employ(work_saga(step("dig"), pivot("sign")))
    async with office.database.transaction() as connection:
        await connection.execute(
            insert(schema.inbox),
            {"message_id": UUID(int=99), "consumer": "x", "status": "done", "received_at": NOON},
        )
    await office.handle(office.answer(1, "dig", Done()))
    async with office.database.reading() as connection:
        seen = await snapshot(connection, NOON + _after(7))
    assert seen.parked == Pile(1, 7.0)
    assert Approved.wire_type == "work.approved"


async def test_watching_outlives_the_absence_of_the_database(
    postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the database is away it says so once, and goes on when it is back."""
    async with Proxy(postgres_url) as proxy:
        database = Database(proxy.url)
        await make_tables(database)
        seen = io.StringIO()
        complaints: list[str] = []

        def complained(words: str) -> bool:
            complaints.append(capsys.readouterr().err)
            return words in "".join(complaints)

        with _Screen(Console(file=seen, width=250)) as screen:
            watched = _All(screen, Output.TABLE)
            watching = asyncio.create_task(_follow(database, watched, _after(0.02), None, until_ended=False))
            await until(lambda: "running=0" in seen.getvalue(), "it has looked")
            await proxy.refuse()
            await until(lambda: complained("amends: the database does not answer ("), "it says so")
            lines = seen.getvalue().count("\n")
            await proxy.listen()
            await until(lambda: complained("amends: the database is back"), "it says that it is back")
            await until(lambda: seen.getvalue().count("\n") > lines, "it goes on")
            watching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await watching
        await database.close()
    assert "".join(complaints).count("does not answer") == 1
