"""What was drafted of a lone event is written where the rows that were read are what was expected, and only there."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import namedtuple
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import pytest
import structlog

from contracts.message import Event
from messaging.consumer import Batch
from messaging.envelope import Envelope
from messaging.logging import configured_meanwhile
from messaging.received import Received
from messaging.work import Work
from orchestrator import PIVOT, Saga, Step
from orchestrator.catalog import Catalog
from orchestrator.engine import Engine
from orchestrator.instance import COLUMNS
from orchestrator.saga.fingerprint import fingerprint
from orchestrator.saga.state import Direction, command_id, saga_id
from orchestrator.sharding import ALONE
from tests.unit.work import Approved, Begun, Done, Refused, Withdrawn, approval, cancel_on_withdrawal, doing, step
from tests.unit.work import Work as Data
from tests.unit.work import work_saga as saga_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLACE, ELSEWHERE = (f"00-{trace * 32}-{'2' * 16}-01" for trace in "13")
ID = saga_id("work", 1)
Tables = Mapping[str, list[dict[str, Any]]]
"""What lies in each table, or is read from it."""


class _Uncompared(list[Any]):
    """What is equal to every other, for it is looked at by itself."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Uncompared)


def _breaks(data: Data, event: Done) -> Data:
    """What cannot be stored, or nothing at all."""
    if event.note == "!":
        return data.model_copy(update={"log": object()})
    raise RuntimeError("it never works")


def _sagas() -> list[Saga[Data]]:
    return [
        saga_of(
            step("dig"),
            step("fill", on_success=_breaks),
            approval(),
            Step("sign", doing("sign"), kind=PIVOT),
            cancel_on=cancel_on_withdrawal(),
            search=("id",),
            version=version,
        )
        for version in (1, 2)
    ]


SAGAS = _sagas()
CATALOG = Catalog(SAGAS)
FINGERPRINT = fingerprint(SAGAS[1])


def _received(event: Event, step: str | None = None, place: str | None = None) -> Received:
    cause = None if step is None else str(command_id(ID, step, Direction.ACTION, 1))
    envelope = Envelope(UUID(int=5), event.wire_type, 1, "worker", NOON, str(ID), cause, traceparent=place)
    return Received(envelope, event, {}, "{}", "orchestrator.events")


def _read(work: Work, tables: Tables) -> None:
    """Have what the work asks for come as these rows."""
    given, work.writes._given = work.writes._given, []
    tables = {"saga_shard": [{"number": ALONE.number, "shards": ALONE.shards}], **tables}
    for plan, _, outcome in given:
        shape: Any = plan._shape
        kind: Any = namedtuple("Row", [name for name, _ in shape.returned])  # type: ignore[misc]  # noqa: PYI024
        outcome.rows = [kind(*map(row.get, kind._fields)) for row in tables.get(shape.where.table.name, ())]
        outcome.waits = False


async def _does(
    engine: Engine, received: Received, tables: Tables, *, foreseen: bool, now: datetime = NOON
) -> dict[str, Any]:
    """All that an engine hands to be written of a message, where it reads these rows."""
    work = Work(Mock(), now, "orchestrator", "orchestrator")
    act = engine.begin(work, [received], [])
    if foreseen:
        await asyncio.sleep(0)  # until which the loop has had its turn
    _read(work, tables)
    await act(work, Batch([received]))
    after_commit: list[Any] = [*work.after_commit]
    return {
        "written": [(plan, rows) for plan, rows, _ in work.writes._given],
        "guarded": [outcome.guard for _, _, outcome in work.writes._given],
        "looked at": [len(outcomes) for _, outcomes in work._checks],
        "sent": work.sends,
        "settled": work.settled,
        "causes": work.causes,
        "wake at": work.wake_at,
        "letters": work._letters,
        "kept": [each.args[0] for each in after_commit if each.args[0] != "saga_moved"],
        "after commit": _Uncompared(after_commit),
    }


async def _started(
    *answers: str, place: str | None = PLACE, answered_in: str | None = None
) -> tuple[Engine, dict[str, Any]]:
    """An engine that has started an instance, and been answered, from these traces, and the instance's row."""
    engine, row = Engine(CATALOG), None
    inputs = [_received(Begun(id=1), place=place)]
    inputs += [_received(Done(note="deep"), each, answered_in) for each in answers]
    for received in inputs:
        work = Work(Mock(), NOON, "orchestrator", "orchestrator")
        act = engine.begin(work, [received], [])
        _read(work, {"saga": [] if row is None else [row]})
        with structlog.testing.capture_logs():  # to write them takes longer than all else here
            await act(work, Batch([received]))
        for plan, rows, _ in work.writes._given:
            shape: Any = plan._shape
            if getattr(shape, "table", None) is None or shape.table.name != "saga":
                continue
            if row is None:
                row = dict(zip(COLUMNS, rows[0], strict=True)) | {"fingerprint": FINGERPRINT}
            else:
                names = (*shape.keys, *shape.columns, "next")
                row |= dict(zip(names, rows[0], strict=True)) | {"revision": rows[0][-1]}
        with structlog.testing.capture_logs():
            for act_now in work.after_commit:
                act_now()
    assert row is not None
    return engine, row


PARKED = {
    "id": 7,
    "saga_id": ID,
    "message_id": UUID(int=9),
    "name": "work",
    "type": "work.approved",
    "queue": "q",
    "body": "{}",
    "reason": "early",
    "parked_at": NOON,
    "retry_at": NOON + timedelta(days=1),
}
CHANGES: dict[str, dict[str, Any]] = {
    "moved by another": {"revision": 9},
    "stuck": {"status": "stuck"},
    "ended": {"status": "abandoned"},
    "of another version": {"version": 1, "fingerprint": None},
    "of a version unknown here": {"version": 7},
    "torn": {"progress": "{"},
    "of other data": {"data": '{"id":1,"log":["by hand"]}'},
    "the same data, written otherwise": {"data": '{"id": 1, "log": []}'},
    "for another reason": {"reason": "somebody says so"},
    "at another step": {"step": "elsewhere"},
    "with another key": {"key": "2"},
    "moved a moment ahead": {"updated_at": NOON + timedelta(seconds=3)},
    "moved far ahead": {"updated_at": NOON + timedelta(hours=3)},
    "started at another time": {"started_at": NOON - timedelta(days=1)},
    "in another trace": {"traceparent": ELSEWHERE},
    "in no trace": {"traceparent": None},
}
MESSAGES: dict[str, Callable[[], Received]] = {
    "answer": lambda: _received(Done(note="!"), "dig", PLACE),
    "answer of another trace": lambda: _received(Done(), "dig", ELSEWHERE),
    "refusal": lambda: _received(Refused(), "dig"),
    "answer to nothing": lambda: _received(Done(), "nothing"),
    "answer without a cause": lambda: _received(Done()),
    "what breaks": lambda: _received(Done(), "fill"),
    "what cannot be stored": lambda: _received(Done(note="!"), "fill"),
    "early": lambda: _received(Approved(id=1)),
    "withdrawal": lambda: _received(Withdrawn(id=1)),
    "second start": lambda: _received(Begun(id=1)),
}


@pytest.mark.parametrize("answers", [(), ("dig",)], ids=["begun", "once answered"])
@pytest.mark.parametrize("message", MESSAGES)
async def test_whatever_is_read_the_same_is_written(message: str, answers: tuple[str, ...]) -> None:
    """What was expected, or a row that was changed in whatever way meanwhile: as if nothing had been foreseen."""
    _, row = await _started(*answers)
    found: list[Tables] = [{"saga": [row | change]} for change in ({}, {"fingerprint": None}, *CHANGES.values())]
    found += [{}, {"saga": [row], "parked_event": [PARKED]}, {"parked_event": [PARKED]}]
    for tables in found:
        received = MESSAGES[message]()
        one, other = (await _started(*answers))[0], Engine(CATALOG)  # which remembers nothing
        results = []
        for engine, foreseen in ((one, True), (other, False)):
            with structlog.testing.capture_logs() as told:
                does = await _does(engine, received, tables, foreseen=foreseen)
                for act_now in does["after commit"]:
                    act_now()
            results.append((does, told))
        assert results[0] == results[1], tables


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """Events that a definition's own function has been asked about."""
    asked: list[Event] = []
    told = Data.told

    def tell(data: Data, what: str) -> Data:
        asked.append(Done(note=what))
        return told(data, what)

    monkeypatch.setattr(Data, "told", tell)
    return asked


async def test_what_was_expected_is_decided_once(decided: list[Event]) -> None:
    """Before the rows have come, and not again: also where no fingerprint is written down."""
    for fingerprints in ({}, {"fingerprint": None}):
        engine, row = await _started()
        decided.clear()
        received = _received(Done(), "dig")
        assert await _does(engine, received, {"saga": [row | fingerprints]}, foreseen=True)
        assert len(decided) == 1


async def test_what_began_in_no_trace_is_decided_once(decided: list[Event]) -> None:
    """Also where its answers come from one: its row, which says where its trace began, says so of none of them."""
    for place in (PLACE, ELSEWHERE):
        engine, row = await _started("dig", place=None, answered_in=PLACE)
        decided.clear()
        does = await _does(engine, _received(Refused(), "fill", place), {"saga": [row]}, foreseen=True)
        assert len(decided) == 1
        assert [json.loads(each.body)["traceparent"] for each in does["sent"]] == [place]


async def test_of_a_batch_that_is_over_nothing_is_foreseen(decided: list[Event]) -> None:
    """As where the database was gone when its statement was to be sent."""
    engine, _ = await _started()
    decided.clear()
    work = Work(Mock(), NOON, "orchestrator", "orchestrator")
    engine.begin(work, [_received(Done(), "dig")], [])
    await work.close()
    await asyncio.sleep(0)
    assert decided == []


@pytest.mark.parametrize("change", CHANGES)
async def test_a_row_that_says_anything_else_is_decided_anew(change: str, decided: list[Event]) -> None:
    """Whatever it is: a definition is asked once more than where nothing was foreseen."""
    asked = []
    for foreseen in (False, True):
        engine, row = await _started()
        await asyncio.sleep(0)  # what was looked for in vain until now
        decided.clear()
        await _does(engine, _received(Done(), "dig"), {"saga": [row | CHANGES[change]]}, foreseen=foreseen)
        asked.append(len(decided))
    assert asked[1] == asked[0] + 1


@pytest.mark.parametrize("change", [{}, {"revision": 9}], ids=["expected", "another row"])
async def test_of_a_transition_somebody_is_told_once(change: dict[str, Any]) -> None:
    """Where a process logs transitions: of what was only foreseen nobody hears, of what was drafted when it is done."""
    engine, row = await _started()
    with structlog.testing.capture_logs() as told:
        does = await _does(engine, _received(Done(), "dig"), {"saga": [row | change]}, foreseen=True)
        told_before = len(told)
        for act_now in does["after commit"]:
            act_now()
    assert [(each["event"], each["step"]) for each in told] == [("saga_moved", ("fill",))]
    assert told_before == (1 if change else 0)


async def test_whoever_begins_to_listen_is_told_of_the_next_transition() -> None:
    """With loggers of the standard library's, whose level may be changed while a process runs."""
    logger = logging.getLogger("tests.heard")
    with configured_meanwhile():
        structlog.configure(wrapper_class=structlog.stdlib.BoundLogger, logger_factory=lambda *_: logger)
        for level, tells in ((logging.INFO, []), (logging.DEBUG, ["saga_moved"])):
            logger.setLevel(level)
            with structlog.testing.capture_logs() as told:
                await _does(Engine(CATALOG), _received(Begun(id=1)), {}, foreseen=False)
            assert [each["event"] for each in told] == tells


async def test_a_clock_that_was_set_back_is_told_of_once() -> None:
    """By whoever decides in earnest; where it is, nothing is foreseen."""
    for change in ({}, {"revision": 9}):
        engine, row = await _started()
        with structlog.testing.capture_logs() as told:
            earlier = NOON - timedelta(hours=1)
            await _does(engine, _received(Done(), "dig"), {"saga": [row | change]}, foreseen=True, now=earlier)
        assert [each["event"] for each in told if each["event"] != "saga_moved"] == ["clock_behind"]


async def test_of_another_message_nothing_was_foreseen(decided: list[Event]) -> None:
    """Also where it looks the same: each is folded as it came."""
    engine, row = await _started()
    decided.clear()
    work = Work(Mock(), NOON, "orchestrator", "orchestrator")
    act = engine.begin(work, [_received(Done(note="!"), "dig")], [])
    await asyncio.sleep(0)
    _read(work, {"saga": [row]})
    await act(work, Batch([_received(Done(), "dig")]))
    assert decided == [Done(note="dig done!"), Done(note="dig done")]


OTHERS: dict[str, tuple[Callable[[], Received], Tables]] = {
    "definition": (MESSAGES["answer"], {"saga": [{"fingerprint": "another"}]}),
    "definition of what is started": (
        lambda: _received(Begun(id=1)),
        {"saga_definition": [{"name": "work", "version": 2, "fingerprint": "another"}]},
    ),
    "shard": (MESSAGES["answer"], {"saga": [{}], "saga_shard": [{"number": 1, "shards": 4}]}),
    "shard, where nothing is there yet": (
        lambda: _received(Begun(id=1)),
        {"saga_shard": [{"number": 1, "shards": 4}]},
    ),
}


@pytest.mark.parametrize("what", OTHERS)
async def test_where_process_and_database_differ_nothing_is_written(what: str) -> None:
    """By another definition, or of another shard: whatever was foreseen, it is looked into, and the process ends."""
    message, tables = OTHERS[what]
    engine, row = await _started() if "saga" in tables else (Engine(CATALOG), {})
    read = {name: [row | each for each in rows] if name == "saga" else rows for name, rows in tables.items()}
    with pytest.raises(TypeError, match="await"):  # it asks the database, which is none here
        await _does(engine, message(), read, foreseen=True)
