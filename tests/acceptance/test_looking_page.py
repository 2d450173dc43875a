"""What docs/looking.md pastes from the terminal is what the terminal says."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from rich.console import Console

from contracts.message import Event
from contracts.money import Money
from contracts.order import OrderCanceled, OrderCreated, OrderRejected
from contracts.payment import PaymentAuthorized, PaymentFailed
from messaging.bus import Delivery
from messaging.database import Database
from messaging.envelope import CONTENT_TYPE, Envelope, encode
from messaging.memory import MemoryBroker, MemoryBus
from messaging.topology import Queue, Topology
from orchestrator import queries
from orchestrator.assembly import QUEUE
from orchestrator.cli import history_pictures, why
from orchestrator.cli.mermaid import sequence
from orchestrator.cli.timeline import story
from orchestrator.diagnosis import gather
from orchestrator.replay import reading
from orchestrator.saga.state import Direction, command_id, saga_id
from orchestrator.sagas.fulfill_order import FULFILL_ORDER
from tests.acceptance.pages import ROOT, blocks
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.conftest import make_tables
from tests.contract.orchestrator.office import Office

PAGE = ROOT / "docs" / "looking.md"
DECLINED, SILENT, STUCK, EARLIER = UUID(int=0xDEC), UUID(int=0x51), UUID(int=0x57), UUID(int=0x1000)
WIDTH = 110


@pytest.fixture
async def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Office]:
    """An orchestrator that runs orders from noon on, Greenwich time, and nobody else."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    database = Database(f"sqlite:///{tmp_path / 'orchestrator.db'}")
    await make_tables(database)
    office = Office(database)
    await office.employ(FULFILL_ORDER)
    yield office
    await office.close()
    monkeypatch.undo()
    time.tzset()


def placed(office: Office, order: UUID, customer: str) -> Delivery:
    """An order of 14.99 USD."""
    total = Money(amount=1499, currency="USD")
    return said(office, OrderCreated(order_id=order, customer_id=customer, total=total, items=1))


def said(office: Office, event: Event, *, step: str = "", direction: Direction = Direction.ACTION) -> Delivery:
    """An event by the service its name begins with; the answer to a step's command, where one is named."""
    order = event.order_id  # type: ignore[attr-defined]  # every event here has it
    identity = saga_id("fulfill_order", order)
    envelope = Envelope(
        id=UUID(int=next(office._ids)),
        type=event.wire_type,
        version=1,
        source=event.wire_type.partition(".")[0],
        time=office.clock.now(),
        correlation_id=str(identity) if step else None,
        causation_id=str(command_id(identity, step, direction, 1)) if step else None,
    )
    return office.raw(encode(envelope, event).encode(), content_type=CONTENT_TYPE, message_id=str(envelope.id))


async def declined(office: Office) -> None:
    """An order whose card is declined."""
    await office.handle(placed(office, DECLINED, "ada"))
    office.clock.advance(0.459)
    refusal = PaymentFailed(order_id=DECLINED, reason="card_declined")
    await office.handle(said(office, refusal, step="authorize_payment"))
    office.clock.advance(0.288)
    compensation = Direction.COMPENSATION
    await office.handle(said(office, OrderCanceled(order_id=DECLINED), step="place_order", direction=compensation))
    await office.flush()


async def paid_before(office: Office) -> None:
    """Two hundred earlier orders, authorized within 10 to 2,000 ms, so that there is something usual."""
    total = Money(amount=1499, currency="USD")
    for number in range(1, 201):
        order = UUID(int=EARLIER.int + number)
        await office.handle(placed(office, order, "bob"))
        office.clock.advance(number / 100)
        held = PaymentAuthorized(order_id=order, authorization_id=f"A-{number}", amount=total)
        await office.handle(said(office, held, step="authorize_payment"))
    await office.flush()
    office.clock.moment = NOON


def terminal() -> tuple[Console, io.StringIO]:
    """A console that is no terminal, and what it has written."""
    written = io.StringIO()
    return Console(file=written, width=WIDTH), written


def stripped(text: str) -> str:
    """Without what pads its lines."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip() + "\n"


async def shown(office: Office, order: UUID, **options: Any) -> tuple[str, str]:
    """`amends show`, and the same with --mermaid."""
    async with office.database.reading() as connection:
        row = await queries.find(connection, str(order))
        told = story(await reading.recorded(connection, row))
    console, written = terminal()
    history_pictures.story(told, console, **{"with_data": False, "with_messages": False} | options)
    return stripped(written.getvalue()), stripped(sequence(told))


async def test_show_on_the_page(shop: Office) -> None:
    """The timeline, the data's diff and the diagram are pasted as they are printed."""
    await declined(shop)
    plain, diagram = await shown(shop, DECLINED)
    with_data, _ = await shown(shop, DECLINED, with_data=True)
    pasted = [stripped(block.text) for block in blocks(PAGE, "text")]
    assert pasted[0] == plain
    assert pasted[1] == with_data
    assert [stripped(block.text) for block in blocks(PAGE, "mermaid")] == [diagram]


async def test_why_on_the_page(shop: Office) -> None:
    """The sentences are pasted as they are printed, of an order whose payment service does not run."""
    await paid_before(shop)
    shop.clock.moment = NOON + timedelta(minutes=5)
    await shop.handle(placed(shop, SILENT, "ada"))
    await shop.relay.flush()
    shop.clock.advance(21)
    async with shop.database.reading() as connection:
        row = await queries.find(connection, str(SILENT))
        found = await gather.diagnose(connection, row, shop.catalog, shop.clock.now())
    bus = MemoryBus(MemoryBroker(), service="tester")
    await bus.start()
    await bus.declare(Topology(exchanges=(), queues=(Queue("payment.commands"), Queue(QUEUE))))
    await bus.subscribe(QUEUE, prefetch=1, deliver=lambda _delivery: None)
    causes = await gather.look(bus, gather.queues(found.awaited))
    await bus.close()
    console, written = terminal()
    why.picture(gather.with_causes(found, causes), console)
    pasted = [stripped(block.text) for block in blocks(PAGE, "text")]
    assert pasted[2] == stripped(written.getvalue())


async def test_a_stuck_saga_on_the_page(shop: Office) -> None:
    """What `why` says of a void that nobody answers, and that its repairs are the machine's own."""
    await shop.handle(placed(shop, STUCK, "ada"))
    total = Money(amount=1499, currency="USD")
    held = PaymentAuthorized(order_id=STUCK, authorization_id="A-7", amount=total)
    await shop.handle(said(shop, held, step="authorize_payment"))
    await shop.handle(said(shop, OrderRejected(order_id=STUCK, reason="out_of_stock"), step="confirm_order"))
    async with asyncio.timeout(30):
        while (row := (await shop.sagas())[str(STUCK)]).status != "stuck":
            due = row.deadline + timedelta(milliseconds=1)
            if due > shop.clock.moment:
                # Only while the worker sleeps: the moments on the page are then always the same.
                await shop.until(lambda: shop.clock.sleepers > 0, "the worker waits for the time to pass")
                shop.clock.advance((due - shop.clock.moment).total_seconds())
            await asyncio.sleep(0.005)
    await shop.relay.flush()
    shop.clock.advance(3600)
    async with shop.database.reading() as connection:
        row = await queries.find(connection, str(STUCK))
        found = await gather.diagnose(connection, row, shop.catalog, shop.clock.now())
    console, written = terminal()
    why.picture(found, console)
    pasted = [stripped(block.text) for block in blocks(PAGE, "text")]
    assert pasted[3] == stripped(written.getvalue())
