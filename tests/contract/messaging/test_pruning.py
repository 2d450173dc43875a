"""What a service's `prune` removes, keeps and archives, on both databases."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from messaging import inbox, pruning, schema
from messaging.archive import Archive, ArchiveFailed, TornArchive, UnreadableArchive, read
from messaging.database import Database
from messaging.dead_letters import DeadLetter, bury
from messaging.inbox import Status
from messaging.participant import Participant
from messaging.pruning import Prunable
from tests.contract.messaging.bench import NOON, Bench
from tests.contract.messaging.parcels import Pack, Packed, Refused, Unpack, done, note, packer

DAY = timedelta(days=1)


def _letter(number: int, days_ago: int, body: bytes = b"{}") -> DeadLetter:
    return DeadLetter(
        letter_id=UUID(int=number),
        service="depot",
        queue="depot.in",
        reason="invalid",
        error="no data",
        message_id=str(UUID(int=number)),
        type="parcel.pack",
        correlation_id=None,
        exchange="",
        routing_key="parcel.pack",
        properties="{}",
        body=body,
        attempts=0,
        at=NOON - days_ago * DAY,
    )


async def _bury(bench: Bench, *letters: DeadLetter, state: str = "discarded") -> None:
    """Dead letters that came into this state."""
    async with bench.database.transaction() as connection:
        await bury(connection, letters)
        mine = schema.dead_letter.c.letter_id.in_([each.letter_id for each in letters])
        await connection.execute(schema.dead_letter.update().where(mine).values(state=state))


async def _entry(bench: Bench, number: int, days_ago: int, status: Status = Status.DONE) -> None:
    async with bench.database.transaction() as connection:
        await inbox.claim(connection, "depot", [UUID(int=number)], NOON - days_ago * DAY, status)


async def test_old_inbox_entries_go_and_what_may_still_come_again_stays(bench: Bench) -> None:
    """Settled entries older than the age go; young ones and those that wait in `deferred` stay, however old."""
    for number, (days, status) in enumerate(
        [
            (31, Status.DONE),
            (31, Status.TOMBSTONE),
            (31, Status.FAILED),
            (31, Status.DEFERRED),
            (31, Status.STARTED),
            (29, Status.DONE),
        ],
        1,
    ):
        await _entry(bench, number, days, status)
    cut = pruning.cutoff(30 * DAY, NOON)
    async with bench.database.reading() as connection:
        assert await pruning.prunable(connection, cut) == Prunable(3, 0)
    assert await pruning.prune(bench.database, cut) == Prunable(3, 0)
    assert await bench.statuses() == {4: "deferred", 5: "started", 6: "done"}
    assert await pruning.prune(bench.database, cut) == Prunable(0, 0)


async def test_inbox_entries_live_a_week_whatever_is_asked_for(bench: Bench) -> None:
    """An age of an hour removes dead letters of that age, and no inbox entry younger than seven days."""
    await _entry(bench, 1, 8)
    await _entry(bench, 2, 6)
    await _bury(bench, _letter(3, 1), _letter(4, 0))
    done = await pruning.prune(bench.database, pruning.cutoff(timedelta(hours=1), NOON))
    assert done == Prunable(inbox=1, dead_letters=1)
    assert await bench.statuses() == {2: "done"}
    assert await bench.letters() == [("invalid", str(UUID(int=4)))]


async def test_dead_letters_that_nobody_has_decided_about_go_only_when_that_is_asked_for(bench: Bench) -> None:
    """Open ones and those sent again are told of and stay; asked for, they go by age."""
    await _bury(bench, _letter(1, 31), _letter(2, 3), state="open")
    await _bury(bench, _letter(3, 31), state="redriven")
    await _bury(bench, _letter(4, 31))
    cut, asked = pruning.cutoff(30 * DAY, NOON), pruning.cutoff(30 * DAY, NOON, undecided=True)
    async with bench.database.reading() as connection:
        assert await pruning.prunable(connection, cut) == Prunable(0, 1)
        assert await pruning.undecided(connection, cut) == 2
    assert await pruning.prune(bench.database, cut) == Prunable(0, 1)
    assert {row.letter_id.int for row in await bench.rows(schema.dead_letter)} == {1, 2, 3}

    async with bench.database.reading() as connection:
        assert await pruning.prunable(connection, asked) == Prunable(0, 2)
    assert await pruning.prune(bench.database, asked) == Prunable(0, 2)
    assert {row.letter_id.int for row in await bench.rows(schema.dead_letter)} == {2}


class _Deciding(Archive):
    """While it writes, somebody decides otherwise about the first letter."""

    def __init__(self, directory: Path, database: Path) -> None:
        super().__init__(directory, "depot", NOON)
        self._database = database

    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        super().append(lines)
        with closing(sqlite3.connect(self._database)) as other, other:
            other.execute("UPDATE dead_letter SET state = 'redriven' WHERE message_id = ?", (str(UUID(int=1)),))


async def test_a_letter_about_which_somebody_decides_meanwhile_stays(tmp_path: Path) -> None:
    """Sent again between reading and deleting, it is no discarded one any more."""
    database = Database(f"sqlite:///{tmp_path / 'depot.db'}")
    async with database.transaction() as connection:
        await connection.run_sync(schema.metadata.create_all)
    bench = Bench(database)
    await _bury(bench, _letter(1, 31), _letter(2, 31))
    archive = _Deciding(tmp_path / "kept", tmp_path / "depot.db")
    assert await pruning.prune(database, pruning.cutoff(30 * DAY, NOON), archive) == Prunable(0, 1)
    assert [(row.letter_id.int, row.state) for row in await bench.rows(schema.dead_letter)] == [(1, "redriven")]
    await bench.close()


async def test_it_goes_batch_by_batch(bench: Bench) -> None:
    """Each batch is told of, and none is larger than asked for."""
    for number in range(1, 6):
        await _entry(bench, number, 31)
    told: list[int] = []
    done = await pruning.prune(bench.database, pruning.cutoff(30 * DAY, NOON), removed=told.append, batch=2)
    assert done == Prunable(5, 0)
    assert told == [0, 2, 2, 1]


async def test_dead_letters_are_archived_whole_before_they_go(bench: Bench, tmp_path: Path) -> None:
    """Every column and byte of them is a line of the archive; the body as base64."""
    await _bury(bench, _letter(1, 40, b"\xff\x00"), _letter(2, 31), _letter(3, 3))
    archive = Archive(tmp_path / "kept", "depot", NOON)
    assert await pruning.prune(bench.database, pruning.cutoff(30 * DAY, NOON), archive) == Prunable(0, 2)
    assert archive.path == tmp_path / "kept" / "depot-20260301T120000Z.jsonl.gz"
    first, second = read(archive.path)
    assert first["kind"] == "dead_letter"
    assert first["body_base64"] == "/wA="
    assert first["at"] == "2026-01-20T12:00:00Z"
    assert first.keys() == {"kind", "body_base64"} | {column.name for column in schema.dead_letter.c} - {"body"}
    assert second["message_id"] == str(UUID(int=2))
    assert await bench.letters() == [("invalid", str(UUID(int=3)))]


async def test_nothing_goes_that_could_not_be_archived(bench: Bench, tmp_path: Path) -> None:
    """A directory that is a file is told in one line, and the letter is still there."""
    (tmp_path / "kept").write_text("a file")
    await _bury(bench, _letter(1, 31))
    with pytest.raises(ArchiveFailed, match=r"kept cannot be written: File exists"):
        await pruning.prune(bench.database, pruning.cutoff(DAY, NOON), Archive(tmp_path / "kept", "depot", NOON))
    assert await bench.letters() == [("invalid", str(UUID(int=1)))]


def test_a_torn_archive_is_read_up_to_its_torn_end(tmp_path: Path) -> None:
    """Whatever byte a kill cut it at, the lines of the members before are all there, and that it is torn is told."""
    archive = Archive(tmp_path, "depot", NOON)
    archive.append([{"n": 1}, {"n": 2}])
    assert archive.path is not None
    whole = archive.path.read_bytes()
    archive.append([{"n": 3}])
    both = archive.path.read_bytes()
    torn = tmp_path / "torn.jsonl.gz"
    for end in range(len(whole), len(both)):
        torn.write_bytes(both[:end])
        found: list[int] = []
        with (
            nullcontext() if end == len(whole) else pytest.raises(TornArchive, match=r"ends in the middle, after line")
        ):
            found.extend(line["n"] for line in read(torn))
        assert found in ([1, 2], [1, 2, 3]), end
    assert [line["n"] for line in read(archive.path)] == [1, 2, 3]


def test_two_runs_in_one_second_write_two_archives(tmp_path: Path) -> None:
    """No archive is ever written over."""
    paths = []
    for number in range(2):
        archive = Archive(tmp_path, "depot", NOON)
        archive.append([{"n": number}])
        paths.append(archive.path)
    assert [path.name for path in paths if path] == [
        "depot-20260301T120000Z.jsonl.gz",
        "depot-20260301T120000Z-1.jsonl.gz",
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"plain text", "other.gz is no archive: it is not compressed with gzip"),
        (b"", "other.gz ends before its first line"),
        (
            gzip.compress(b'{"n": 1}\n') + b"\x1f\x8b\x08damaged",
            "other.gz is damaged: what comes after its line 1 cannot",
        ),
        (gzip.compress(b'{"n": 1}\n[2]\n'), "line 2: no JSON object"),
        (gzip.compress(b'{"n": 1}\nnot json\n'), "line 2: no JSON: Expecting value"),
    ],
    # What is compressed says when: as names of tests, two processes would not agree on it.
    ids=["text", "nothing", "damaged", "no object", "no JSON"],
)
def test_what_is_no_archive_is_called_that(tmp_path: Path, content: bytes, says: str) -> None:
    """One line that says which file, where and why."""
    path = tmp_path / "other.gz"
    path.write_bytes(content)
    with pytest.raises(UnreadableArchive, match=says):
        list(read(path))


async def _prune(bench: Bench) -> int:
    """As a nightly prune does with the least age that it takes; returns how many inbox entries went."""
    cut = pruning.cutoff(7 * DAY, bench.clock.now())
    return (await pruning.prune(bench.database, cut)).inbox


async def test_a_command_that_is_repeated_for_longer_than_entries_live_runs_once(bench: Bench) -> None:
    """Each repetition that is answered from the inbox makes its entry young again."""
    await bench.serve(packer())
    command = bench.delivery(Pack(parcel="p1"), id=UUID(int=7))
    for _ in range(4):
        await bench.handle(replace(command, tag=bench.bus.tag()))
        bench.clock.advance(6 * DAY.total_seconds())
        assert await _prune(bench) == 0
    await bench.flush()

    assert await done(bench.database) == [("p1", "packed")]
    assert len(bench.bus.sent("parcel.packed")) == 4


async def test_a_command_that_was_undone_first_stays_dropped_for_as_long_as_it_is_repeated(bench: Bench) -> None:
    """Its tombstone becomes young again too."""
    await bench.serve(packer())
    undo = bench.delivery(Unpack(parcel="p1"), id=UUID(int=8), compensates=UUID(int=7))
    await bench.handle(undo)
    command = bench.delivery(Pack(parcel="p1"), id=UUID(int=7))
    for _ in range(4):
        bench.clock.advance(6 * DAY.total_seconds())
        await bench.handle(replace(command, tag=bench.bus.tag()))
        await _prune(bench)

    assert await done(bench.database) == [("p1", "unpacked")]


async def test_a_command_that_is_handled_after_days_of_failing_is_remembered_from_then_on(bench: Bench) -> None:
    """An old failure's entry becomes that of a young answer."""
    participant = Participant("depot")
    broken = True

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        if broken:
            raise ValueError("no shelf")
        await note(db, command.parcel, "packed")
        return Packed(parcel=command.parcel)

    await bench.serve(participant)
    command = bench.delivery(Pack(parcel="p1"), id=UUID(int=7))
    await bench.handle(command)
    broken = False
    bench.clock.advance(6 * DAY.total_seconds())
    await bench.handle(replace(command, tag=bench.bus.tag()))
    bench.clock.advance(2 * DAY.total_seconds())

    assert await _prune(bench) == 0
    await bench.handle(replace(command, tag=bench.bus.tag()))
    assert await done(bench.database) == [("p1", "packed")]
