"""The HTTP gateway against a gateway that misbehaves: at most one charge for each key, whatever happens."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

import tests.gateway_server
from messaging.database import Database
from messaging.participant import RetryLater
from services.payment.gateway import Approved, Declined, GatewayRefused, GatewayUnclear
from services.payment.http_gateway import HttpGateway
from tests.contract.payment.service import HASTY, PATIENT, Outside, ask, usd
from tests.gateway_server import EXIT_CODE, Fault, GatewayServer


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
        # Again where the machine was so busy that the gateway has not heard of it yet.
        while server.faults:
            with pytest.raises(GatewayUnclear, match=r"no clear answer within 0\.3 s"):
                await hasty.authorize(order_id, "ann", usd(300), key=key)
    async with HttpGateway(server.url, time_limit=PATIENT) as patient:
        assert await patient.authorize(order_id, "ann", usd(300), key=key) == Approved(f"card-{order_id}")

    assert server.charges(order_id) == [300]


async def _given_up(
    url: str, call: Callable[[HttpGateway], Awaitable[object]], as_expected: Callable[[str], bool]
) -> None:
    """What is said at the time limit is as expected; on a machine that is too busy for it, at a longer one."""
    for limit in (HASTY, timedelta(seconds=3), timedelta(seconds=30)):
        async with HttpGateway(url, time_limit=limit) as gateway:
            with pytest.raises((GatewayUnclear, RetryLater)) as raised:
                await call(gateway)
        if as_expected(str(raised.value)):
            return
    pytest.fail(str(raised.value))


async def test_errors_without_end_are_unclear(server: GatewayServer) -> None:
    """A gateway that only answers 500 is given up at the time limit, and the last answer is named."""
    server.faults.extend([Fault.ERROR] * 1000)
    await _given_up(
        server.url,
        lambda gateway: gateway.capture(uuid4(), usd(300), key=uuid4()),
        lambda said: "last: HTTP 500" in said and server.calls.total() > 1,
    )


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
        try:
            from_gateway, to_gateway = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        except OSError:
            # Whoever was taken so late finds the gateway gone.
            writer.close()
            return
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
    key = uuid4()
    async with spoiling(server, answers=1000) as url:
        await _given_up(
            url,
            lambda gateway: Outside(gateway, database).ask(command, key),
            lambda said: "last: DecodingError" in said,
        )

    assert server.charges(command.order_id) == [300]


async def test_nobody_there_is_unclear() -> None:
    """A gateway that cannot be connected to is tried until the time limit."""
    await _given_up(
        "http://127.0.0.1:1", lambda gateway: gateway.void(uuid4(), key=uuid4()), lambda said: "ConnectError" in said
    )


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
            assert await asyncio.wait_for(dying.wait(), 60) == EXIT_CODE
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
        yield started, int(await asyncio.wait_for(started.stdout.readline(), 60))
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()
