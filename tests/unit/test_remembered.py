"""States remembered from one batch to the next: believed only of the very texts they were read from or written as."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from orchestrator.instance import Instance
from orchestrator.remembered import Remembered
from orchestrator.saga.state import SagaState, Status
from orchestrator.texts import Texts
from tests.unit.work import Work, pivot, work_saga

SAGA = work_saga(pivot("sign"))
ID = UUID(int=1)
TEXTS = Texts("running", "", '{"id":1,"log":[]}', '{"steps":{}}')
STATE = SagaState(Status.RUNNING, Work(id=1))


def _written(identity: UUID, texts: Texts) -> tuple[Instance, Texts]:
    return Instance(identity, SAGA.name, SAGA, "1", STATE, revision=3), texts


def test_what_was_kept_is_known_again_once() -> None:
    """By the same texts and the same definition; whoever has taken it keeps it again."""
    remembered = Remembered()
    remembered.keep([_written(ID, TEXTS)])
    assert remembered.take(ID, SAGA, replace(TEXTS)) is STATE
    assert remembered.take(ID, SAGA, TEXTS) is None


@pytest.mark.parametrize(
    "other",
    [
        replace(TEXTS, status="stuck"),
        replace(TEXTS, reason="why"),
        replace(TEXTS, data='{"id":2,"log":[]}'),
        replace(TEXTS, progress='{"steps":{} }'),
    ],
)
def test_a_row_that_says_anything_else_is_read_anew(other: Texts) -> None:
    """Whoever has written it: what was kept is forgotten."""
    remembered = Remembered()
    remembered.keep([_written(ID, TEXTS)])
    assert remembered.take(ID, SAGA, other) is None
    assert len(remembered) == 0


def test_another_definition_reads_for_itself() -> None:
    """Two versions of a saga may read the same texts as different things."""
    remembered = Remembered()
    remembered.keep([_written(ID, TEXTS)])
    assert remembered.take(ID, work_saga(pivot("sign"), version=2), TEXTS) is None
    assert remembered.take(UUID(int=2), SAGA, TEXTS) is None


def test_the_instances_moved_longest_ago_are_forgotten_first() -> None:
    """So many are kept and no more; one that is moved again is among the latest."""
    remembered = Remembered(most=2)
    for number in (1, 2, 1, 3):
        remembered.keep([_written(UUID(int=number), TEXTS)])
    assert len(remembered) == 2
    assert remembered.take(UUID(int=2), SAGA, TEXTS) is None
    assert remembered.take(UUID(int=1), SAGA, TEXTS) is STATE
    assert remembered.take(UUID(int=3), SAGA, TEXTS) is STATE


def test_large_states_push_out_more() -> None:
    """Their texts together have at most so many characters; one that is longer alone is not kept at all."""
    remembered = Remembered(most_characters=100)
    long = replace(TEXTS, data="x" * 30, progress="y" * 10)
    for number in range(3):
        remembered.keep([_written(UUID(int=number), long)])
    assert len(remembered) == 2
    assert remembered.take(UUID(int=1), SAGA, long) is STATE
    remembered.keep([_written(UUID(int=9), replace(long, reason="z" * 70))])
    assert len(remembered) == 0
    remembered.keep([_written(UUID(int=1), long)])
    assert remembered.take(UUID(int=1), SAGA, long) is STATE
