"""Wiring that is right: both checkers pass it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Never
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import Command, Event, Personal, Withheld
from messaging.participant import Participant, RetryLater
from orchestrator import (
    CONTINUE,
    PIVOT,
    RETRIABLE,
    Cancel,
    Delay,
    Migration,
    Parallel,
    Retry,
    Saga,
    Start,
    Step,
    Wait,
    hours,
    minutes,
    seconds,
)


class Asked(Event, type="cake.asked", key="id"):
    id: UUID


class Recalled(Event, type="cake.recalled", key="id"):
    id: UUID


class Tasted(Event, type="cake.tasted", key="id"):
    id: UUID
    stars: int


class Baked(Event, type="cake.baked"):
    weight: int


class Burnt(Event, type="cake.burnt"):
    reason: str


class Bake(Command[Baked, Burnt], type="cake.bake"):
    id: UUID


class Eaten(Event, type="cake.eaten"):
    id: UUID


class Eat(Command[Eaten, Never], type="cake.eat"):
    id: UUID


class Served(Event, type="cake.served", key="id"):
    id: UUID


class Invited(Event, type="cake.invited", key="id", subject="guest"):
    id: UUID
    guest: str
    email: Personal[str]


class Invite(Command[Eaten, Never], type="cake.invite", subject="guest"):
    guest: str
    to: Personal[str]


def passed_on(event: Invited) -> Invite:
    return Invite(guest=event.guest, to=event.email)


async def invite_one(command: Invite, db: AsyncSession) -> Eaten:
    if isinstance(command.to, Withheld):
        raise LookupError("nobody is there to be invited")
    return Eaten(id=UUID(command.to.strip()))


class Cake(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: UUID
    weight: int = 0


def begin(event: Asked) -> Cake:
    return Cake(id=event.id)


def bake(data: Cake) -> Bake:
    return Bake(id=data.id)


def baked(data: Cake, event: Baked) -> Cake:
    return data.model_copy(update={"weight": event.weight})


def burnt(data: Cake, event: Burnt) -> Cake:
    return data


def either(data: Cake, event: Event) -> Cake:
    return data


def unsure(data: Cake) -> Cake:
    return data


def eat(data: Cake) -> Eat:
    return Eat(id=data.id)


def eaten(data: Cake, event: Eaten) -> Cake:
    return data


def big(data: Cake) -> bool:
    return data.weight > 1000


def tasted(data: Cake, event: Tasted) -> Cake:
    return data


def served(data: Cake) -> Served:
    return Served(id=data.id)


SAGA = Saga(
    name="cake",
    version=1,
    data=Cake,
    starts_on=Start(Asked, begin, key=lambda event: event.id),
    cancel_on=Cancel(Recalled, key=lambda event: event.id),
    steps=(
        Step("order", compensation=eat, timeout=seconds(1), compensation_retry=Retry(attempts=2)),
        Step(
            "base",
            bake,
            on_success=baked,
            on_failure=burnt,
            on_in_doubt=unsure,
            compensation=eat,
            when=big,
            timeout=seconds(5),
            retry=Retry(attempts=2),
        ),
        Parallel(Step("cream", bake, compensation=eat), Step("sugar", bake, on_success=either)),
        Wait(Tasted, key=lambda event: event.id, on_event=tasted, timeout=hours(1), on_timeout=CONTINUE),
        Delay(lambda data: minutes(data.weight), name="cool"),
        Step("oven", bake, kind=PIVOT, on_success=baked, on_failure=burnt),
        Step("party", eat, kind=RETRIABLE, on_success=eaten),
    ),
    on_completed=served,
    on_compensated=served,
)



class Torte(BaseModel):
    layers: int


def layered(data: Cake) -> Torte:
    return Torte(layers=data.weight)


def bake_torte(data: Torte) -> Bake:
    raise NotImplementedError


def begin_torte(event: Asked) -> Torte:
    raise NotImplementedError


TORTE = Saga(
    name="cake",
    version=2,
    data=Torte,
    starts_on=Start(Asked, begin_torte, key=lambda event: event.id),
    steps=(Step("base", bake_torte),),
    migrations=(Migration(SAGA, layered, steps={"base": "base"}, passed=()),),
)

kitchen = Participant("cake")


@kitchen.handles(Bake)
async def bake_one(command: Bake, db: AsyncSession) -> Baked | Burnt:
    return Baked(weight=1)


@kitchen.handles(Eat)
async def eat_one(command: Eat, db: AsyncSession) -> Eaten:
    return Eaten(id=command.id)


kitchen.handles(Invite)(invite_one)


@kitchen.handles_batch(Bake)
async def bake_many(commands: Sequence[Bake], db: AsyncSession) -> Sequence[Baked | Burnt | RetryLater]:
    return [Baked(weight=1) for _ in commands]


@kitchen.handles_outside(Bake, time_limit=seconds(1))
async def bake_abroad(command: Bake, key: UUID) -> Baked | Burnt:
    return Burnt(reason=str(key))


@kitchen.on(Tasted)
async def note(event: Tasted, db: AsyncSession) -> None:
    return None


@kitchen.on_batch(Tasted)
async def note_all(events: Sequence[Tasted], db: AsyncSession) -> None:
    return None
