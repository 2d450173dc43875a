"""Tests with the kit that are right: both checkers pass them, and know the saga's data."""

from __future__ import annotations

from typing import Never, assert_type
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from contracts import Command, Event
from messaging.participant import Participant
from orchestrator import Saga, Start, Step, minutes
from orchestrator.testing import Harness, Harnesses, Scenario, given


class Asked(Event, type="tart.asked", key="id"):
    id: UUID


class Baked(Event, type="tart.baked"):
    weight: int


class Bake(Command[Baked, Never], type="tart.bake"):
    id: UUID


class Tart(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: UUID
    weight: int = 0


def begin(event: Asked) -> Tart:
    return Tart(id=event.id)


def bake(data: Tart) -> Bake:
    return Bake(id=data.id)


TART = Saga(
    name="tart", version=1, data=Tart, starts_on=Start(Asked, begin, key=lambda event: event.id), steps=(Step("bake", bake),)
)

tart = given(TART, Asked(id=UUID(int=1)))
assert_type(tart, Scenario[Tart])
assert_type(tart.expect(Bake).answers(Baked(weight=3)).advance(minutes(1)), Scenario[Tart])
assert_type(tart.data.weight, int)
tart.expect(Bake(id=UUID(int=1))).person("retry", "bake").expect_completed(Baked).expect_completed(Baked(weight=1))
oven = Participant("oven")


async def test_runs(saga_harness: Harnesses) -> None:
    async with saga_harness(sagas=[TART], participants=[oven]) as harness:
        assert_type(harness, Harness)
        assert_type((await harness.saga(1, TART)).data, Tart)
        assert_type(harness.published_of(Baked)[0].weight, int)
        harness.fail_next(Bake, ValueError("cold"))
