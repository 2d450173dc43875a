"""What the engine keeps of a saga's data can be read again, is what its history folds to, and replays the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field

from orchestrator import PIVOT, Parallel, Saga, Start, Step, history
from orchestrator.replay.past import past
from orchestrator.replay.reading import stream
from orchestrator.replay.recorded import Recorded
from orchestrator.replay.replaying import replay
from orchestrator.saga.state import SagaState
from tests.contract.orchestrator.office import Office
from tests.unit.work import Begun, Do, Done


class Work(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: int
    ref: str = ""
    extra: Any = None
    log: list[str] = Field(default_factory=list)


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    id: int
    who: UUID = UUID(int=5)
    log: tuple[str, ...] = ()


def _saga(data: type[Any], take: Callable[[Any, Done], Any]) -> Saga[Any]:
    def dig(work: Any) -> Do:
        return Do(step="dig", seen=())

    def fill(work: Any) -> Do:
        return Do(step="fill", seen=tuple(work.log))

    return Saga(
        name="work",
        version=1,
        data=data,
        starts_on=Start(Begun, lambda event: data(id=event.id), key=lambda event: event.id),
        steps=(Parallel(Step("dig", dig, on_success=take), Step("fill", fill)), Step("sign", fill, kind=PIVOT)),
    )


def _row(saga: Saga[Any], recorded: Recorded) -> SagaState:
    return history.load_state(
        saga, status=recorded.status, reason=recorded.reason, data=recorded.data, progress=recorded.progress
    )


async def _begun_and_dug(office: Office, saga: Saga[Any]) -> Recorded:
    await office.employ(saga)
    await office.handle(office.begun(1))
    await office.handle(office.answer(1, "dig", Done()))
    async with office.database.reading() as connection:
        (recorded,) = [each async for each in stream(connection)]
    assert replay(recorded, office.catalog).difference is None
    # Folded from its facts, the history is the row.
    assert past(recorded, office.catalog).states[-1] == _row(saga, recorded)
    return recorded


@pytest.mark.parametrize(
    ("take", "told"),
    [
        (lambda work, event: work.model_copy(update={"ref": None}), "Work could not be read again: ref: Input should"),
        (lambda work, event: work.log.append("dug") or work, "changed the saga's data in place"),
    ],
    ids=["of another type", "in place"],
)
async def test_data_that_could_not_be_read_again_makes_it_stuck(
    office: Office, take: Callable[[Work, Done], Work], told: str
) -> None:
    """At once and visibly, with what it was before: the next answer would otherwise find a row that nobody can read."""
    recorded = await _begun_and_dug(office, _saga(Work, take))
    assert (recorded.status, recorded.data) == ("stuck", '{"id":1,"ref":"","extra":null,"log":[]}')
    assert told in recorded.reason


async def test_data_is_taken_as_it_is_read(office: Office) -> None:
    """By the engine at once, and by a replay: the next batch would see a list where a tuple was returned."""
    saga = _saga(Work, lambda work, event: work.model_copy(update={"extra": ("x", 1)}))
    recorded = await _begun_and_dug(office, saga)
    assert (recorded.status, recorded.data) == ("running", '{"id":1,"ref":"","extra":["x",1],"log":[]}')


async def test_strict_data_survives_a_parallel(office: Office) -> None:
    """Its row then holds the data that the command under way was made from, too."""
    saga = _saga(Strict, lambda work, event: work.model_copy(update={"log": ("dug",)}))
    recorded = await _begun_and_dug(office, saga)
    assert recorded.status == "running"
    await office.handle(office.answer(1, "fill", Done()))
    assert (await office.sagas())["1"].step == "sign"
