"""What if: from one point of a recorded history on, something else comes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from typing import Any, Never
from uuid import UUID

import pytest
from rich.console import Console

from contracts.registry import Registry
from orchestrator import Migration, Step, seconds
from orchestrator.catalog import Catalog
from orchestrator.cli.fork_pictures import side_by_side
from orchestrator.replay.edits import CannotFork, Change, Drop, Duplicate, Edit, Swap
from orchestrator.replay.forking import Fork, Timeout, fork
from orchestrator.replay.injecting import Inject
from orchestrator.replay.replaying import replay
from orchestrator.replay.stopping import NothingToStop, stop_at
from orchestrator.saga.inputs import Action, DeadlinePassed, EventArrived, PersonActed
from tests.golden.files import FOLDER, catalog, read
from tests.unit.journey import journey
from tests.unit.recording import Recording
from tests.unit.work import (
    Approved,
    Begun,
    Do,
    Done,
    Refused,
    Undone,
    Work,
    approval,
    doing,
    pivot,
    retriable,
    step,
    undoing,
    work_saga,
)


def completed() -> Recording:
    """Four steps, each answered a second after it was asked."""
    play = Recording(journey())
    play.event(Begun(id=7))
    for name in ("stock", "money", "ship", "invoice"):
        play.now += timedelta(seconds=1)
        play.answer(name, Done())
    return play


def forked(
    play: Recording, at: int, *edits: Edit, after: Sequence[Inject | Timeout] = (), silence: bool = False
) -> Fork:
    """The fork, after it was seen to be a history that replays."""
    found = fork(play.recorded, Catalog([play.saga]), at, edits, after=after, silence=silence)
    assert replay(found.forked, Catalog([play.saga])).difference is None
    return found


def told(found: Fork) -> list[str]:
    """What each transition after the point of the fork sent."""
    return [
        ", ".join(f"{each['type'].split('.')[1]} {each['step'] or ''}".strip() for each in json.loads(line.commands))
        for line in found.forked.transitions[found.at :]
    ]


@pytest.mark.parametrize("at", range(6))
def test_without_edits_a_fork_is_the_history(at: int) -> None:
    """From wherever it is forked, byte for byte."""
    play = completed()
    found = forked(play, at)
    assert found.forked == play.recorded
    assert found.unheard == ()


def test_a_history_with_deadlines_is_itself_too() -> None:
    """Deadlines pass when they were recorded, also where they were noticed late."""
    play = Recording(journey())
    play.event(Begun(id=7))
    play.deadline()
    play.now += timedelta(milliseconds=700)
    play.deadline()
    play.answer("stock", Done())
    assert forked(play, 1).forked == play.recorded


def test_an_answer_that_never_came_times_out() -> None:
    """What answers commands that were never sent does not come; the clock does what is due."""
    found = forked(completed(), 1, Drop(2), silence=True)
    assert told(found)[:3] == ["do stock", "do stock", "undo stock"]
    assert found.forked.status == "stuck"
    assert [(each.origin, each.why) for each in found.unheard] == [
        (3, "it answers work.do, which was never sent here"),
        (4, "it answers work.do, which was never sent here"),
        (5, "it answers work.must, which was never sent here"),
    ]


def test_without_silence_a_fork_ends_with_what_it_waits_for() -> None:
    """The last input is the last thing that happens."""
    found = forked(completed(), 1, Drop(2))
    assert found.forked.status == "running"
    assert found.waits_for == ("the answer to work.do (stock) until 2026-03-01 12:00:32+00:00",)


def test_an_injected_refusal_turns_the_saga_back() -> None:
    """It answers the command that is under way there; the recorded answer comes late."""
    found = forked(completed(), 2, after=[Inject("work.refused", {"reason": "no_money"})])
    assert told(found) == ["undo stock", ""]
    assert found.hows == ("injected", "")
    assert found.origins == (None, 3)
    assert found.forked.status == "compensating"
    assert [each.origin for each in found.unheard] == [4, 5]


def test_an_injected_answer_can_lead_to_the_end() -> None:
    """Answers to the compensations that only the fork has are injected like any other."""
    play = Recording(journey())
    play.event(Begun(id=7))
    play.answer("stock", Done())
    after = [Inject("work.refused", {}), Inject("work.undone", {})]
    found = forked(play, 2, after=after)
    assert told(found) == ["undo stock", "amended"]
    assert found.forked.status == "compensated"


def test_a_timeout_comes_before_what_was_recorded() -> None:
    """The answer arrives after the second attempt, and is taken all the same."""
    found = forked(completed(), 1, after=[Timeout("stock")])
    assert told(found) == ["do stock", "do money", "do ship", "must invoice", "finished"]
    assert found.hows == ("clock", "", "", "", "")
    moments = [(line.at - found.recorded.started_at).total_seconds() for line in found.forked.transitions]
    assert moments == [0, 32, 32, 32, 32, 32]


def noticed_late() -> Recording:
    """Its first command timed out, which was noticed 700 ms late; the second was answered."""
    play = Recording(journey())
    play.event(Begun(id=7))
    play.now += timedelta(seconds=32, milliseconds=700)
    play.take(DeadlinePassed(play.now))
    play.now += timedelta(seconds=3)
    play.answer("stock", Done())
    return play


def test_a_timeout_that_was_recorded_is_the_same() -> None:
    """It passes where it passed in the recording, so nothing differs."""
    play = noticed_late()
    found = forked(play, 1, after=[Timeout("stock")])
    assert found.forked == play.recorded
    assert (found.origins, found.hows) == ((2, 3), ("", ""))


def test_deadlines_after_a_dropped_answer_are_the_recorded_ones_as_long_as_the_fork_is_there() -> None:
    """What the clock does in both timelines stands beside each other; what only the fork has is the clock's."""
    play = noticed_late()
    found = forked(play, 1, Drop(3), silence=True)
    assert (found.origins[:2], found.hows[:2]) == ((2, None), ("", "clock"))
    assert found.forked.transitions[1] == play.recorded.transitions[1]


def test_a_deadline_is_not_dropped() -> None:
    """It passes by itself, so that nothing would differ; the line says what to do instead."""
    words = "--drop 2: that is a deadline, which passes by itself unless something comes first; --inject that instead"
    with pytest.raises(CannotFork, match=f"^{words}$"):
        forked(noticed_late(), 1, Drop(2))


def test_an_input_that_comes_twice_is_late_the_second_time() -> None:
    """The saga itself is asked, not the inbox, which would drop it."""
    found = forked(completed(), 1, Duplicate(2))
    assert told(found) == ["do money", "", "do ship", "must invoice", "finished"]
    assert found.hows[1] == "duplicated"
    assert "came_late" in found.forked.transitions[2].facts


def test_swapped_inputs_come_at_each_other_s_time() -> None:
    """What is not sent yet cannot be answered."""
    found = forked(completed(), 1, Swap(2, 3))
    assert found.unheard[0].origin == 3
    assert found.forked.transitions[1].at == found.recorded.transitions[2].at
    assert found.forked.status == "running"


def test_an_edited_event_says_something_else() -> None:
    """And everything that follows from it is different."""
    found = forked(completed(), 1, Change(2, "note", "!"))
    assert json.loads(found.forked.data)["log"][0] == "stock done!"
    assert json.loads(found.recorded.data)["log"][0] == "stock done"


def test_a_second_start_is_a_duplicate() -> None:
    """Which moves nothing, and is told."""
    play = Recording(journey())
    play.event(Begun(id=7))
    found = forked(play, 0, Duplicate(1))
    assert [each.why for each in found.unheard] == ["duplicate"]


@pytest.mark.parametrize(
    ("at", "edit", "words"),
    [
        (9, None, "--at 9: the history has transitions 1 to 5 (0: before the first)"),
        (2, Drop(2), "--drop 2: no such input after the point of the fork, only 3, 4, 5; choose another --at"),
        (1, Change(2, "nothing", "1"), "--edit 2: there is no field 'nothing'; there is note"),
        (1, Change(2, "note", "[]"), "--edit 2: work.done v1: note: Input should be a valid string"),
        (
            1,
            Inject("work.nothing", {}),
            "--inject work.nothing: no saga here hears 'work.nothing'; they hear work",
        ),
        (1, Inject("work.begun", {}), "--inject work.begun: work.begun v1: id: Field required"),
        (1, Change(2, "note", ""), "--edit 2: note had this value already, so nothing would differ"),
        (1, Swap(3, 3), "--swap 3 3: that is one input; name two"),
        (
            1,
            Inject("work.begun", {"id": 8}),
            "--inject work.begun: it is about '8', another instance; this one has the key '7'",
        ),
        (1, Inject("work.do", {}), "--inject work.do: work.do v1"),
        (1, Timeout("ship"), "--timeout ship: it has no deadline after transition 1; it waits for stock there"),
        (5, Timeout("ship"), "--timeout ship: it has no deadline after transition 5; nothing is waited for there"),
    ],
)
def test_an_impossible_fork_says_why(at: int, edit: Any, words: str) -> None:
    """In one line that names the option."""
    happenings = [edit] if isinstance(edit, (Inject, Timeout)) else []
    edits = [] if happenings or edit is None else [edit]
    play = completed()
    with pytest.raises(CannotFork) as raised:
        fork(play.recorded, Catalog([play.saga]), at, edits, after=happenings)
    assert str(raised.value).startswith(words)


def test_a_definition_that_is_not_loaded_cannot_be_forked() -> None:
    """Nobody knows what it would do."""
    with pytest.raises(CannotFork, match="work v1 is not loaded; name its module in AMENDS_SAGAS"):
        fork(completed().recorded, Catalog([]), 1)


def test_a_command_cannot_be_injected() -> None:
    """A saga hears events."""
    from orchestrator.replay.edits import parsed
    from tests.unit.work import Undo

    with pytest.raises(CannotFork, match=r"^--inject: work\.undo is a command; a saga hears events only$"):
        parsed(Registry([Undo]), "work.undo", 1, {"step": "x", "seen": []}, "--inject")


def test_an_answer_about_another_instance_is_refused() -> None:
    """The field that the instance has its key from says so, though an answer is not delivered by key."""
    recorded = read(FOLDER / "fulfill_order_v1" / "card_declined.json")
    data = {"order_id": "00000000-0000-0000-0000-00000000beef", "reason": "card_declined"}
    complaint = (
        "--inject payment.failed: it is about '00000000-0000-0000-0000-00000000beef', another instance; this one has "
        f"the key '{recorded.key}'"
    )
    with pytest.raises(CannotFork) as raised:
        fork(recorded, catalog(), 1, after=[Inject("payment.failed", data)])
    assert str(raised.value) == complaint
    own = data | {"order_id": recorded.key}
    assert fork(recorded, catalog(), 1, after=[Inject("payment.failed", own)]).forked.status == "compensated"


def test_a_value_that_cannot_be_stored_makes_the_fork_stuck() -> None:
    """As the engine has it: the definition's own fault, told with its traceback, and the fork goes no further."""
    play = completed()
    money = Step("money", blindly, compensation=undoing("money"))
    play.saga = work_saga(step("stock", on_success=unstorable), money, pivot("ship"), retriable("invoice"))
    found = fork(play.recorded, Catalog([play.saga]), 1)
    assert found.forked.status == "stuck"
    assert "PydanticSerializationError" in found.forked.reason
    assert (len(found.forked.transitions), found.unheard[-1].why) == (2, "parked: its own code raised")


def blindly(_data: Work) -> Do:
    """A command that says nothing of what is known."""
    return Do(step="money", seen=())


def unstorable(data: Work, _event: Done) -> Work:
    """Something that no JSON has."""
    return data.model_copy(update={"log": ("\ud800",)})


def test_a_fork_in_which_nothing_differs_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Instead of a table in which all is the same."""
    side_by_side(forked(completed(), 2), Console(width=110, no_color=True))
    assert capsys.readouterr().out.splitlines()[2:] == ["", "nothing differs: it goes as it was recorded"]


def test_in_a_narrow_terminal_both_timelines_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """At forty columns no word is broken."""
    side_by_side(forked(completed(), 1, Change(2, "note", "!")), Console(width=40, no_color=True))
    shown = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert shown[3:13] == [
        "was   2 +1.00s test: work.done",
        "        stock: succeeded",
        "        money: sent",
        "        sends work.do",
        "fork  2 +1.00s test: work.done (edited)",
        "        stock: succeeded",
        "        money: sent",
        "        sends work.do",
        '          seen[0]: "stock done", here',
        '      "stock done!"',
    ]


# -- the debugger --------------------------------------------------------------------------------------------


def debugged(play: Recording, seq: int, keys: str) -> str:
    """What pdb says to these keys."""
    said = StringIO()
    stop_at(play.recorded, Catalog([play.saga]), seq, stdin=StringIO(keys), stdout=said)
    return said.getvalue()


def test_the_debugger_stops_in_the_functions_of_the_definition() -> None:
    """With the recorded arguments, in the order in which the machine calls them."""
    said = debugged(completed(), 2, "p event.note, data.id\nc\np name, data.log\nc\n")
    assert "('', 7)" in said
    assert "('money', ('stock done',))" in said


def test_the_debugger_can_be_left() -> None:
    """Nothing is decided then."""
    play = completed()
    assert stop_at(play.recorded, Catalog([play.saga]), 1, stdin=StringIO("q\n"), stdout=StringIO()) is None


def test_without_such_a_transition_there_is_nothing_to_stop_at() -> None:
    """In one line."""
    with pytest.raises(NothingToStop, match="there is no transition 6; the history has 1 to 5"):
        debugged(completed(), 6, "")


def test_the_play_of_these_tests_can_be_undone() -> None:
    """A compensated history forks to itself, too."""
    play = Recording(journey())
    play.event(Begun(id=7))
    play.answer("stock", Refused())
    assert play.status == "compensated"
    second = Recording(journey())
    second.event(Begun(id=7))
    second.answer("stock", Done())
    second.answer("money", Refused())
    second.answer("stock", Undone())
    assert forked(second, 2).forked == second.recorded


# -- histories of instances that were migrated ---------------------------------------------------------------


def migrated() -> tuple[Recording, Catalog]:
    """Started as version 1, brought to version 2, which has one more step, and led to its end there."""
    old = journey()
    new = work_saga(
        step("stock", timeout=seconds(30)),
        step("money"),
        step("label"),
        pivot("ship"),
        retriable("invoice"),
        version=2,
        migrations=(Migration(old, same),),
    )
    play = Recording(old)
    play.event(Begun(id=7))
    play.answer("stock", Done())
    play.saga = new
    play.take(PersonActed(play.now, Action.MIGRATE, "bea", "labels", from_version=1, to_version=2))
    for name in ("money", "label", "ship", "invoice"):
        play.answer(name, Done())
    return play, Catalog([old, new])


def same(data: Work) -> Work:
    """The data is as it was."""
    return data


@pytest.mark.parametrize("at", range(8))
def test_a_migrated_history_forks_to_itself(at: int) -> None:
    """Each transition is decided by the version that decided it."""
    play, catalog = migrated()
    assert fork(play.recorded, catalog, at).forked == play.recorded


def test_without_its_migration_the_old_version_goes_on() -> None:
    """The fork ends as version 1, and never hears of the step that only version 2 has."""
    play, catalog = migrated()
    found = fork(play.recorded, catalog, 2, [Drop(3)])
    assert (found.forked.version, found.forked.status) == (1, "completed")
    assert [each.origin for each in found.unheard] == [5]


def test_the_debugger_stops_in_a_migration_s_function() -> None:
    """The function of the user's that makes the new data is one of the definition's."""
    play, catalog = migrated()
    said = StringIO()
    stop_at(play.recorded, catalog, 3, stdin=StringIO("p 'here', data.id\nc\n"), stdout=said)
    assert "('here', 7)" in said.getvalue()


def test_a_version_that_it_has_left_must_be_loaded_to_fork() -> None:
    """In one line that names it."""
    play, catalog = migrated()
    new = catalog.get("work", 2)
    assert new is not None
    with pytest.raises(CannotFork, match="work v1 is not loaded; name its module in AMENDS_SAGAS"):
        fork(play.recorded, Catalog([new]), 4)


def test_before_the_first_transition_there_is_an_instance_that_has_not_started() -> None:
    """A history cut off before its start forks to nothing at all, of the version it would start with."""
    empty = replace(completed().recorded, transitions=())
    found = fork(empty, Catalog([journey()]), 0)
    assert (found.forked.transitions, found.forked.version, found.waits_for) == ((), 1, ())


def test_a_message_that_says_something_else_is_shown_with_what(capsys: pytest.CaptureFixture[str]) -> None:
    """The same command with other content is not the same."""
    found = forked(completed(), 1, Change(2, "note", "!"))
    side_by_side(found, Console(width=110, no_color=True))
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "sends work.do sends work.do" in shown
    assert 'seen[0]: "stock done", here "stock done!"' in shown


# -- code that raises, and steps with another name -----------------------------------------------------------


def raising(_data: Work, _event: Approved) -> Never:
    """A function of the user's that cannot cope."""
    raise ZeroDivisionError("cannot take that")


def test_what_comes_early_and_raises_once_it_is_awaited_makes_the_fork_stuck() -> None:
    """As the engine would be: the transition that says so is the fork's, and the event stays parked."""
    play = Recording(work_saga(step("stock"), approval(on_event=raising), pivot("ship")))
    play.event(Begun(id=7))
    play.answer("stock", Done())
    play.event(Approved(id=7))
    assert play.status == "stuck"
    found = forked(play, 1, Swap(2, 3))
    assert (found.forked.status, found.waits_for) == ("stuck", ())
    assert [json.loads(line.input).get("type") for line in found.forked.transitions] == [
        "work.begun",
        "work.done",
        "work.approved",
    ]
    assert (found.origins, [each.why for each in found.unheard]) == ((2, 3), ["parked: its own code raised"])


def test_an_injected_event_answers_the_command_of_a_step_that_was_renamed() -> None:
    """Its command was sent under the old name, and the fork goes on after it."""
    old = work_saga(step("stock"), pivot("ship"))
    new = work_saga(
        Step("store", doing("stock"), compensation=undoing("stock")),
        pivot("ship"),
        version=2,
        migrations=(Migration(old, same, steps={"stock": "store"}),),
    )
    play = Recording(old)
    play.event(Begun(id=7))
    play.saga = new
    play.take(PersonActed(play.now, Action.MIGRATE, "bea", "names", from_version=1, to_version=2))
    found = fork(play.recorded, Catalog([old, new]), 2, after=[Inject("work.done", {})])
    assert (found.unheard, told(found), found.forked.step) == ((), ["do ship"], "ship")


def test_what_raised_and_was_tried_again_comes_once_in_a_fork() -> None:
    """The history tells of the same message twice, because it was parked between; it does not come twice."""
    asked: list[str] = []

    def second_time(data: Work, _event: Approved) -> Work:
        asked.append("")
        if len(asked) % 2:
            raise ZeroDivisionError("cannot take that")
        return data.told("approved")

    play = Recording(work_saga(step("stock"), approval(on_event=second_time), pivot("ship")))
    play.event(Begun(id=7))
    play.answer("stock", Done())
    parked = EventArrived(play.now, UUID(int=1), Approved(id=7), "test")
    play.take(parked)
    play.person(Action.RETRY)
    play.take(parked)
    assert play.recorded.step == "ship"
    found = fork(play.recorded, Catalog([play.saga]), 1)
    recorded = play.recorded
    assert [line.input for line in found.forked.transitions] == [line.input for line in recorded.transitions]
    # The traceback that is the reason of the one in between tells who called.
    assert found.forked.transitions[4] == recorded.transitions[4]
    assert (found.forked.step, found.forked.data, found.unheard) == ("ship", recorded.data, ())
