"""The three services as the simulation runs them: the real parts, on simulated time, chance, databases and broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache, partial
from typing import Any, TypeVar

from pydantic import SecretStr
from sqlalchemy import Column, Integer, MetaData, Table, Text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts.message import Event, Message
from docs.examples.trip.participant import travel
from docs.examples.trip.saga import BOOK_TRIP
from messaging.bus import Bus
from messaging.clock import Checkpoint, Clock, Entropy
from messaging.database import Database
from messaging.participant import Handler, Mode, Participant, RetryLater
from messaging.service import Service, participant_service
from messaging.settings import ServiceSettings
from messaging.subject_keys import Keys
from orchestrator.assembly import MIGRATIONS as ORCHESTRATOR_MIGRATIONS
from orchestrator.assembly import orchestrator
from orchestrator.catalog import Catalog
from orchestrator.saga.steps import Retry, seconds
from orchestrator.sagas.fulfill_order import fulfill_order
from orchestrator.settings import OrchestratorSettings
from services.order.assembly import MIGRATIONS as ORDER_MIGRATIONS
from services.order.handlers import participant as order_participant
from services.order.settings import OrderSettings
from services.payment.assembly import MIGRATIONS as PAYMENT_MIGRATIONS
from services.payment.gateway import Gateway
from services.payment.handlers import participant as payment_participant
from services.payment.settings import PaymentSettings
from tests.simulation.plan import ORCHESTRATOR, ORDER, PAYMENT, TRAVEL, Plan

MIGRATIONS = {
    ORCHESTRATOR: (ORCHESTRATOR_MIGRATIONS,),
    ORDER: (ORDER_MIGRATIONS,),
    PAYMENT: (PAYMENT_MIGRATIONS,),
    TRAVEL: (),
}
GRACE = timedelta(seconds=2)
GATEWAY_TIME_LIMIT = timedelta(seconds=1.5)

effect = Table(
    "simulated_effect",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("type", Text, nullable=False),
    Column("subject", Text, nullable=False),
)
"""Written by the simulation in a handler's own transaction: a row for each time a message took effect."""


def catalog(plan: Plan) -> Catalog:
    """The real saga, with a patience that the run can outlast."""
    return _TRIPS if plan.travel else _catalog(plan.timeout, plan.attempts)


_TRIPS = Catalog([BOOK_TRIP])


@lru_cache(maxsize=64)
def _catalog(timeout: float, attempts: int) -> Catalog:
    retry = Retry(attempts=attempts, backoff=seconds(0.5))
    return Catalog([fulfill_order(timeout=seconds(timeout), retry=retry)])


def build(
    name: str,
    plan: Plan,
    bus: Bus,
    *,
    clock: Clock,
    entropy: Entropy,
    database: Database,
    checkpoint: Checkpoint,
    gateway: Gateway,
    keys: Keys | None = None,
) -> Service:
    """One of the three services, without its HTTP face."""
    given: dict[str, Any] = {
        "clock": clock,
        "entropy": entropy,
        "database": database,
        "checkpoint": checkpoint,
        "interval": plan.interval,
    }
    if name == ORCHESTRATOR:
        return orchestrator(_settings(OrchestratorSettings, plan.batch_size, plan.lanes), catalog(plan), bus, **given)
    if name == TRAVEL:
        return participant_service(
            _observed(travel), _settings(ServiceSettings, plan.batch_size, plan.lanes), bus, keys=keys, **given
        )
    if name == ORDER:
        played = order_participant()
        return participant_service(
            _observed(played),
            _settings(OrderSettings, plan.batch_size, plan.lanes),
            bus,
            migrations=[ORDER_MIGRATIONS],
            **given,
        )
    played = payment_participant(
        default_credit_limit=0,
        now=clock.now,
        gateway=gateway if plan.gateway else None,
        gateway_time_limit=GATEWAY_TIME_LIMIT,
        database=database,
    )
    return participant_service(
        _observed(played),
        _settings(PaymentSettings, plan.batch_size, plan.lanes),
        bus,
        migrations=[PAYMENT_MIGRATIONS],
        **given,
    )


S = TypeVar("S", bound=ServiceSettings)


@lru_cache(maxsize=64)
def _settings(kind: type[S], batch_size: int, lanes: int) -> S:
    return kind(
        database_url=SecretStr("sqlite:///simulated.db"),
        amqp_url=SecretStr("memory://"),
        migrate_on_start=False,
        outbox_grace=GRACE,
        batch_size=batch_size,
        lanes=lanes,
    )


def _observed(participant: Participant) -> Participant:
    """The same participant, with a row of `simulated_effect` for each message that takes effect."""
    observed = Participant(participant.name, participant.registry)
    for wire_type, handler in participant.handlers.items():
        if handler.mode is Mode.OUTSIDE:
            changed = replace(handler, record=partial(_record, handler))
        elif handler.mode is Mode.BATCH:
            changed = replace(handler, call=partial(_call, handler))
        else:
            changed = replace(handler, call=partial(_call_one, handler))
        observed.handlers[wire_type] = changed
    return observed


async def _call_one(handler: Handler, message: Message, db: AsyncSession) -> Any:
    answer = await handler.call(message, db)
    await _note(handler, [message], db)
    return answer


async def _call(handler: Handler, messages: Sequence[Message], db: AsyncSession) -> Any:
    answers = await handler.call(messages, db)
    worked = [
        message
        for place, message in enumerate(messages)
        if answers is None or not isinstance(answers[place], RetryLater)
    ]
    await _note(handler, worked, db)
    return answers


async def _record(handler: Handler, message: Message, answer: Event, db: AsyncSession) -> None:
    if handler.record is not None:
        await handler.record(message, answer, db)
    await _note(handler, [message], db)


async def _note(handler: Handler, messages: Sequence[Message], db: AsyncSession) -> None:
    rows = [{"type": handler.message.wire_type, "subject": message.ordering_key} for message in messages]
    if rows:
        await (await db.connection()).execute(effect.insert(), rows)
