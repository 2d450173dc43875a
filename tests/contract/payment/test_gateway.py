"""The HTTP gateway against a gateway that misbehaves: at most one charge for each key, whatever happens."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

import tests.gateway_server
from contracts.message import Command, Event
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
from messaging.participant import Handler, Mode, RetryLater
from services.payment.audit import audit
from services.payment.domain import Authorization, ContractViolation, Status
from services.payment.gateway import Approved, Declined, Gateway, GatewayRefused, GatewayUnclear
from services.payment.handlers import participant
from services.payment.http_gateway import HttpGateway
from services.payment.store import authorization_of
from tests.contract.payment.service import Clock, ask, authorized, usd
from tests.gateway_server import EXIT_CODE, Fault, GatewayServer

PATIENT = timedelta(seconds=20)
HASTY = timedelta(seconds=0.3)


@pytest.fixture
async def server() -> AsyncIterator[GatewayServer]:
    """A gateway that does what is right until it is told otherwise."""
    async with GatewayServer().serving() as server:
        yield server


@pytest.fixture
async def gateway(server: GatewayServer) -> AsyncIterator[HttpGateway]:
    """A caller with time for repetitions."""
    async with HttpGateway(server.url, time_limit=PATIENT) as gateway:
        yield gateway


async def test_a_payment_from_hold_to_refund(gateway: HttpGateway, server: GatewayServer) -> None:
    """Hold, capture and refund reach the gateway, and a refund says how much came back."""
    order_id = uuid4()

    assert await gateway.authorize(order_id, "ann", usd(300), key=uuid4()) == Approved(f"card-{order_id}")
    await gateway.capture(order_id, usd(300), key=uuid4())
    assert await gateway.refund(order_id, key=uuid4()) == usd(300)

    assert server.charges(order_id) == [300]


@pytest.mark.parametrize(
    "fault",
    [Fault.DROP, Fault.ERROR, Fault.BUSY, Fault.CHARGE_THEN_DROP, Fault.CHARGE_THEN_ERROR],
)
async def test_a_fault_that_passes_is_lived_through(gateway: HttpGateway, server: GatewayServer, fault: Fault) -> None:
    """After two faults the third attempt, with the same key, gets the answer, and there is one charge."""
    order_id, key = uuid4(), uuid4()
    server.faults.extend([fault, fault])

    answer = await gateway.authorize(order_id, "ann", usd(300), key=key)

    assert answer == Approved(f"card-{order_id}")
    assert server.calls == {str(key): 3}
    assert server.charges(order_id) == [300]


async def test_a_new_key_is_a_new_charge(gateway: HttpGateway, server: GatewayServer) -> None:
    """The gateway of these tests does charge twice when it is given two keys."""
    order_id = uuid4()

    for _ in range(2):
        await gateway.authorize(order_id, "ann", usd(300), key=uuid4())

    assert server.charges(order_id) == [300, 300]


async def test_a_decline_is_a_value(gateway: HttpGateway, server: GatewayServer) -> None:
    """What the issuer refuses is an answer, asked for once."""
    order_id, key = uuid4(), uuid4()
    server.faults.append(Fault.DECLINE)

    answer = await gateway.authorize(order_id, "ann", usd(300), key=key)

    assert answer == Declined("card_declined", "the issuer says no")
    assert (server.calls, server.charges(order_id)) == ({str(key): 1}, [])


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.CHARGE_THEN_STALL])
async def test_a_gateway_that_stalls_is_unclear(server: GatewayServer, fault: Fault) -> None:
    """Past the time limit nobody knows what happened, and the same key finds out without a second charge."""
    order_id, key = uuid4(), uuid4()
    server.faults.append(fault)
    async with HttpGateway(server.url, time_limit=HASTY) as hasty:
        with pytest.raises(GatewayUnclear, match=r"no clear answer within 0\.3 s"):
            await hasty.authorize(order_id, "ann", usd(300), key=key)
    async with HttpGateway(server.url, time_limit=PATIENT) as patient:
        assert await patient.authorize(order_id, "ann", usd(300), key=key) == Approved(f"card-{order_id}")

    assert server.charges(order_id) == [300]


async def test_errors_without_end_are_unclear(server: GatewayServer) -> None:
    """A gateway that only answers 500 is given up at the time limit, and the last answer is named."""
    server.faults.extend([Fault.ERROR] * 1000)
    async with HttpGateway(server.url, time_limit=HASTY) as gateway:
        with pytest.raises(GatewayUnclear, match="last: HTTP 500"):
            await gateway.capture(uuid4(), usd(300), key=uuid4())

    assert server.calls.total() > 1


@asynccontextmanager
async def spoiling(server: GatewayServer, answers: int) -> AsyncIterator[str]:
    """The address of a proxy before the gateway, whose first answers say they are gzip and are not."""
    left = answers
    relays: set[asyncio.Task[None]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        task = asyncio.current_task()
        assert task is not None
        relays.add(task)
        from_gateway, to_gateway = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        try:
            while True:
                to_gateway.write(await message(reader))
                answer = await message(from_gateway)
                if left > 0:
                    left -= 1
                    answer = answer.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n", 1)
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
        finally:
            to_gateway.close()

    async def message(reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        return head + await reader.readexactly(int(length[1]) if length else 0)

    proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    finally:
        proxy.close()
        await asyncio.gather(*relays)


async def test_a_body_that_cannot_be_decoded_is_lived_through(server: GatewayServer) -> None:
    """An answer broken after the charge is asked for again with the same key: one charge."""
    order_id, key = uuid4(), uuid4()
    async with spoiling(server, answers=2) as url, HttpGateway(url, time_limit=PATIENT) as gateway:
        answer = await gateway.authorize(order_id, "ann", usd(300), key=key)

    assert answer == Approved(f"card-{order_id}")
    assert server.calls == {str(key): 3}
    assert server.charges(order_id) == [300]


async def test_a_body_that_can_never_be_decoded_is_unclear(server: GatewayServer, database: Database) -> None:
    """Past the time limit the command is put off, and is no dead letter."""
    command = ask(300)
    async with spoiling(server, answers=1000) as url, HttpGateway(url, time_limit=HASTY) as gateway:
        with pytest.raises(RetryLater, match="last: DecodingError"):
            await Outside(gateway, database).ask(command, uuid4())

    assert server.charges(command.order_id) == [300]


async def test_nobody_there_is_unclear() -> None:
    """A gateway that cannot be connected to is tried until the time limit."""
    async with HttpGateway("http://127.0.0.1:1", time_limit=HASTY) as gateway:
        with pytest.raises(GatewayUnclear, match="ConnectError"):
            await gateway.void(uuid4(), key=uuid4())


@pytest.mark.parametrize("call", ["authorize", "capture", "void", "refund"])
async def test_an_answer_that_is_none_is_unclear(gateway: HttpGateway, server: GatewayServer, call: str) -> None:
    """A page of somebody else's in the place of an answer is neither yes nor no."""
    order_id, key = uuid4(), uuid4()
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "authorize": lambda: gateway.authorize(order_id, "ann", usd(300), key=key),
        "capture": lambda: gateway.capture(order_id, usd(300), key=key),
        "void": lambda: gateway.void(order_id, key=key),
        "refund": lambda: gateway.refund(order_id, key=key),
    }
    server.faults.append(Fault.GARBAGE)

    with pytest.raises(GatewayUnclear, match=r"welcome.*neither yes nor no"):
        await calls[call]()


async def test_a_wrong_address_is_unclear(server: GatewayServer) -> None:
    """A 404 of something that is no gateway condemns no payment."""
    server.faults.append(Fault.NOT_FOUND)
    async with HttpGateway(server.url, time_limit=PATIENT) as gateway:
        with pytest.raises(GatewayUnclear, match=r"HTTP 404.*check PAYMENT_GATEWAY_URL"):
            await gateway.void(uuid4(), key=uuid4())


async def test_what_must_never_be_asked_is_refused(gateway: HttpGateway) -> None:
    """A capture of nothing and a void of what is captured are refused in the gateway's words."""
    order_id = uuid4()
    with pytest.raises(GatewayRefused, match="nothing_held"):
        await gateway.capture(order_id, usd(300), key=uuid4())
    await gateway.authorize(order_id, "ann", usd(300), key=uuid4())
    await gateway.capture(order_id, usd(300), key=uuid4())

    with pytest.raises(GatewayRefused, match="captured refund it instead"):
        await gateway.void(order_id, key=uuid4())


async def test_a_gateway_that_dies_after_charging(tmp_path: Path) -> None:
    """A gateway whose process ends between charge and answer has charged once when it is back."""
    journal = tmp_path / "charges.jsonl"
    order_id, key = uuid4(), uuid4()
    async with process(journal, Fault.CHARGE_THEN_EXIT) as (dying, port):
        async with HttpGateway(f"http://127.0.0.1:{port}", time_limit=PATIENT) as gateway:
            asking = asyncio.create_task(gateway.authorize(order_id, "ann", usd(300), key=key))
            assert await asyncio.wait_for(dying.wait(), 20) == EXIT_CODE
            async with process(journal, port=port):
                assert await asking == Approved(f"card-{order_id}")

    assert len(journal.read_text().splitlines()) == 1
    assert GatewayServer(journal=journal).charges(order_id) == [300]


@asynccontextmanager
async def process(
    journal: Path, *faults: Fault, port: int = 0
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A gateway in a process of its own, and its port."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        str(tests.gateway_server.__file__),
        "--port",
        str(port),
        "--journal",
        str(journal),
        *(f"--fault={fault}" for fault in faults),
        stdout=asyncio.subprocess.PIPE,
    )
    assert started.stdout is not None
    try:
        yield started, int(await asyncio.wait_for(started.stdout.readline(), 20))
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


class Outside:
    """The payment participant on a gateway, called as the participant kit calls it."""

    def __init__(self, gateway: Gateway, database: Database) -> None:
        self._database = database
        self.handlers = participant(
            default_credit_limit=1000, now=Clock().now, gateway=gateway, database=database
        ).handlers

    async def ask(self, command: Command[Any, Any], key: UUID) -> Event:
        """Only the call, as before a crash."""
        answer = await self._handler(command).call(command, key)
        assert isinstance(answer, Event)
        return answer

    async def send(self, command: Command[Any, Any], key: UUID) -> Event:
        """The call, and its record in the transaction of the answer."""
        answer = await self.ask(command, key)
        record = self._handler(command).record
        assert record is not None
        async with self._database.session() as db:
            await record(command, answer, db)
        return answer

    def _handler(self, command: Command[Any, Any]) -> Handler:
        return self.handlers[command.wire_type]


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
