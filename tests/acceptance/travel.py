"""The trips of the README and of docs/getting-started.md: written to files, and run on a bus in memory."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from messaging.memory import MemoryBroker, MemoryBus
from messaging.participant import Participant
from messaging.service import Service, participant_service
from messaging.settings import ServiceSettings
from orchestrator.assembly import orchestrator
from orchestrator.catalog import load
from orchestrator.settings import OrchestratorSettings
from services.payment.assembly import payment_service
from services.payment.settings import PaymentSettings
from tests.acceptance.pages import ROOT, blocks

README = ROOT / "README.md"
GETTING_STARTED = ROOT / "docs" / "getting-started.md"


def files(page: Path) -> dict[str, str]:
    """What the page's Python blocks make of the files they name: those of one name follow each other."""
    found: dict[str, list[str]] = {}
    for block in blocks(page, "python"):
        assert block.file is not None, f"{page}, line {block.line}: the block names no file"
        found.setdefault(block.file, []).append(block.text)
    return {name: "\n\n".join(texts) for name, texts in found.items()}


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """The files of both pages in `folder`, and that on the import path."""
    written = files(README) | files(GETTING_STARTED)
    for name, content in written.items():
        (folder / name).write_text(content, encoding="utf-8")
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in written:
            sys.modules.pop(name.removesuffix(".py"), None)


def ends(orchestrators: Path) -> dict[str, int]:
    """How many sagas ended how, with the reason; empty while there is no table yet."""
    with closing(sqlite3.connect(orchestrators)) as connection:
        found = connection.execute("SELECT status, reason FROM saga").fetchall()
    counted: dict[str, int] = {}
    for status, reason in found:
        words = f"{status}: {reason}" if reason else status
        counted[words] = counted.get(words, 0) + 1
    return counted


def ended(orchestrators: Path, number: int) -> bool:
    """Whether so many sagas were started, and each has ended."""
    found = ends(orchestrators)
    return sum(found.values()) == number and not any(re.match("running|compensating", each) for each in found)


@asynccontextmanager
async def house(folder: Path, sagas: Sequence[str], hotel: Participant) -> AsyncIterator[dict[str, Service]]:
    """Orchestrator, hotel, payment, and the desk's relay, joined by an exchange in memory, on files in `folder`."""
    broker = MemoryBroker()

    def bus(name: str) -> MemoryBus:
        return MemoryBus(broker, service=name)

    def given(name: str) -> dict[str, Any]:
        return {"database_url": SecretStr(f"sqlite:///{folder / name}.db"), "port": 0}

    services = {
        "orchestrator": orchestrator(OrchestratorSettings(**given("orchestrator")), load(sagas), bus("orchestrator")),
        "hotel": participant_service(hotel, ServiceSettings(**given("hotel")), bus("hotel")),
        "payment": payment_service(PaymentSettings(**given("payment")), bus("payment")),
        "desk": Service(ServiceSettings(**given("desk")), bus("desk"), name="desk"),
    }
    for service in services.values():
        await service.start()
    try:
        yield services
    finally:
        for service in services.values():
            await service.drain()
