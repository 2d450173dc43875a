"""The payment service on a gateway outside: what the gateway did is in our journal, once, whatever happens."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

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
from services.payment.domain import Authorization, ContractViolation, Status
from services.payment.http_gateway import HttpGateway
from services.payment.store import authorization_of
from tests.contract.payment.service import HASTY, PATIENT, Outside, ask, authorized, usd
from tests.gateway_server import Fault, GatewayServer


@pytest.fixture
def outside(gateway: HttpGateway, database: Database) -> Outside:
    """The service on a gateway outside."""
    return Outside(gateway, database)


async def status_of(database: Database, order_id: UUID) -> Status:
    """The recorded status of an authorization."""
    async with database.reading() as connection:
        found = await authorization_of(connection, order_id)
    assert isinstance(found, Authorization)
    return found.status


def consent(command: AuthorizePayment) -> PaymentAuthorized:
    """The answer to a command the gateway approves of."""
    return PaymentAuthorized(
        order_id=command.order_id, authorization_id=f"card-{command.order_id}", amount=command.amount
    )


async def test_on_a_gateway_every_handler_runs_outside(outside: Outside) -> None:
    """No call to the gateway is made inside a transaction, and each outlasts the gateway's limit."""
    assert {name: each.mode for name, each in outside.handlers.items()} == dict.fromkeys(
        ("payment.authorize", "payment.void", "payment.capture", "payment.refund"), Mode.OUTSIDE
    )
    assert {each.time_limit for each in outside.handlers.values()} == {timedelta(seconds=11)}


async def test_what_the_gateway_did_is_in_our_journal(outside: Outside, database: Database) -> None:
    """Authorizations, captures and refunds of a gateway are journaled like those of our own ledger."""
    command = ask(300)
    order_id = command.order_id

    answers = [
        await outside.send(command, uuid4()),
        await outside.send(CapturePayment(order_id=order_id, amount=usd(300)), uuid4()),
        await outside.send(RefundPayment(order_id=order_id), uuid4()),
    ]

    assert answers == [
        consent(command),
        PaymentCaptured(order_id=order_id, amount=usd(300)),
        PaymentRefunded(order_id=order_id, amount=usd(300)),
    ]
    found = await audit(database)
    assert (found.captured, found.refunded, found.held, found.entries) == (
        {"USD": 300},
        {"USD": 300},
        {"USD": 0},
        3,
    )
    assert found.sound


async def test_a_decline_leaves_no_trace(outside: Outside, server: GatewayServer, database: Database) -> None:
    """A gateway's decline is answered in its words and moves nothing."""
    server.faults.append(Fault.DECLINE)
    command = ask(300)

    answer = await outside.send(command, uuid4())

    assert answer == PaymentFailed(order_id=command.order_id, reason="card_declined", detail="the issuer says no")
    assert (await audit(database)).entries == 0


async def test_an_unclear_outcome_is_asked_for_again(server: GatewayServer, database: Database) -> None:
    """When nobody knows whether it was charged the command is put off; its repetition charges no more."""
    command, key = ask(300), uuid4()
    server.faults.append(Fault.CHARGE_THEN_STALL)
    async with HttpGateway(server.url, time_limit=HASTY) as hasty:
        # Again where the machine was so busy that the gateway has not heard of it yet.
        while server.faults:
            with pytest.raises(RetryLater, match="asked again with the same key"):
                await Outside(hasty, database).send(command, key)
    async with HttpGateway(server.url, time_limit=PATIENT) as patient:
        assert await Outside(patient, database).send(command, key) == consent(command)

    assert server.charges(command.order_id) == [300]
    assert (await audit(database)).held == {"USD": 300}


async def test_a_crash_between_call_and_record(outside: Outside, server: GatewayServer, database: Database) -> None:
    """A call repeated because its record was lost is charged once and journaled once."""
    command, key = ask(300), uuid4()

    await outside.ask(command, key)
    await outside.send(command, key)
    await outside.send(command, key)

    assert server.charges(command.order_id) == [300]
    assert (await audit(database)).held == {"USD": 300}


async def test_a_consent_repeated_after_the_void(outside: Outside, server: GatewayServer, database: Database) -> None:
    """An authorization voided while its answer was lost is not held again when the answer is repeated."""
    command, key = ask(300), uuid4()
    await outside.ask(command, key)

    void = await outside.send(VoidPayment(order_id=command.order_id), uuid4())
    late = await outside.send(command, key)

    assert void == PaymentVoided(order_id=command.order_id)
    assert late == consent(command)
    found = await audit(database)
    assert (found.held, found.findings) == ({}, [])
    assert server.payments[str(command.order_id)].held == 0


async def test_what_no_account_could_satisfy_is_not_sent(outside: Outside, server: GatewayServer) -> None:
    """A negative amount is refused without asking the gateway."""
    command = AuthorizePayment(order_id=uuid4(), customer_id="ann", amount=Money(amount=-1, currency="USD"))

    answer = await outside.ask(command, uuid4())

    assert isinstance(answer, PaymentFailed)
    assert (answer.reason, server.calls) == ("invalid_amount", {})


async def test_an_order_of_zero_never_reaches_the_gateway(
    outside: Outside, server: GatewayServer, database: Database
) -> None:
    """Its authorization, capture and refund are answered and recorded here, and no money moves."""
    command = ask(0)
    order_id = command.order_id

    answers = [
        await outside.send(command, uuid4()),
        await outside.send(CapturePayment(order_id=order_id, amount=usd(0)), uuid4()),
        await outside.send(RefundPayment(order_id=order_id), uuid4()),
    ]

    assert answers == [
        authorized(command),
        PaymentCaptured(order_id=order_id, amount=usd(0)),
        PaymentRefunded(order_id=order_id, amount=usd(0)),
    ]
    assert server.calls == {}
    assert await status_of(database, order_id) is Status.REFUNDED
    found = await audit(database)
    assert (found.entries, found.findings) == (0, [])


async def test_a_void_of_an_order_of_zero_lets_go_of_nothing(
    outside: Outside, server: GatewayServer, database: Database
) -> None:
    """It is success without the gateway, and an authorize that comes later is refused."""
    command = ask(0)
    await outside.send(command, uuid4())

    void = await outside.send(VoidPayment(order_id=command.order_id), uuid4())
    late = await outside.send(command, uuid4())

    assert void == PaymentVoided(order_id=command.order_id)
    assert isinstance(late, PaymentFailed)
    assert (late.reason, server.calls) == ("voided", {})
    assert await status_of(database, command.order_id) is Status.VOIDED


async def test_an_order_of_zero_that_was_voided_first(outside: Outside, server: GatewayServer) -> None:
    """A void of what nobody knows yet asks the gateway; the authorize of zero that comes later is refused."""
    command, key = ask(0), uuid4()

    await outside.send(VoidPayment(order_id=command.order_id), key)
    late = await outside.send(command, uuid4())

    assert isinstance(late, PaymentFailed)
    assert (late.reason, server.calls) == ("voided", {str(key): 1})


@pytest.mark.parametrize(("first", "second", "charged"), [(0, 300, []), (300, 0, [300])])
async def test_an_order_is_of_zero_or_it_is_not(
    outside: Outside, server: GatewayServer, first: int, second: int, charged: list[int]
) -> None:
    """Another amount for the same order is refused, so that no hold hides behind an order of zero."""
    command = ask(first)
    await outside.send(command, uuid4())

    other = await outside.send(ask(second, command.order_id), uuid4())

    assert isinstance(other, PaymentFailed)
    assert (other.reason, server.charges(command.order_id)) == ("already_authorized", charged)


@pytest.mark.parametrize("held", [None, 300])
async def test_a_capture_of_zero_must_have_been_authorized(
    outside: Outside, server: GatewayServer, held: int | None
) -> None:
    """Without the gateway the journal decides: nothing or another amount authorized is a contract violation."""
    order_id = uuid4()
    if held is not None:
        await outside.send(ask(held, order_id), uuid4())
    before = server.calls.total()

    with pytest.raises(ContractViolation, match="authorized"):
        await outside.send(CapturePayment(order_id=order_id, amount=usd(0)), uuid4())

    assert server.calls.total() == before


async def test_a_database_that_is_away_puts_the_command_off(gateway: HttpGateway, tmp_path: Path) -> None:
    """What is known of the order cannot be read, so nobody is asked, and the command comes again."""
    nowhere = Database(f"sqlite:///{tmp_path / 'missing' / 'payment.db'}")
    with pytest.raises(RetryLater, match="cannot be read"):
        await Outside(gateway, nowhere).ask(VoidPayment(order_id=uuid4()), uuid4())
    await nowhere.close()


async def test_a_refusal_is_a_contract_violation(outside: Outside) -> None:
    """A request the gateway says must never have been made is nobody's to repeat."""
    with pytest.raises(ContractViolation, match="nothing_held"):
        await outside.ask(CapturePayment(order_id=uuid4(), amount=usd(300)), uuid4())


async def test_a_refund_that_differs_from_our_journal(
    outside: Outside, server: GatewayServer, database: Database
) -> None:
    """A gateway that gives back another amount than we captured is an error, and nothing is written."""
    command = ask(300)
    await outside.send(command, uuid4())
    await outside.send(CapturePayment(order_id=command.order_id, amount=usd(300)), uuid4())
    server.payments[str(command.order_id)].captured = 200

    with pytest.raises(ContractViolation, match=r"gave back 2\.00 USD, but 3\.00 USD is captured"):
        await outside.send(RefundPayment(order_id=command.order_id), uuid4())

    assert (await audit(database)).refunded == {}
