"""The payment handlers on both databases: batches, repetitions, races, and how many statements they take."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import event

from contracts.message import Command
from contracts.money import Money
from contracts.payment import (
    AuthorizePayment,
    CapturePayment,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentFailed,
    PaymentRefunded,
    PaymentVoided,
    RefundPayment,
    VoidPayment,
)
from messaging.database import Database
from messaging.participant import Mode, RetryLater
from services.payment.audit import audit
from services.payment.domain import ContractViolation
from services.payment.handlers import participant
from tests.contract.payment.service import Clock, Service, ask, authorized, usd


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """What is sent to the database inside the block."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        sent.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)


def test_every_command_of_the_contract_is_handled_in_batches() -> None:
    """On the ledger the service answers its four commands, each a batch at a time."""
    handlers = participant(default_credit_limit=1, now=Clock().now).handlers

    assert {name: each.mode for name, each in handlers.items()} == {
        "payment.authorize": Mode.BATCH,
        "payment.void": Mode.BATCH,
        "payment.capture": Mode.BATCH,
        "payment.refund": Mode.BATCH,
    }


async def test_a_payment_from_hold_to_refund(service: Service) -> None:
    """An order's money is held, captured and given back, and the audit follows each step."""
    command = ask(300)
    order_id = command.order_id

    assert await service.send(command) == [authorized(command)]
    held = await audit(service.database)
    assert (held.held, held.captured, held.refunded, held.entries) == ({"USD": 300}, {}, {}, 1)

    assert await service.send(CapturePayment(order_id=order_id, amount=usd(300))) == [
        PaymentCaptured(order_id=order_id, amount=usd(300))
    ]
    captured = await audit(service.database)
    assert (captured.held, captured.captured, captured.refunded) == ({"USD": 0}, {"USD": 300}, {})

    assert await service.send(RefundPayment(order_id=order_id)) == [PaymentRefunded(order_id=order_id, amount=usd(300))]
    refunded = await audit(service.database)
    assert (refunded.captured, refunded.refunded, refunded.entries) == ({"USD": 300}, {"USD": 300}, 3)
    assert refunded.postings_total == {"USD": 0}
    assert [each.findings for each in (held, captured, refunded)] == [[], [], []]


async def test_the_same_customer_twice_in_a_batch(service: Service) -> None:
    """Of two orders in one batch that only one limit suffices for, the first is authorized."""
    first, second, third = ask(700), ask(700), ask(300)

    answers = await service.send(first, second, third)

    assert answers == [
        authorized(first),
        PaymentFailed(
            order_id=second.order_id,
            reason="card_declined",
            detail="7.00 USD is more than the 3.00 USD ann has open to buy",
        ),
        authorized(third),
    ]
    assert (await audit(service.database)).held == {"USD": 1000}


async def test_a_customer_has_an_account_for_each_currency(service: Service) -> None:
    """What is spent in one currency is still open to buy in another."""
    dollars = ask(1000)
    euros = AuthorizePayment(order_id=uuid4(), customer_id="ann", amount=Money(amount=900, currency="EUR"))

    assert await service.send(dollars, euros) == [authorized(dollars), authorized(euros)]
    assert (await audit(service.database)).held == {"EUR": 900, "USD": 1000}


async def test_repetitions_in_a_batch_and_across_batches(service: Service) -> None:
    """A command that comes twice, together or later, is answered the same and charged once."""
    command = ask(300)
    capture = CapturePayment(order_id=command.order_id, amount=usd(300))

    answers = [*await service.send(command, command), *await service.send(command)]
    captures = [*await service.send(capture, capture), *await service.send(capture)]

    assert answers == [authorized(command)] * 3
    assert captures == [PaymentCaptured(order_id=command.order_id, amount=usd(300))] * 3
    found = await audit(service.database)
    assert (found.captured, found.held, found.entries) == ({"USD": 300}, {"USD": 0}, 2)


async def test_a_void_before_its_authorize_wins(service: Service) -> None:
    """A void of an unknown order succeeds and is remembered: the authorize that comes later is refused."""
    command = ask(300)

    void = await service.send(VoidPayment(order_id=command.order_id))
    (late,) = await service.send(command)

    assert void == [PaymentVoided(order_id=command.order_id)]
    assert isinstance(late, PaymentFailed)
    assert late.reason == "voided"
    assert (await audit(service.database)).entries == 0


async def test_a_capture_of_nothing_writes_nothing_of_its_batch(service: Service) -> None:
    """A command that must never have been sent raises, and the transaction it was in is undone."""
    command = ask(300)
    await service.send(command)

    with pytest.raises(ContractViolation, match="nothing was authorized"):
        await service.send(
            CapturePayment(order_id=command.order_id, amount=usd(300)),
            CapturePayment(order_id=uuid4(), amount=usd(300)),
        )

    found = await audit(service.database)
    assert (found.captured, found.held) == ({}, {"USD": 300})


async def test_declined_at_first_and_paid_on_the_retry(service: Service, clock: Clock, api: httpx.AsyncClient) -> None:
    """An account under review puts the command off without a trace, and is charged when that is over."""
    await api.put(
        "/accounts/ann",
        json={"currency": "USD", "credit_limit": 500, "held_until": "2026-03-01T12:00:01.500Z"},
    )
    command = ask(300)

    (answer,) = await service.send(command)

    assert isinstance(answer, RetryLater)
    assert (answer.after, answer.attempts) == (timedelta(seconds=1.5), 4)
    assert isinstance(answer.otherwise, PaymentFailed)
    assert answer.otherwise.reason == "account_on_hold"
    assert (await audit(service.database)).entries == 0
    clock.moment += timedelta(seconds=1.5)
    assert await service.send(command) == [authorized(command)]


async def test_an_issuer_offline_has_no_answer(service: Service, api: httpx.AsyncClient) -> None:
    """While the issuer is offline the command waits without an end and without a refusal in store."""
    await api.put(
        "/accounts/ann",
        json={"currency": "USD", "credit_limit": 500, "issuer_offline_until": "2026-03-02T12:00:00Z"},
    )

    put_off, other = await service.send(ask(300), ask(300, customer_id="bob"))

    assert isinstance(put_off, RetryLater)
    assert (put_off.after, put_off.attempts, put_off.otherwise) == (timedelta(seconds=5), None, None)
    assert isinstance(other, PaymentAuthorized)


async def test_a_batch_is_a_constant_number_of_statements(service: Service) -> None:
    """A hundred commands of a hundred customers need as many statements as two of two."""
    counts: dict[int, list[int]] = {}
    for size in (2, 100):
        commands = [ask(300, customer_id=f"{size}-{number}") for number in range(size)]
        again = [ask(1, customer_id=f"{size}-{number}") for number in range(size)]
        batches: list[Sequence[Command[Any, Any]]] = [
            commands,
            again,
            [CapturePayment(order_id=each.order_id, amount=usd(300)) for each in commands],
            [RefundPayment(order_id=each.order_id) for each in commands],
            [VoidPayment(order_id=each.order_id) for each in again],
        ]
        for batch in batches:
            with statements(service.database) as sent:
                await service.send(*batch)
            # Neither the pool's connection setup nor SQLite's own BEGIN belongs to the batch.
            counts.setdefault(size, []).append(sum(not each.startswith(("BEGIN", "PRAGMA")) for each in sent))

    assert counts[2] == counts[100]
    assert max(counts[100]) <= 9


async def test_authorize_and_void_of_one_order_at_once(service: Service) -> None:
    """Whichever of the two comes first, nothing is held in the end and nobody fails."""
    commands = [ask(1, customer_id=f"c{number % 7}") for number in range(40)]
    halves = (commands[:20], commands[20:])

    await asyncio.gather(
        *(service.send(*half) for half in halves),
        *(service.send(*(VoidPayment(order_id=each.order_id) for each in half)) for half in halves),
    )

    found = await audit(service.database)
    assert found.findings == []
    assert sum(found.held.values()) == 0


async def test_one_customer_in_many_transactions_at_once(service: Service) -> None:
    """An account that is opened and charged from eight places at once exists once and keeps its limit."""
    answers = await asyncio.gather(*(service.send(ask(300)) for _ in range(8)))

    outcomes = sorted(type(answer).__name__ for (answer,) in answers)
    assert outcomes == ["PaymentAuthorized"] * 3 + ["PaymentFailed"] * 5
    found = await audit(service.database)
    assert (found.held, found.findings) == ({"USD": 900}, [])


async def test_one_order_in_many_transactions_at_once(service: Service) -> None:
    """The same command decided in eight places at once holds the amount once, with one answer."""
    command = ask(300)

    answers = await asyncio.gather(*(service.send(command) for _ in range(8)))

    assert answers == [[authorized(command)]] * 8
    assert (await audit(service.database)).held == {"USD": 300}
