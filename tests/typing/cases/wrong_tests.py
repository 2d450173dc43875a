"""Tests with the kit that are wrong: both checkers refuse each marked line."""

from __future__ import annotations

from typing import Never
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from contracts import Command, Event
from orchestrator import Saga, Start, Step
from orchestrator.testing import Harness, given


class Asked(Event, type="flan.asked", key="id"):
    id: UUID


class Baked(Event, type="flan.baked"):
    weight: int


class Bake(Command[Baked, Never], type="flan.bake"):
    id: UUID


class Flan(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: UUID


def begin(event: Asked) -> Flan:
    return Flan(id=event.id)


def bake(data: Flan) -> Bake:
    return Bake(id=data.id)


FLAN = Saga(
    name="flan", version=1, data=Flan, starts_on=Start(Asked, begin, key=lambda event: event.id), steps=(Step("bake", bake),)
)
ID = UUID(int=1)
flan = given(FLAN, Asked(id=ID))

given(FLAN, Bake(id=ID))  # expect-error
given(Flan, Asked(id=ID))  # expect-error
flan.answers(Bake(id=ID))  # expect-error
flan.answers(Baked)  # expect-error
flan.refuses("no")  # expect-error
flan.receives(Flan(id=ID))  # expect-error
flan.expect("flan.bake")  # expect-error
flan.expect(Flan)  # expect-error
flan.advance(30)  # expect-error
flan.person("frobnicate")  # expect-error
flan.person("skip", "bake", answer=Bake(id=ID))  # expect-error
flan.expect_completed(Bake)  # expect-error
flan.expect_stuck(7)  # expect-error
flan.data.weight  # expect-error


async def test_wrong(harness: Harness) -> None:
    await harness.publish(Asked)  # expect-error
    harness.fail_next(Bake, "cold")  # expect-error
    await harness.advance(5)  # expect-error
    (await harness.saga(1, FLAN)).data.weight  # expect-error


Harness(participants=[])  # expect-error
