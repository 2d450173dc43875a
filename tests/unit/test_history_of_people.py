"""How what people do lies in a history, and what a replay learns from it."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID

from orchestrator import hours
from orchestrator.catalog import Catalog
from orchestrator.history import (
    dump_facts,
    dump_input,
    dump_progress,
    load_facts,
    load_input,
    load_state,
)
from orchestrator.replay.recorded import Recorded, RecordedTransition
from orchestrator.saga import facts as f
from orchestrator.saga.inputs import Action, PersonActed
from orchestrator.saga.machine import fold
from tests.unit.play import NOON
from tests.unit.work import Work, step, work_saga

SAGA = work_saga(step("stock"))
REGISTRY = Catalog([SAGA]).registry


def test_an_action_says_only_what_belongs_to_it() -> None:
    """A moved deadline its moment, a revoked one that there is none, a migration both versions; others neither."""
    put_off = PersonActed(NOON, Action.RESCHEDULE, "bea", "why", "stock", due=NOON + hours(1))
    revoked = PersonActed(NOON, Action.RESCHEDULE, "bea", "why", "stock")
    migrated = PersonActed(NOON, Action.MIGRATE, "bea", "why", from_version=1, to_version=2)
    retried = PersonActed(NOON, Action.RETRY, "bea", "why")
    shared = {"kind": "person", "at": "2026-03-01T12:00:00Z", "who": "bea", "why": "why"}
    assert [
        shared | {"action": "reschedule", "step": "stock", "due": "2026-03-01T13:00:00Z"},
        shared | {"action": "reschedule", "step": "stock", "due": None},
        shared | {"action": "migrate", "step": None, "from_version": 1, "to_version": 2},
        shared | {"action": "retry", "step": None},
    ] == [json.loads(dump_input(each)) for each in (put_off, revoked, migrated, retried)]
    for each in (put_off, revoked, migrated, retried):
        assert each == load_input(dump_input(each), REGISTRY)


def test_the_facts_come_back_as_they_were() -> None:
    """Data and what commands were made from as models, moments as moments."""
    facts = (
        f.DeadlineMoved("stock", NOON),
        f.DeadlineMoved("stock", None),
        f.Migrated(1, 2, Work(id=7), {"stock": "reserve"}, {"reserve": Work(id=7, log=("a",))}),
        f.Migrated(1, 2, None, {}, {}),
    )
    assert facts == load_facts(dump_facts(facts), SAGA)
    assert json.loads(dump_facts(facts[2:3])) == [
        {
            "fact": "migrated",
            "from_version": 1,
            "to_version": 2,
            "data": {"id": 7, "log": []},
            "renamed": {"stock": "reserve"},
            "made_from": {"reserve": {"id": 7, "log": ["a"]}},
        }
    ]


def test_a_step_that_a_person_has_touched_is_read_back_and_others_lie_as_ever() -> None:
    """What is rare comes last, so that rows written before can be read."""
    state = fold(
        None,
        (
            f.Started(Work(id=7)),
            f.WaitBegun("plain", NOON),
            f.WaitBegun("revoked", NOON),
            f.DeadlineMoved("revoked", None),
            f.StepSucceeded("old"),
            f.Migrated(1, 2, Work(id=7), {"old": "new"}, {}),
        ),
    )
    progress = dump_progress(state)
    assert json.loads(progress)["steps"] == {
        "plain": ["running", 1, 0, "2026-03-01T12:00:00Z", 0, None],
        "revoked": ["running", 1, 0, None, 0, None, True, None],
        "new": ["succeeded", 1, 0, None, 0, None, False, "old"],
    }
    assert state == load_state(SAGA, status="running", reason="", data='{"id":7,"log":[]}', progress=progress)


def _recorded(*inputs: str, version: int) -> Recorded:
    transitions = tuple(RecordedTransition(number, NOON, each, "[]", "[]") for number, each in enumerate(inputs, 1))
    return Recorded(
        id=UUID(int=1),
        name="work",
        version=version,
        key="7",
        status="running",
        step="",
        reason="",
        data="null",
        progress="{}",
        started_at=NOON,
        updated_at=NOON + timedelta(1),
        deadline=None,
        transitions=transitions,
    )


def test_a_history_says_which_version_decided_each_transition() -> None:
    """A migration is the new version's; an event that only looks like one is not."""
    deadline = '{"kind":"deadline","at":"2026-03-01T12:00:00Z"}'
    decoy = '{"kind":"event","data":{"action":"migrate","from_version":8,"to_version":9}}'
    to_3 = '{"kind":"person","action":"migrate","from_version":1,"to_version":3}'
    to_4 = '{"kind":"person","action":"migrate","from_version":3,"to_version":4}'
    moved = _recorded(deadline, decoy, to_3, deadline, to_4, version=4)
    assert (1, (1, 1, 3, 3, 4)) == (moved.started_version, moved.versions())
    stayed = _recorded(deadline, decoy, version=2)
    assert (2, (2, 2)) == (stayed.started_version, stayed.versions())
