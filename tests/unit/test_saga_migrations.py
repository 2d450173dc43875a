"""Bringing an instance to another version of its saga: what is checked at import, what goes, what has no place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Never

import pytest
from pydantic import BaseModel, ConfigDict

from contracts.message import Command, Event
from orchestrator import InvalidSaga, Migration, Parallel, Retry, Saga, Start, Step, Wait, hours
from orchestrator.saga.fingerprint import fingerprint
from orchestrator.saga.inputs import Action, PersonActed
from orchestrator.saga.machine import Transition, fold
from orchestrator.saga.state import command_id
from tests.unit.play import ACTION, COMPENSATION, Play, Status, Verdict
from tests.unit.work import (
    Approved,
    Begun,
    Do,
    Done,
    Refused,
    Undo,
    Undone,
    Work,
    approval,
    doing,
    pause,
    pivot,
    retriable,
    step,
    undoing,
    work_saga,
)

ONCE = Retry(attempts=1)


class Wider(BaseModel):
    """What the new version knows: all that Work does, and who it is for."""

    model_config = ConfigDict(frozen=True)

    id: int
    log: tuple[str, ...] = ()
    customer: str = ""


def widened(data: Work) -> Wider:
    """To other data."""
    return Wider(id=data.id, log=data.log, customer="ann")


def same(data: Work) -> Work:
    """Where the data is as it was."""
    return data


def _do(name: str) -> Callable[[Wider], Do]:
    def action(data: Wider) -> Do:
        return Do(step=name, seen=data.log)

    return action


def _undo(name: str) -> Callable[[Wider], Undo]:
    def compensation(data: Wider) -> Undo:
        return Undo(step=name, seen=(*data.log, f"for {data.customer}"))

    return compensation


def _noted(data: Wider, event: Done) -> Wider:
    return data.model_copy(update={"log": (*data.log, f"done for {data.customer}")})


def wider(*names: str, **options: Any) -> Saga[Wider]:
    """Version 2 with other data, of steps with these names."""
    steps = tuple(
        Step(name, _do(name), on_success=_noted, compensation=_undo(name), compensation_retry=ONCE) for name in names
    )
    return Saga(
        name="work",
        version=2,
        data=Wider,
        starts_on=Start(Begun, lambda event: Wider(id=event.id), key=lambda event: event.id),
        steps=steps,
        **options,
    )


OLD = work_saga(step("stock", compensation_retry=ONCE), step("money"), step("mail"))


def started(saga: Saga[Any], *done: str) -> Play:
    """An instance some of whose steps have succeeded."""
    play = Play(saga)
    play.event(Begun(id=7))
    for name in done:
        play.answer(name, Done())
    return play


def migrate(play: Play, saga: Saga[Any], *, start: int = 1) -> Transition:
    """A person brings it to this definition, which decides; no command ever leaves for it."""
    before, old = play.state, play.saga
    play.saga = saga
    given = PersonActed(play.now, Action.MIGRATE, "bea", "v2 is out", from_version=start, to_version=saga.version)
    transition = play.take(given)
    assert () == transition.sends
    if transition.verdict is not Verdict.APPLIED:
        assert (Verdict.REFUSED, before) == (transition.verdict, play.state)
        play.saga = old
    return transition


def obstacle(play: Play, *steps: Any, steps_renamed: dict[str, str] | None = None, passed: tuple[str, ...] = ()) -> str:
    """Why it has no place in a version 2 of these steps; nothing where it has."""
    migration = Migration(play.saga, same, steps=steps_renamed, passed=passed)
    return migrate(play, work_saga(*steps, version=2, migrations=(migration,))).note


# -- what goes -----------------------------------------------------------------------------------------------


def test_the_data_is_converted_and_the_answers_go_on_as_the_new_version() -> None:
    """An answer to a command of the old version is taken by the new one's functions, which know more."""
    play = started(OLD, "stock")
    migrate(play, wider("stock", "money", "mail", migrations=(Migration(OLD, widened),)))
    assert Wider(id=7, log=("stock done",), customer="ann") == play.current.data
    play.answer("money", Done())
    assert Do(step="mail", seen=("stock done", "done for ann")) == play.sent[-1].message
    play.answer("mail", Refused())
    assert Undo(step="money", seen=("stock done", "done for ann", "for ann")) == play.commands("money")[-1].message
    assert play.state == fold(None, play.facts)


def test_the_deadline_is_not_moved() -> None:
    """Nothing is sent, and what was due is due when it was."""
    play = started(OLD)
    before = play.current.deadline
    migrate(play, wider("stock", "money", "mail", migrations=(Migration(OLD, widened),)))
    assert before == play.current.deadline
    play.deadline()
    first, second = play.commands("stock")
    assert first == second


def test_a_renamed_steps_commands_keep_their_ids() -> None:
    """Its participant knows them by the old name: answers find their step, a compensation names what it undoes."""
    play = started(OLD, "stock")
    renamed = {"stock": "reserve", "money": "charge"}
    assert not obstacle(
        play,
        Step("reserve", doing("reserve"), compensation=undoing("reserve")),
        Step("charge", doing("money"), compensation=undoing("charge")),
        step("mail"),
        steps_renamed=renamed,
    )
    play.event(Done(), command_id(play.id, "money", ACTION, 1))
    assert {"reserve": "succeeded", "charge": "succeeded", "mail": "running"} == play.steps
    play.answer("mail", Refused())
    undo = play.sent[-1]
    assert Undo(step="charge", seen=("stock done", "mail refused: no_time")) == undo.message
    assert (command_id(play.id, "money", COMPENSATION, 1), command_id(play.id, "money", ACTION, 1)) == (
        undo.id,
        undo.compensates,
    )
    assert play.state == fold(None, play.facts)


def test_a_name_comes_back_in_the_version_after() -> None:
    """Renamed twice, the first name still makes the ids, and may be the name again."""
    play = started(OLD)
    second = work_saga(
        Step("reserve", doing("stock"), compensation=undoing("stock")),
        version=2,
        migrations=(Migration(OLD, same, steps={"stock": "reserve"}),),
    )
    migrate(play, second)
    third = work_saga(step("stock"), version=3, migrations=(Migration(second, same, steps={"reserve": "stock"}),))
    assert Verdict.APPLIED is migrate(play, third, start=2).verdict
    play.event(Done(), command_id(play.id, "stock", ACTION, 1))
    assert "completed" == play.status


def test_a_stuck_instance_stays_stuck_until_somebody_decides() -> None:
    """The mended version is there first; then the retry sends what it makes, in a new round."""
    play = started(OLD, "stock")
    play.answer("money", Refused())
    play.deadline()
    assert "stuck" == play.status
    migrate(play, wider("stock", "money", "mail", migrations=(Migration(OLD, widened),)))
    assert (Status.STUCK, "the compensation of stock was sent once and never answered") == (
        play.status,
        play.current.reason,
    )
    play.person(Action.RETRY)
    assert (Undo(step="stock", seen=("stock done", "money refused: no_time", "for ann")), "compensating") == (
        play.sent[-1].message,
        play.status,
    )
    assert command_id(play.id, "stock", COMPENSATION, 2) == play.sent[-1].id


def test_an_instance_that_could_not_start_starts_as_the_new_version() -> None:
    """It has no data to convert yet; its start event is parked, and taken by the new version's `begin`."""
    play = Play(OLD)
    start = play.arrival(Begun(id=7))
    play.fails(start)
    migrate(play, wider("stock", migrations=(Migration(OLD, widened),)))
    play.person(Action.RETRY)
    play.take(start)
    assert (Wider(id=7), "running") == (play.current.data, play.status)
    assert play.state == fold(None, play.facts)


def test_a_new_step_that_it_is_past_is_passed_over_where_the_migration_says_so() -> None:
    """An instance that has not come so far meets it as any other."""
    check, steps = step("check", on_success=None), (step("stock"), step("money"), step("mail"))
    behind, ahead = started(OLD, "stock"), started(work_saga(pause("cool_off", hours(1)), *steps))
    assert not obstacle(behind, step("stock"), check, step("money"), step("mail"), passed=("check",))
    assert {"stock": "succeeded", "money": "running", "check": "skipped"} == behind.steps
    behind.answer("money", Done())
    assert {"check": "skipped", "mail": "running"}.items() <= behind.steps.items()
    assert not obstacle(ahead, pause("cool_off", hours(1)), check, *steps, passed=("check",))
    ahead.deadline()
    assert {"cool_off": "succeeded", "check": "running"} == ahead.steps


def test_on_the_way_back_new_steps_do_not_matter() -> None:
    """Nothing begins any more."""
    play = started(OLD, "stock")
    play.answer("money", Refused())
    assert not obstacle(play, step("check"), step("stock"), step("money"), step("mail"))
    play.answer("stock", Undone())
    assert "compensated" == play.status


# -- what has no place ---------------------------------------------------------------------------------------


def test_a_step_that_was_reached_must_be_there() -> None:
    """Its name in the new version is found by the migration; without it, the instance ends as it began."""
    play = started(OLD, "stock")
    assert obstacle(play, step("money"), step("mail")) == "it has reached stock, which v2 does not have"
    assert obstacle(play, step("mail")) == (
        "it has reached stock, which v2 does not have; it has reached money, which v2 does not have"
    )


def test_a_step_keeps_its_kind() -> None:
    """What was compensable has no place where it is the point of no return, nor a step where a wait is."""
    play = started(OLD, "stock")
    assert (
        obstacle(play, step("stock"), pivot("money"), retriable("mail"))
        == "it has reached money, a compensable step, which in v2 is a pivot step"
    )
    assert (
        obstacle(play, approval("stock"), step("money"), step("mail"))
        == "it has reached stock, a compensable step, which in v2 is a wait"
    )


def test_a_command_under_way_must_stay_the_same() -> None:
    """It may be sent again under its id, and its participant has perhaps done what the first said."""
    play = started(OLD, "stock")
    changed = Step("money", doing("more money"), compensation=undoing("money"))
    assert obstacle(play, step("stock"), changed, step("mail")) == (
        'money is under way with work.do v1 {"step":"money","seen":["stock done"]}; v2 would send '
        'work.do v1 {"step":"more money","seen":["stock done"]} under its id'
    )


def test_it_is_compared_with_what_was_sent() -> None:
    """Not with what would be sent now: in a Parallel the data has changed since."""
    play = started(work_saga(Parallel(step("flight"), step("hotel")), step("money")), "flight")
    assert ("flight done",) == play.current.data.log
    assert not obstacle(play, Parallel(step("flight"), step("hotel")), step("money"))
    play.deadline()
    assert Do(step="hotel", seen=()) == play.sent[-1].message


def test_a_command_that_was_given_up_may_change() -> None:
    """A retry makes another one, under another id."""
    play = started(OLD, "stock")
    play.answer("money", Undone())
    assert "stuck" == play.status
    assert not obstacle(play, step("stock"), Step("money", doing("more money"), compensation=undoing("money")))
    play.person(Action.RETRY)
    assert Do(step="more money", seen=("stock done",)) == play.sent[-1].message


def test_what_may_have_happened_keeps_its_compensation() -> None:
    """Otherwise nobody would undo it."""
    play = started(OLD, "stock")
    assert obstacle(play, step("stock", compensation=None), step("money"), step("mail")) == (
        "stock may have happened, and v2 has no compensation for it"
    )


def test_a_new_step_that_it_is_past_has_no_place() -> None:
    """It would be begun out of its turn."""
    play = started(OLD, "stock")
    words = "it is past the place of check, which v1 did not have or reach"
    assert words == obstacle(play, step("stock"), step("check"), step("money"), step("mail"))
    assert words == obstacle(play, step("stock"), Parallel(step("money"), step("check")), step("mail"))
    assert not obstacle(play, step("stock"), step("money"), step("check"), step("mail"))


class Signed(Event, type="work.signed", key="id"):
    """Another kind of approval."""

    id: int


def test_a_wait_under_way_waits_for_the_same() -> None:
    """What would end it may have been sent already."""
    play = started(work_saga(approval(), step("stock")))
    signed: Wait[Work] = Wait(Signed, key=lambda event: event.id, name="approval")
    assert (
        obstacle(play, signed, step("stock"))
        == "it waits for work.approved at approval, where v2 waits for work.signed"
    )


def test_a_wait_under_way_is_found_by_the_same_key() -> None:
    """Its event would be looked for at another instance; behind the wait, the key may change."""
    play, new = started(work_saga(approval(), step("stock"))), (approved_by(lambda event: event.by), step("stock"))
    assert obstacle(play, *new) == "it waits at approval for the work.approved with its key, which v2 reads otherwise"
    play.event(Approved(id=7))
    assert not obstacle(play, *new)


def test_a_key_that_is_only_written_elsewhere_is_the_same() -> None:
    """Another function with the same code."""
    play = started(work_saga(approved_by(lambda event: event.id), step("stock")))
    assert not obstacle(play, approved_by(lambda event: event.id), step("stock"))


def approved_by(key: Callable[[Approved], object]) -> Wait[Work]:
    """The approval, found by this key."""
    return Wait(Approved, key=key, name="approval")


class Accepted(Event, type="work.accepted"):
    """Another answer."""


class DoOtherwise(Command[Accepted, Never], type="work.do"):
    """Do, answered otherwise."""

    step: str
    seen: tuple[str, ...]


class UndoOtherwise(Command[Accepted, Never], type="work.undo"):
    """Undo, answered otherwise."""

    step: str
    seen: tuple[str, ...]


def do_otherwise(data: Work) -> DoOtherwise:
    """The same text on the wire as the action of stock."""
    return DoOtherwise(step="stock", seen=data.log)


def undo_otherwise(data: Work) -> UndoOtherwise:
    """The same text on the wire as the compensation of stock."""
    return UndoOtherwise(step="stock", seen=data.log)


def test_a_command_under_way_keeps_its_answers() -> None:
    """Its participant answers what it was asked; the answer would be taken for a broken contract."""
    play = started(work_saga(step("stock")))
    other = Step("stock", do_otherwise, compensation=undoing("stock"))
    assert obstacle(play, other) == (
        "stock is under way and is answered with work.done or work.refused, where v2 takes work.accepted"
    )


def test_a_compensation_under_way_keeps_its_answer() -> None:
    """Until it is under way, what answers it may change."""
    old, other = work_saga(step("stock")), step("stock", compensation=undo_otherwise)
    assert not obstacle(started(old), other)
    play = started(old)
    play.deadlines(3)
    assert {"stock": "compensating"} == play.steps
    assert obstacle(play, other) == (
        "stock is under way and is answered with work.undone, where v2 takes work.accepted"
    )


def test_ids_of_another_step_are_never_taken() -> None:
    """Renamed in one version, and its old name given to a new step in the next: their commands would be one."""
    play = started(OLD, "stock")
    second = work_saga(
        step("reserve"),
        step("money"),
        step("mail"),
        version=2,
        migrations=(Migration(OLD, same, steps={"stock": "reserve"}),),
    )
    migrate(play, second)
    third = work_saga(step("reserve"), step("money"), step("stock"), version=3, migrations=(Migration(second, same),))
    assert (
        migrate(play, third, start=2).note == "commands of reserve were sent as stock, the name of another step in v3"
    )


def test_no_migration_no_crossing() -> None:
    """From another version, to another, or at an end."""
    play = started(OLD, "stock")
    definition = work_saga(step("stock"), step("money"), version=2)
    assert migrate(play, definition).note == "work v2 has no Migration from v1"
    play.person(Action.ABANDON)
    definition = work_saga(step("stock"), step("money"), version=2, migrations=(Migration(OLD, same),))
    assert migrate(play, definition).note == "the saga is abandoned; nothing can change it"


def test_a_convert_that_makes_something_else_is_an_error() -> None:
    """The error names it, for a person to be told."""
    play = started(OLD)
    broken = Migration(OLD, widened)
    definition = wider("stock", migrations=(broken,))
    broken.convert = lambda _: None  # type: ignore[assignment, return-value]
    with pytest.raises(TypeError, match=r"the migration to Saga\('work', version=2\) made None instead of Wider"):
        migrate(play, definition)


# -- checked at import ---------------------------------------------------------------------------------------


def test_a_migration_changes_no_fingerprint() -> None:
    """It can be added while instances of either version are in flight."""
    bare = wider("stock", "money", "mail")
    assert fingerprint(bare) == fingerprint(wider("stock", "money", "mail", migrations=(Migration(OLD, widened),)))


def _unannotated(data):  # type: ignore[no-untyped-def]  # what a careless user writes
    return data


OTHER = work_saga(step("stock"), name="play")


@pytest.mark.parametrize(
    ("migrations", "words"),
    [
        ([Migration(OLD, same)], "migrations must be a tuple of Migration: migrations=(Migration(...),)"),
        ((OLD,), "migrations must be a tuple of Migration: migrations=(Migration(...),)"),
        ((Migration(OTHER, same),), "Saga('play', version=1) is another saga; a migration is between versions of one"),
        (
            (Migration(work_saga(step("stock"), version=2), same),),
            "it leads to the same version; give the new definition another one",
        ),
        ((Migration(OLD, same), Migration(OLD, same)), "there are two of them; drop one"),
        ((Migration(OLD, same, steps={"stick": "money"}),), "v1 has no step 'stick' to rename"),
        ((Migration(OLD, same, steps={"mail": "post"}),), "'mail' is to become 'post', which is no step of v2"),
        (
            (Migration(OLD, same, steps={"mail": "stock"}),),
            "'mail' is to become 'stock', which was another step before",
        ),
        (
            (Migration(OLD, same, steps={"money": "new"}),),
            (
                "'money' is to become 'new', but v2 has a step 'money' too, whose commands would have the ids of the "
                "old one's; give it a name that no version has had"
            ),
        ),
        (
            (Migration(OLD, same, steps={"mail": "new", "stock": "new"}),),
            "two steps are to become one; instances that have reached both have no place then",
        ),
        ((Migration(OLD, same, passed=("post",)),), "passed names 'post', which is no step of v2"),
        ((Migration(OLD, same, passed=("money",)),), "passed names 'money', which v1 has too; drop it there"),
        (
            (Migration(OLD, same, passed=("ship",)),),
            "passed names the pivot 'ship', which no instance can do without",
        ),
        ((Migration(OLD, widened),), "write `def widened(data: Work) -> Work`"),
        ((Migration(OLD, _unannotated),), "write `def _unannotated(data: Work) -> Work`"),
    ],
)
def test_what_can_be_seen_at_import_is_refused_at_import(migrations: Any, words: str) -> None:
    """Each sentence says what is wrong."""
    with pytest.raises(InvalidSaga) as error:
        work_saga(step("stock"), step("money"), step("new"), pivot("ship"), version=2, migrations=migrations)
    assert str(error.value).startswith("saga 'work' v2")
    assert str(error.value).endswith(f": {words}")
