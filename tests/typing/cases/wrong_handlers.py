"""Handlers that do not fit their contract: each marked line is refused, and no other."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from messaging.participant import Participant
from orchestrator import seconds
from tests.typing.cases.right import Bake, Baked, Burnt, Eat, Eaten, Tasted

kitchen = Participant("cake")


@kitchen.handles(Bake)  # expect-error
async def answers_another_event(command: Bake, db: AsyncSession) -> Eaten:
    return Eaten(id=command.id)


@kitchen.handles(Eat)  # expect-error
async def refuses_what_cannot_be_refused(command: Eat, db: AsyncSession) -> Eaten | Burnt:
    return Burnt(reason="full")


@kitchen.handles(Bake)  # expect-error
async def answers_nothing(command: Bake, db: AsyncSession) -> None:
    return None


@kitchen.handles(Bake)  # expect-error
def is_not_async(command: Bake, db: AsyncSession) -> Baked | Burnt:
    return Baked(weight=1)


@kitchen.handles(Bake)  # expect-error
async def takes_no_session(command: Bake) -> Baked | Burnt:
    return Baked(weight=1)


@kitchen.handles_batch(Bake)  # expect-error
async def answers_one(commands: Sequence[Bake], db: AsyncSession) -> Baked | Burnt:
    return Baked(weight=1)


@kitchen.handles_outside(Bake, time_limit=seconds(1))  # expect-error
async def wants_a_session(command: Bake, db: AsyncSession) -> Baked | Burnt:
    return Baked(weight=1)


@kitchen.handles(Tasted)  # expect-error
async def handles_an_event(command: Tasted, db: AsyncSession) -> None:
    return None


@kitchen.on(Tasted)  # expect-error
async def answers_an_event(event: Tasted, db: AsyncSession) -> Eaten:
    return Eaten(id=event.id)


@kitchen.handles(Bake)
async def answers_wrongly_inside(command: Bake, db: AsyncSession) -> Baked | Burnt:
    return Eaten(id=command.id)  # expect-error
