"""Removing sagas that ended long ago, on both databases: what goes, what stays, and what the archive holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, select, update

from messaging import bulk, schema
from messaging.archive import Archive, UnreadableArchive, read
from messaging.dead_letters import bury
from messaging.pruning import cutoff
from orchestrator import letters, pruning
from orchestrator.archive import recorded_in
from orchestrator.letters import Decision, State
from orchestrator.pruning import Prunable, Wanted
from orchestrator.replay.reading import stream
from orchestrator.replay.recorded import Recorded
from orchestrator.saga.fingerprint import fingerprint
from orchestrator.saga.state import Direction, saga_id
from orchestrator.schema import (
    collected_letter,
    parked_event,
    saga,
    saga_attribute,
    saga_definition,
    saga_history,
    saga_search,
)
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.letters import collected, dead_letter
from tests.contract.orchestrator.office import Office
from tests.unit.work import Done, Refused, Undone, pivot, step, work_saga

DAY = timedelta(days=1)
LATER = NOON + 40 * DAY


SAGA = work_saga(step("dig"), step("fill"), pivot("sign", timeout=1000 * DAY), search=("id",))


async def _work(office: Office) -> None:
    """Numbers 1 to 3 end at noon (3 compensated), 4 stays at its pivot, 5 is stuck, 6 ends thirty-five days later."""
    await office.employ(SAGA, batch_size=500)
    await office.handle(*[office.begun(number) for number in range(1, 7)])
    await office.handle(*[office.answer(number, "dig", Done()) for number in (1, 2, 3, 4, 6)])
    await office.handle(*[office.answer(number, "fill", Done()) for number in (1, 2, 4, 6)])
    await office.handle(office.answer(3, "fill", Refused()), *[office.answer(n, "sign", Done()) for n in (1, 2)])
    await office.handle(office.answer(3, "dig", Undone(), direction=Direction.COMPENSATION))
    async with office.database.transaction() as connection:
        await connection.execute(update(saga).where(saga.c.key == "5").values(status="stuck", deadline=None))
        await connection.execute(
            update(saga).where(saga.c.key == "6").values(status="completed", deadline=None, updated_at=NOON + 35 * DAY)
        )


async def _recorded(office: Office) -> dict[str, Recorded]:
    async with office.database.reading() as connection:
        return {each.key: each async for each in stream(connection)}


async def _ids(office: Office, column: Any) -> set[UUID]:
    async with office.database.reading() as connection:
        return set((await connection.execute(select(column))).scalars())


def _wanted(name: str | None = None, *, undecided: bool = False) -> Wanted:
    return Wanted(cutoff(30 * DAY, LATER, undecided=undecided), name)


async def test_only_sagas_that_ended_long_ago_go_with_all_that_is_theirs(office: Office) -> None:
    """Running and stuck ones stay however old they are, and so does what ended lately."""
    await _work(office)
    before = await _recorded(office)
    told: list[int] = []
    async with office.database.reading() as connection:
        counted = await pruning.prunable(connection, _wanted("work"))
        assert await pruning.oldest_under_way(connection) == NOON
    done = await pruning.prune(office.database, _wanted("work"), removed=told.append, batch=1)

    gone = sum(len(before[key].transitions) for key in ("1", "2", "3"))
    assert counted == done == Prunable(3, gone, 0, 0, 0, ())
    assert (gone, sum(told)) == (12, 3)
    assert set(await office.sagas()) == {"4", "5", "6"}
    kept = {saga_id("work", number) for number in (4, 5, 6)}
    assert await _ids(office, saga_history.c.saga_id) == kept
    assert await _ids(office, saga_attribute.c.saga_id) == kept
    assert await pruning.prune(office.database, _wanted("work")) == Prunable(0, 0, 0, 0, 0, ())


async def test_an_ended_saga_stays_while_something_waits_for_it(office: Office) -> None:
    """An event that is parked, which could start it a second time; a letter that was sent again and is on its way."""
    await _work(office)
    identities = [saga_id("work", number) for number in (1, 2, 3)]
    await collected(
        office,
        *[
            dead_letter(letter=UUID(int=90 + number), correlation_id=str(each))
            for number, each in enumerate(identities)
        ],
    )
    parked = {
        "saga_id": identities[0],
        "message_id": UUID(int=5),
        "name": "work",
        "type": "work.begun",
        "queue": "depot.in",
        "body": "{}",
        "reason": "no definition of work in its version is loaded here",
        "parked_at": NOON,
        "retry_at": NOON,
    }
    async with office.database.transaction() as connection:
        await bulk.insert(connection, parked_event, tuple(parked), [parked])
        decision = Decision(State.REDRIVEN, "bea", "mended", NOON)
        await letters.decide(connection, letters.COLLECTED, decision, [(UUID(int=91), UUID(int=7))])
    async with office.database.reading() as connection:
        assert (await pruning.prunable(connection, _wanted("work"))).instances == 1
    assert (await pruning.prune(office.database, _wanted("work"), batch=1)).instances == 1
    assert set(await office.sagas()) == {"1", "2", "4", "5", "6"}

    async with office.database.transaction() as connection:
        await connection.execute(delete(parked_event))
        await connection.execute(update(collected_letter).values(state="handled"))
    assert (await pruning.prune(office.database, _wanted("work"))).instances == 2


@pytest.mark.parametrize("written", ["{}", "urn:uuid:{}", "{{{}}}", "{0.hex}", "upper"])
async def test_a_letter_that_is_on_its_way_holds_its_saga_however_its_id_is_written(
    office: Office, written: str
) -> None:
    """The engine takes every way of writing an id; one that it would not take holds nothing."""
    await _work(office)
    held = saga_id("work", 1)
    text = str(held).upper() if written == "upper" else written.format(held)
    strange = ["", "saga-1", str(held)[:-1], f"URN:UUID:{saga_id('work', 2)}", f"{saga_id('work', 2).hex}0"]
    await collected(
        office,
        *(dead_letter(letter=UUID(int=n), correlation_id=each) for n, each in enumerate([text, *strange, None], 1)),
    )
    async with office.database.transaction() as connection:
        await connection.execute(update(collected_letter).values(state="redriven"))
    async with office.database.reading() as connection:
        assert (await pruning.prunable(connection, _wanted("work"))).instances == 2
    seen = {row.id: row.revision for row in (await office.sagas()).values() if row.key in ("1", "2", "3")}
    assert (await pruning._remove(office.database, {held: seen[held]}))[0] == 0
    assert (await pruning.prune(office.database, _wanted("work"))).instances == 2
    assert set(await office.sagas()) == {"1", "4", "5", "6"}


async def test_another_saga_is_left_alone(office: Office) -> None:
    """With a name, only instances of that saga go, and no inbox entry."""
    await _work(office)
    entries = len(await office.statuses())
    assert await pruning.prune(office.database, _wanted("other")) == Prunable(0, 0, 0, 0, 0, ())
    assert len(await office.sagas()) == 6
    assert len(await office.statuses()) == entries
    done = await pruning.prune(office.database, _wanted())
    assert (done.instances, done.inbox) == (3, entries)


async def test_the_archive_holds_what_was_removed_as_a_replay_takes_it(office: Office, tmp_path: Path) -> None:
    """Each removed instance is in it, equal to what was read from the database before, letter by letter."""
    await _work(office)
    before = await _recorded(office)
    archive = Archive(tmp_path, "orchestrator", LATER)
    await pruning.prune(office.database, _wanted("work"), archive)
    assert archive.path is not None
    found = {each.key: each for each in recorded_in(archive.path)}
    assert found == {key: before[key] for key in ("1", "2", "3")}


async def _letters(office: Office) -> None:
    """Six letters of noon: three open (one of them no text), one of each other state; a seventh of yesterday."""
    await collected(
        office,
        *(dead_letter(letter=UUID(int=number)) for number in range(1, 6)),
        dead_letter(letter=UUID(int=6), body=b"\xff\xfe\x00\x01"),
        dead_letter(letter=UUID(int=7), at=LATER - DAY),
    )
    async with office.database.transaction() as connection:
        for number, state in ((3, State.HANDLED), (4, State.DISCARDED), (5, State.REDRIVEN)):
            decision = Decision(state, "ann", "it was a test", NOON + DAY)
            await letters.decide(connection, letters.COLLECTED, decision, [(UUID(int=number), None)])


async def test_collected_letters_go_only_once_they_are_decided(office: Office) -> None:
    """What was handled or discarded; open ones and those sent again are told of and stay."""
    await _letters(office)
    async with office.database.reading() as connection:
        counted = await pruning.prunable(connection, _wanted())
        assert await pruning.undecided(connection, _wanted()) == 4
    assert counted == await pruning.prune(office.database, _wanted()) == Prunable(0, 0, 0, 0, 2, ())
    assert [row.id.int for row in await office.rows(collected_letter)] == [1, 2, 5, 6, 7]


async def test_undecided_letters_of_a_saga_that_has_not_ended_stay_whatever_is_asked_for(office: Office) -> None:
    """The orchestrator's own and the collected; those of ended sagas, of none, and of what is no saga's id go."""
    await _work(office)
    whose = [str(saga_id("work", number)) for number in (1, 4, 5)]
    whose += [f"urn:uuid:{{{saga_id('work', 4).hex.upper()}}}", str(saga_id("work", 99)), "saga-1"]
    told = [
        *(dead_letter(letter=UUID(int=number), correlation_id=each) for number, each in enumerate(whose, 1)),
        dead_letter(letter=UUID(int=7), correlation_id=None),
    ]
    await collected(office, *told)
    async with office.database.transaction() as connection:
        await bury(connection, told)
    async with office.database.reading() as connection:
        counted = await pruning.prunable(connection, _wanted(undecided=True))
        assert await pruning.undecided(connection, _wanted(undecided=True)) == 7
    done = await pruning.prune(office.database, _wanted(undecided=True), batch=2)
    assert (counted.dead_letters, counted.collected_letters) == (done.dead_letters, done.collected_letters) == (4, 4)
    assert [row.id.int for row in await office.rows(collected_letter)] == [2, 3, 4]
    assert sorted(row.letter_id.int for row in await office.rows(schema.dead_letter)) == [2, 3, 4]


async def test_the_orchestrators_own_letters_go_once_they_are_discarded_in_the_collection(office: Office) -> None:
    """There a person decides about them; they lie in its own table too, and go from both."""
    told = [dead_letter(letter=UUID(int=number)) for number in (1, 2)]
    await collected(office, *told)
    async with office.database.transaction() as connection:
        await bury(connection, told)
        decision = Decision(State.DISCARDED, "ann", "it was a test", NOON + DAY)
        await letters.decide(connection, letters.COLLECTED, decision, [(UUID(int=1), None)])
    async with office.database.reading() as connection:
        counted = await pruning.prunable(connection, _wanted())
    assert counted == await pruning.prune(office.database, _wanted()) == Prunable(0, 0, 0, 1, 1, ())
    assert [row.letter_id.int for row in await office.rows(schema.dead_letter)] == [2]


async def test_undecided_letters_go_by_age_when_that_is_asked_for(office: Office, tmp_path: Path) -> None:
    """Every service's, archived first, column by column as they lay there."""
    await _letters(office)
    before = {str(row.id): row for row in await office.rows(collected_letter)}
    async with office.database.reading() as connection:
        counted = await pruning.prunable(connection, _wanted(undecided=True))
    archive, told = Archive(tmp_path, "orchestrator", LATER), list[int]()
    done = await pruning.prune(office.database, _wanted(undecided=True), archive, removed=told.append, batch=2)

    assert counted == done == Prunable(0, 0, 0, 0, 6, ())
    assert sum(told) == 6
    assert [row.id for row in await office.rows(collected_letter)] == [UUID(int=7)]
    assert archive.path is not None
    lines = {line["id"]: line for line in read(archive.path)}
    assert sorted(lines) == [str(UUID(int=number)) for number in range(1, 7)]
    assert {line["kind"] for line in lines.values()} == {"collected_letter"}
    noon = "2026-03-01T12:00:00Z"
    assert [lines[str(UUID(int=6))][name] for name in ("body", "encoding", "at", "state")] == [
        "//4AAQ==",
        "base64",
        noon,
        "open",
    ]
    discarded = lines[str(UUID(int=4))]
    assert (discarded["decided_by"], discarded["decided_why"]) == ("ann", "it was a test")
    assert set(discarded) == {"kind", *before[discarded["id"]]._fields}


async def test_with_a_saga_named_collected_letters_stay(office: Office) -> None:
    """They belong to no one saga."""
    await _letters(office)
    named = _wanted("work", undecided=True)
    assert await pruning.prune(office.database, named) == Prunable(0, 0, 0, 0, 0, ())
    assert len(await office.rows(collected_letter)) == 7


async def test_a_letter_that_has_changed_since_it_was_read_is_left_alone(office: Office) -> None:
    """It has failed once more, or somebody has decided: what is archived is not what would be deleted."""
    await _letters(office)
    seen = {row.id: (row.at, row.state) for row in await office.rows(collected_letter) if row.state == "open"}
    await collected(office, dead_letter(letter=UUID(int=1), at=LATER))
    async with office.database.transaction() as connection:
        decision = Decision(State.DISCARDED, "ann", "", LATER)
        await letters.decide(connection, letters.COLLECTED, decision, [(UUID(int=2), None)])

    assert await pruning._remove_letters(office.database, seen) == 2
    assert [row.id.int for row in await office.rows(collected_letter)] == [1, 2, 3, 4, 5]


class _Killed(Exception):
    pass


class _Dying(Archive):
    """An archive that is on the disk, and then the process is not there any more."""

    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        super().append(lines)
        if lines:
            raise _Killed


async def test_killed_between_archiving_and_deleting_nothing_is_lost_and_the_next_run_finishes(
    office: Office, tmp_path: Path
) -> None:
    """What was archived is still in the database, and is archived and removed by the next run."""
    await _work(office)
    before = await _recorded(office)
    with pytest.raises(_Killed):
        await pruning.prune(office.database, _wanted("work"), _Dying(tmp_path / "a", "orchestrator", LATER), batch=1)
    assert await _recorded(office) == before
    archive = Archive(tmp_path / "b", "orchestrator", LATER)
    done = await pruning.prune(office.database, _wanted("work"), archive, batch=1)
    assert done.instances == 3
    assert archive.path is not None
    assert sorted(each.key for each in recorded_in(archive.path)) == ["1", "2", "3"]


async def test_an_instance_that_has_moved_since_it_was_read_is_left_alone(office: Office) -> None:
    """A late answer between reading and deleting: the revision tells, and its history stays whole."""
    await _work(office)
    before = await _recorded(office)
    mine = {saga_id("work", number): len(before[str(number)].transitions) for number in (1, 2)}
    await office.handle(office.answer(1, "sign", Done()))
    assert await pruning._remove(office.database, mine) == (1, mine[saga_id("work", 2)])
    after = await _recorded(office)
    assert set(after) == {"1", "3", "4", "5", "6"}
    assert len(after["1"].transitions) == mine[saga_id("work", 1)] + 1


async def test_definitions_go_that_are_old_replaced_and_used_by_no_instance(office: Office) -> None:
    """The newest version stays, and so does one that an instance has or that is young."""
    rows = [
        {
            "name": name,
            "version": version,
            "fingerprint": fingerprint(SAGA),
            "description": "{}",
            "seen_at": NOON + days * DAY,
        }
        for name, version, days in (
            ("work", 1, 0),
            ("work", 2, 0),
            ("work", 3, 0),
            ("old", 1, 0),
            ("old", 2, 20),
            ("old", 3, 20),
        )
    ]
    names = ("saga", "version", "attribute", "indexed_at")
    async with office.database.transaction() as connection:
        await bulk.insert(connection, saga_definition, tuple(rows[0]), rows)
        await bulk.insert(
            connection,
            saga_search,
            names,
            [{"saga": "work", "version": number, "attribute": "id", "indexed_at": NOON} for number in (1, 2)],
        )
    await _work(office)
    done = await pruning.prune(office.database, _wanted())
    assert done.definitions == ("old v1", "work v2")
    async with office.database.reading() as connection:
        left = (await connection.execute(select(saga_definition.c.name, saga_definition.c.version))).all()
        searched = (await connection.execute(select(saga_search.c.version))).scalars().all()
    assert sorted(tuple(row) for row in left) == [("old", 2), ("old", 3), ("work", 1), ("work", 3)]
    assert searched == [1]


def test_an_archive_of_another_format_is_refused(tmp_path: Path) -> None:
    """It says which line, and what this version reads."""
    archive = Archive(tmp_path, "orchestrator", NOON)
    archive.append([{"kind": "dead_letter"}, {"kind": "saga", "format": 9}])
    assert archive.path is not None
    with pytest.raises(UnreadableArchive, match=r"line 2: format 9; this version of Amends reads 1"):
        list(recorded_in(archive.path))
    archive.append([{"kind": "saga", "format": 1, "recorded": {"id": "x"}}])
    other = Archive(tmp_path / "other", "orchestrator", NOON)
    other.append([{"kind": "saga", "format": 1, "recorded": {"id": "x"}}])
    assert other.path is not None
    with pytest.raises(UnreadableArchive, match=r"line 1: id: expected a UUID, found \"x\""):
        list(recorded_in(other.path))
