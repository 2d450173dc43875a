"""Replaying one instance: what means the same is the same, and what differs is told for what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from contracts.message import Command
from contracts.registry import Registry
from orchestrator import PIVOT, Delay, Migration, Parallel, Retry, Saga, Start, Step, Wait, days, hours, seconds
from orchestrator.catalog import Catalog
from orchestrator.history import load_input
from orchestrator.replay import contents
from orchestrator.replay.outcome import Passage
from orchestrator.replay.recorded import Recorded
from orchestrator.replay.replaying import Difference, Kind, replay
from orchestrator.replay.sides import Side
from orchestrator.saga.inputs import Action, PersonActed
from orchestrator.saga.story import LONGEST_TRACEBACK
from tests.unit.journey import journey
from tests.unit.recording import Recording
from tests.unit.work import (
    Approved,
    Begun,
    Done,
    Refused,
    Undo,
    Undone,
    Withdrawn,
    Work,
    cancel_on_withdrawal,
    finished,
    pivot,
    step,
    work_saga,
)


def recording(saga: Saga[Any] | None = None) -> Recording:
    """An instance that has just started."""
    play = Recording(saga or journey())
    play.event(Begun(id=7))
    return play


def completed() -> Recording:
    """An instance whose every step has succeeded."""
    play = recording()
    for name in ("stock", "money", "ship", "invoice"):
        play.answer(name, Done())
    return play


def difference(play: Recording | Recorded, *sagas: Saga[Any]) -> Difference | None:
    """What replaying it with these definitions finds."""
    recorded = play.recorded if isinstance(play, Recording) else play
    return replay(recorded, Catalog(sagas)).difference


def found(play: Recording | Recorded, *sagas: Saga[Any]) -> tuple[int, Kind, str]:
    """Where, of which kind and in which words it differs."""
    different = difference(play, *sagas)
    assert different is not None
    return different.seq, different.kind, different.sentence


# -- the same ------------------------------------------------------------------------------------------------


def test_unchanged_code_gives_the_same_transitions() -> None:
    """There and back, with deadlines, late answers and a person."""
    back = recording()
    back.answer("stock", Done())
    back.answer("money", Refused())
    back.answer("stock", Undone())
    late = recording()
    late.deadlines(3)
    late.answer("stock", Done(), nth=0)
    late.deadlines(10)
    late.person(Action.RESOLVE, "stock")
    for play, number in ((completed(), 5), (back, 4), (late, 16)):
        replayed = replay(play.recorded, Catalog([journey()]))
        assert (replayed.transitions, replayed.difference) == (number, None)
        assert (replayed.id, replayed.name, replayed.version, replayed.key) == (play.id, "work", 1, "7")


def test_waits_delays_and_parallel_steps_replay() -> None:
    """A definition of another shape."""

    def shape() -> Saga[Work]:
        return work_saga(
            Parallel(step("left"), step("right")),
            Wait(Approved, key=lambda event: event.id, timeout=hours(1)),
            Delay(days(1), name="pause"),
            pivot("ship"),
        )

    play = recording(shape())
    play.answer("right", Done())
    play.answer("left", Done())
    play.event(Approved(id=7))
    play.deadline()
    play.answer("ship", Done())
    assert difference(play, shape()) is None
    longer = work_saga(
        Parallel(step("left"), step("right")),
        Wait(Approved, key=lambda event: event.id, timeout=hours(2)),
        Delay(days(2), name="pause"),
        pivot("ship"),
    )
    assert found(play, longer) == (3, Kind.DEADLINE, "work.approved waits for 2 h instead of 1 h")


def _raising(error: Callable[[], Exception]) -> Saga[Work]:
    def told(data: Work, event: Done) -> Work:
        raise error()

    return work_saga(step("stock", on_success=told), pivot("ship"))


def _raising_elsewhere(error: Callable[[], Exception]) -> Saga[Work]:
    def made() -> Exception:
        return error()

    def told(data: Work, event: Done) -> Work:
        problem = made()
        raise problem

    return work_saga(step("stock", on_success=told), pivot("ship"))


def test_a_traceback_is_compared_by_what_was_raised() -> None:
    """The lines of the code move with every edit; the exception and its message say what went wrong."""
    play = recording(_raising(lambda: ValueError("no data for 7")))
    play.answer("stock", Done())
    assert play.status == "stuck"
    assert difference(play, _raising_elsewhere(lambda: ValueError("no data for 7"))) is None
    assert found(play, _raising(lambda: ValueError("no data for 8"))) == (
        2,
        Kind.BECOMES_STUCK,
        "would become stuck for another reason: ValueError: no data for 8",
    )
    assert found(play, _raising(lambda: KeyError("no data for 7")))[1] is Kind.BECOMES_STUCK
    assert found(play, work_saga(step("stock"), pivot("ship"))) == (
        2,
        Kind.NO_LONGER_STUCK,
        "no longer becomes stuck (ValueError: no data for 7)",
    )


class BadValueError(ValueError):
    """Told by its bare name, like an exception that Python itself has."""


BadValueError.__module__ = "builtins"


def _fails(saga: Saga[Any]) -> Recording:
    play = recording(saga)
    play.answer("stock", Done())
    assert play.status == "stuck"
    return play


def test_an_exception_whose_line_ends_like_anothers_is_another() -> None:
    """By its name, or by what the message says in a line of its own."""
    play = _fails(_raising(lambda: BadValueError("x")))
    assert found(play, _raising(lambda: ValueError("x"))) == (
        2,
        Kind.BECOMES_STUCK,
        "would become stuck for another reason: ValueError: x",
    )
    assert difference(play, _raising_elsewhere(lambda: BadValueError("x"))) is None
    quoting = _fails(_raising(lambda: RuntimeError("it said\nValueError: x")))
    assert found(quoting, _raising(lambda: ValueError("x")))[1] is Kind.BECOMES_STUCK
    assert difference(quoting, _raising_elsewhere(lambda: RuntimeError("it said\nValueError: x"))) is None


@pytest.mark.parametrize("length", [3700, 3900, 3981, 3982, 3983, 3984, 3985, 3986, 3987, 3988, 3989, 3990, 5000])
def test_an_error_that_filled_what_is_kept_of_a_traceback_is_the_same(length: int) -> None:
    """What was cut off is the beginning: frames, then the exception's own name."""

    def cut(saga: Saga[Any]) -> Recorded:
        recorded = _fails(saga).recorded
        line = recorded.transitions[1]
        (fact,) = json.loads(line.facts)
        kept = fact["reason"][-LONGEST_TRACEBACK:]
        told = replace(line, facts=json.dumps([fact | {"reason": kept}], separators=(",", ":")))
        return replace(recorded, reason=kept, transitions=(recorded.transitions[0], told))

    play = cut(_raising(lambda: BadValueError("x" * length)))
    assert difference(play, _raising_elsewhere(lambda: BadValueError("x" * length))) is None
    assert found(play, _raising(lambda: BadValueError("x" * length + "y")))[1] is Kind.BECOMES_STUCK


def test_a_stuck_saga_that_a_person_has_freed_replays() -> None:
    """The reason that is kept is the recorded one, whatever the traceback would look like now."""
    play = recording(_raising(lambda: ValueError("no data")))
    play.answer("stock", Done())
    play.person(Action.COMPENSATE)
    play.answer("stock", Undone())
    assert play.status == "compensated"
    assert difference(play, _raising_elsewhere(lambda: ValueError("no data"))) is None


class DoGently(Command[Done, Refused], type="work.do"):
    """The same command, which has gained a field."""

    step: str
    seen: tuple[str, ...]
    gently: bool = False


class Labor(Work):
    """The same data, which has gained one."""

    priority: int = 3


def _gained(*, gently: bool = False, priority: int = 3) -> Saga[Labor]:
    def do(data: Labor) -> DoGently:
        return DoGently(step="stock", seen=data.log, gently=gently)

    return Saga(
        name="work",
        version=1,
        data=Labor,
        starts_on=Start(Begun, lambda event: Labor(id=event.id, priority=priority), key=lambda event: event.id),
        steps=(Step("stock", do, kind=PIVOT),),
        on_completed=finished,
    )


def test_a_field_with_a_default_that_came_later_means_the_same() -> None:
    """In the data and in a command: reading the old text gives the same value."""
    play = recording(work_saga(pivot("stock")))
    play.answer("stock", Done())
    assert difference(play, _gained()) is None
    assert found(play, _gained(gently=True)) == (1, Kind.COMMAND_FIELD, "work.do carries gently, which is new")
    assert found(play, _gained(priority=4)) == (1, Kind.DATA, "the data has priority, which is new")


def test_a_field_that_is_gone_is_a_difference() -> None:
    """What was kept and is not kept any more."""
    play = recording(_gained())
    assert found(play, work_saga(pivot("stock"))) == (
        1,
        Kind.COMMAND_FIELD,
        "work.do carries no gently any more; the data has no priority any more",
    )


# -- not accepted, stuck -------------------------------------------------------------------------------------


def test_a_wait_that_is_gone_is_a_step_that_is_gone() -> None:
    """Where it began."""
    with_wait = work_saga(step("stock"), Wait(Approved, key=lambda event: event.id), pivot("ship"))
    play = recording(with_wait)
    play.answer("stock", Done())
    play.event(Approved(id=7))
    play.answer("ship", Done())
    assert found(play, journey())[:2] == (2, Kind.STEP_REMOVED)


class Insist(Command[Done, Undone], type="work.do"):
    """The same command, which may be refused with another event."""

    step: str
    seen: tuple[str, ...]


class Ask(Command[Done, Refused], type="work.ask"):
    """Another command, which is refused as ever."""


def ask(data: Work) -> Ask:
    """Ask for it."""
    return Ask()


def insist(data: Work) -> Insist:
    """Ask for it."""
    return Insist(step="stock", seen=data.log)


def test_an_answer_that_its_contract_does_not_allow_any_more_makes_it_stuck() -> None:
    """Known to the process through another step, and no answer to this command."""
    play = recording()
    play.answer("stock", Refused())
    stricter = Step("stock", insist, timeout=seconds(30), retry=Retry(attempts=3, backoff=seconds(2)))
    assert found(play, work_saga(stricter, Step("ship", ask, kind=PIVOT))) == (
        2,
        Kind.BECOMES_STUCK,
        "would become stuck: stock was answered with work.refused (no_time), which its contract does not allow there",
    )


def test_an_event_that_turned_the_saga_back_and_would_be_parked_is_not_accepted() -> None:
    """The saga does not listen for it any more, another one does."""
    play = recording(journey(cancel_on=cancel_on_withdrawal()))
    play.event(Withdrawn(id=7))
    other = journey(name="other", cancel_on=cancel_on_withdrawal())
    assert found(play, journey(), other) == (
        2,
        Kind.NOT_ACCEPTED,
        "would not accept work.withdrawn: it answers no command of this saga",
    )


def test_an_answer_that_came_in_time_and_would_be_late_is_not_accepted() -> None:
    """And the other way round, it is told that it would be accepted."""
    play = recording(journey(cancel_on=cancel_on_withdrawal()))
    for name in ("stock", "money"):
        play.answer(name, Done())
    play.event(Withdrawn(id=7))
    pivot_sent = (4, Kind.OUTCOME)
    earlier = work_saga(step("stock"), step("money"), step("ship"), cancel_on=cancel_on_withdrawal())
    assert found(play, earlier)[:2] == pivot_sent
    assert found(play, earlier)[2] == "would accept work.withdrawn, which came late"


# -- what people have done to it -----------------------------------------------------------------------------


def same(data: Work) -> Work:
    """The data is as it was."""
    return data


def checked(data: Work) -> Work:
    """The migration says so in the data."""
    return data.told("checked")


def checked_if_new(data: Work) -> Work:
    """Only what the first commands were made from becomes something else."""
    return data if data.log else data.told("checked")


def _versions(convert: Callable[[Work], Work], steps: dict[str, str] | None = None) -> tuple[Saga[Work], Saga[Work]]:
    def forgetful(data: Work, event: Done) -> Work:
        return Work(id=data.id, log=("forgotten",))

    left, right = (steps or {}).get("left", "left"), (steps or {}).get("right", "right")
    old = work_saga(Parallel(_asking("left"), _asking("right")), step("mail"))
    new = work_saga(
        Parallel(_asking(left, on_success=forgetful), _asking(right, on_success=forgetful)),
        step("mail"),
        version=2,
        migrations=(Migration(old, convert, steps=steps),),
    )
    return old, new


def _asking(name: str, **options: Any) -> Step[Work]:
    """A step whose command tells nothing of the data, so that any data leads to the same one."""
    wiring: dict[str, Any] = {"on_success": lambda data, event: data.told(f"{name} done")}
    return Step(name, ask, compensation=unask, **(wiring | options))


def unask(data: Work) -> Undo:
    """Take it back."""
    return Undo(step="any", seen=())


def _migrated(*, to_the_end: bool, steps: dict[str, str] | None = None) -> Recording:
    """Brought to version 2 while right is under way with a command made before left was done."""
    old, new = _versions(same, steps)
    play = recording(old)
    play.answer("left", Done())
    play.saga = new
    play.take(PersonActed(play.now, Action.MIGRATE, "bea", "v2 is out", from_version=1, to_version=2))
    if to_the_end:
        for name in ("right", "mail"):
            play.answer(name, Done())
        assert play.status == "completed"
    return play


@pytest.mark.parametrize("to_the_end", [False, True])
def test_a_migration_that_makes_other_data_is_told(to_the_end: bool) -> None:
    """At the migration, for the code's fault; also where a later answer has written over it."""
    play = _migrated(to_the_end=to_the_end)
    assert difference(play, *_versions(same)) is None
    assert found(play, *_versions(checked)) == (
        3,
        Kind.DATA,
        "migrated to v2, the data has another log; migrated to v2, what right's command was made from has another log",
    )
    different = difference(play, *_versions(checked_if_new))
    assert different == Difference(
        3,
        Kind.DATA,
        "migrated to v2, what right's command was made from has another log",
        "migrate by bea: v2 is out",
        ("right: log: []",),
        ('right: log: ["checked"]',),
    )


def test_data_of_a_migration_that_does_not_fit_any_more_is_told() -> None:
    """The new version's model wants other things than when it was recorded."""
    play = _migrated(to_the_end=False)
    line = play.lines[2]
    for old, new in (('"data":{"id":7', '"data":{"number":7'), ('"right":{"id":7', '"right":{"number":7')):
        edited = replace(line, facts=line.facts.replace(old, new))
        assert edited != line
        passage = Passage(
            play.recorded,
            play.saga,
            Catalog(_versions(same)).registry,
            None,
            line,
            load_input(line.input, Registry([])),
        )
        told = contents.explain(passage, Side.of(edited.facts, "[]"), Side.of(line.facts, "[]"))
        assert told is not None
        assert told.kind is Kind.UNREADABLE
        assert told.sentence.startswith("the recorded data does not fit Work any more: ")


def test_a_migration_that_renames_otherwise_is_told() -> None:
    """Both sides say which steps have which names."""
    play = _migrated(to_the_end=False, steps={"left": "west"})
    old, new = _versions(same, {"left": "west"})
    assert difference(play, old, new) is None
    other = _versions(same, {"left": "port"})
    assert found(play, *other) == (
        3,
        Kind.OUTCOME,
        "goes on as v2, was v1, left is called port; recorded: goes on as v2, was v1, left is called west",
    )


def test_a_moved_deadline_that_was_edited_is_a_finding() -> None:
    """Facts that say another moment than the person did."""
    play = recording(work_saga(step("stock")))
    play.take(PersonActed(play.now, Action.RESCHEDULE, "bea", "away", "stock", due=play.now + hours(1)))
    edited = replace(play.lines[1], facts=play.lines[1].facts.replace("T13:00:00Z", "T14:00:00Z"))
    row = replace(
        play.recorded,
        transitions=(play.lines[0], edited),
        progress=play.recorded.progress.replace("T13:00:00Z", "T14:00:00Z"),
    )
    assert found(row, work_saga(step("stock"))) == (2, Kind.DEADLINE, "stock is due after 1 h instead of 2 h")


# -- what no code has caused ---------------------------------------------------------------------------------


def _tampered(**changed: Any) -> Recorded:
    return replace(completed().recorded, **changed)


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"status": "compensated"}, "another status"),
        ({"data": '{"id":8,"log":[]}'}, "another data"),
        ({"reason": "because"}, "another reason"),
        ({"progress": '{"before":null,"reason_before":"","steps":{}}'}, "another progress"),
        ({"status": "stuck", "reason": "x"}, "another status, reason"),
        ({"progress": "nonsense"}, "another progress"),
        ({"deadline": completed().now}, "another deadline"),
    ],
)
def test_a_row_that_is_not_what_its_history_says_is_told(changed: dict[str, Any], names: str) -> None:
    """Somebody has changed the row by hand."""
    assert found(_tampered(**changed), journey()) == (
        0,
        Kind.HISTORY,
        f"the instance's row is not what its history folds to: {names}",
    )


def test_a_gap_in_the_history_is_told() -> None:
    """A transition is missing, at the end, in the middle or at the beginning, or is there twice."""
    lines = completed().lines
    assert found(_tampered(transitions=(*lines[:2], *lines[3:])), journey()) == (
        4,
        Kind.HISTORY,
        "the history has a gap: transition 3 is missing (after 2 comes 4)",
    )
    assert found(_tampered(transitions=tuple(lines[1:])), journey())[2] == (
        "the history has a gap: transition 1 is missing (the history begins with 2)"
    )
    assert found(_tampered(transitions=(*lines[:2], *lines[1:])), journey())[2] == (
        "the history has a gap: transition 2 is there twice (after 2 comes 2)"
    )
    assert found(_tampered(transitions=tuple(lines[:-1])), journey())[1] is Kind.HISTORY
    assert found(_tampered(transitions=()), journey())[1] is Kind.HISTORY


def test_an_edited_fact_is_the_recordings_fault_and_not_the_codes() -> None:
    """Its facts do not fold to the row any more."""
    lines = completed().lines
    edited = replace(lines[1], facts=lines[1].facts.replace("step_succeeded", "step_refused"))
    assert found(_tampered(transitions=(lines[0], edited, *lines[2:])), journey()) == (
        0,
        Kind.HISTORY,
        "the instance's row is not what its history folds to: another progress",
    )


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", '{"kind":"event"', '{"kind":"dream","at":"2026-03-01T12:00:00Z"}']
)
def test_an_input_that_is_not_ours_is_told(text: str) -> None:
    """Truncated, empty, or of an unknown kind: a finding, never a crash."""
    lines = completed().lines
    seq, kind, sentence = found(_tampered(transitions=(lines[0], replace(lines[1], input=text), *lines[2:])), journey())
    assert (seq, kind) == (2, Kind.HISTORY)
    assert sentence.startswith("transition 2 cannot be read: ")


@pytest.mark.parametrize("text", ["", "null", "{}", "[1]", '[{"step":"stock"}]', '[{"fact":"invented"}]'])
def test_facts_that_are_not_ours_are_told(text: str) -> None:
    """The same for what follows from an input."""
    lines = completed().lines
    seq, kind, sentence = found(_tampered(transitions=(lines[0], replace(lines[1], facts=text), *lines[2:])), journey())
    assert (seq, kind) == (2, Kind.HISTORY)
    assert sentence.startswith("transition 2 cannot be read: ")


def test_a_definition_that_is_not_loaded_is_told() -> None:
    """With the versions that are."""
    other = replace(completed().recorded, version=2)
    assert found(other, journey()) == (
        0,
        Kind.NOT_LOADED,
        "no definition of work v2 is loaded here, only v1; name the module that holds it in AMENDS_SAGAS",
    )


def test_an_event_that_no_longer_parses_is_told() -> None:
    """Its contract wants more than was sent then."""
    lines = completed().lines
    edited = replace(lines[0], input=lines[0].input.replace('"id":7', '"number":7'))
    assert found(_tampered(transitions=(edited, *lines[1:])), journey()) == (
        1,
        Kind.UNREADABLE,
        "cannot read a recorded event any more: work.begun v1: id: Field required",
    )
