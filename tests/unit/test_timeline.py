"""A saga's story: how its data changed, and its sequence diagram."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from contracts.message import Event
from orchestrator import Retry, Saga, history, seconds
from orchestrator.cli.changes import Change, changes
from orchestrator.cli.mermaid import sequence
from orchestrator.cli.timeline import Waiting, story
from orchestrator.replay.recorded import Recorded, RecordedTransition
from orchestrator.saga.inputs import Action, EventArrived, Input, PersonActed, ReadFailed
from orchestrator.saga.machine import Transition
from tests.unit.play import NOON, Play
from tests.unit.work import Begun, Done, Refused, pivot, step, work_saga


class Taped(Play):
    """A play whose history is recorded as an engine would."""

    def __init__(self, saga: Saga[Any]) -> None:
        super().__init__(saga)
        self.transitions: list[RecordedTransition] = []

    def take(self, given: Input) -> Transition:
        transition = super().take(given)
        if transition.facts:
            self.transitions.append(
                RecordedTransition(
                    len(self.transitions) + 1,
                    self.now,
                    history.dump_input(given),
                    history.dump_facts(transition.facts),
                    history.dump_sends(transition.sends),
                )
            )
        return transition

    def recorded(self) -> Recorded:
        """What a database or a bundle would give back."""
        return Recorded(
            id=self.id,
            name=self.saga.name,
            version=self.saga.version,
            key="7",
            status=self.status,
            step=", ".join(self.current.current),
            reason=self.current.reason,
            data=history.dump_data(self.current.data),
            progress=history.dump_progress(self.current),
            started_at=NOON,
            updated_at=self.now,
            deadline=self.current.deadline,
            transitions=tuple(self.transitions),
        )


def by(source: str, play: Play, event: Event, step: str | None = None) -> EventArrived:
    """An event from this service, in answer to the last command of a step."""
    plain = play.arrival(event, play.commands(step)[-1].id if step else None)
    return EventArrived(plain.at, plain.message_id, event, source, plain.causation_id)


def troubled() -> Taped:
    """Asked twice, refused, undone in vain, resolved by hand; and an answer comes late."""
    undoing = {"compensation_retry": Retry(attempts=1), "timeout": seconds(10)}
    play = Taped(work_saga(step("dig", **undoing), step("fill"), pivot("sign")))
    play.take(by("office", play, Begun(id=7)))
    play.deadline()
    play.take(by("work", play, Done(note="!"), "dig"))
    play.take(by("work", play, Refused(reason="no spade; #1 < 2"), "fill"))
    play.deadline()
    play.take(PersonActed(play.now, Action.RESOLVE, "bea", "filled it\nmyself", "dig"))
    play.take(by("work", play, Done(), "fill"))
    return play


def test_the_sequence_diagram() -> None:
    """Services, clock and people take part; stuck, late and parked are notes; marks that mermaid reads are escaped."""
    told = story(troubled().recorded(), [Waiting("work.approved", NOON, "the saga is stuck")])
    assert sequence(told) == (
        "sequenceDiagram\n"
        "    participant p1 as office\n"
        "    participant p2 as work\n"
        "    participant p3 as clock\n"
        "    actor p4 as bea\n"
        "    participant p5 as orchestrator\n"
        "    p1->>p5: 1. work.begun\n"
        "    p5->>p2: work.do\n"
        "    p3->>p5: 2. deadline passed\n"
        "    p5->>p2: work.do (attempt 2)\n"
        "    p2->>p5: 3. work.done\n"
        "    p5->>p2: work.do\n"
        "    p2->>p5: 4. work.refused (no spade#59; #35;1 #lt; 2)\n"
        "    Note over p5: goes back: fill was refused: work.refused (no spade#59; #35;1 #lt; 2)\n"
        "    p5->>p2: work.undo\n"
        "    p3->>p5: 5. deadline passed\n"
        "    Note over p5: STUCK: the compensation of dig was sent once and never answered\n"
        "    p4->>p5: 6. resolve dig: filled it myself\n"
        "    Note over p5: publishes work.amended\n"
        "    p2->>p5: 7. work.done\n"
        "    Note over p5: late: the saga is compensated\n"
        "    Note over p5: parked: work.approved (the saga is stuck)\n"
        "    Note over p5: compensated"
    )


def test_a_row_that_could_not_be_read_is_a_transition_of_the_orchestrator() -> None:
    """Nobody sent it: no service and no clock."""
    play = Taped(work_saga(step("dig"), pivot("sign")))
    play.take(by("office", play, Begun(id=7)))
    play.take(ReadFailed(play.now, "no such field"))
    told = story(play.recorded())
    entry = told.entries[-1]
    assert (entry.kind, entry.source, entry.input) == ("read_failed", "orchestrator", "its row could not be read")
    assert sequence(told).splitlines()[-3:] == [
        "    p3->>p3: 2. its row could not be read",
        "    Note over p3: STUCK: no such field",
        "    Note over p3: stuck, waiting for dig",
    ]


def test_the_data_after_each_transition_and_what_changed_in_it() -> None:
    """The first is whole; a transition that changes nothing has no change; lists are told by element."""
    told = story(troubled().recorded())
    assert [each.data for each in told.entries[:4]] == [
        {"id": 7, "log": []},
        {"id": 7, "log": []},
        {"id": 7, "log": ["dig done!"]},
        {"id": 7, "log": ["dig done!", "fill refused: no spade; #1 < 2"]},
    ]
    assert [each.changes for each in told.entries[:4]] == [
        (Change("id", "added", None, 7), Change("log", "added", None, [])),
        (),
        (Change("log[0]", "added", None, "dig done!"),),
        (Change("log[1]", "added", None, "fill refused: no spade; #1 < 2"),),
    ]


def test_how_long_each_answer_took_and_which_attempt_was_sent() -> None:
    """From the first time its command left, retries and all; the clock and a person answer nothing."""
    told = story(troubled().recorded())
    assert [(each.seq, each.took) for each in told.entries if each.took is not None] == [(3, 12.0), (4, 0.0), (7, 10.0)]
    assert [[message.attempt for message in each.sent] for each in told.entries] == [[1], [2], [1], [1], [], [1], []]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1}, {"a": 1}, ()),
        ({"a": 1}, {"a": 2}, (Change("a", "changed", 1, 2),)),
        ({"a": 1}, {"a": True}, (Change("a", "changed", 1, True),)),
        ({"a": 1}, {"a": None}, (Change("a", "changed", 1, None),)),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, (Change("a.c", "removed", 2),)),
        ({"a": [1, 2]}, {"a": [1]}, (Change("a[1]", "removed", 2),)),
        ({"a": [{"b": 1}]}, {"a": [{"b": 3}]}, (Change("a[0].b", "changed", 1, 3),)),
        ({"a": {}}, {"a": {"b": 1}}, (Change("a.b", "added", None, 1),)),
        ({"a": [1]}, {"a": []}, (Change("a[0]", "removed", 1),)),
        ({"a": {"b": 1}}, {"a": [2]}, (Change("a[0]", "added", None, 2), Change("a.b", "removed", 1))),
        ({}, {"a": {"b": [1, {}]}}, (Change("a.b[0]", "added", None, 1), Change("a.b[1]", "added", None, {}))),
        ({"a": []}, {"ab": 1}, (Change("ab", "added", None, 1), Change("a", "removed", []))),
        (None, {"a": 1}, (Change("a", "added", None, 1),)),
    ],
)
def test_what_differs_between_two_states(
    before: dict[str, Any] | None, after: dict[str, Any] | None, expected: tuple[Change, ...]
) -> None:
    """Field by field, by its path, with what it was and what it is."""
    assert changes(before, after) == expected


def test_a_story_is_json() -> None:
    """Everything that is told, programs get too."""
    content = story(troubled().recorded()).as_json()
    assert content["entries"][0]["carried"] == {"id": 7}
    assert content["entries"][0]["sent"][0]["type"] == "work.do"
    assert content["entries"][0]["changes"][0] == {"path": "id", "kind": "added", "before": None, "after": 7}
    assert datetime.fromisoformat(content["entries"][0]["at"]) == NOON
