"""The README's own code: written to the files it names, it books trips."""

from __future__ import annotations

import importlib
import re
import shlex
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, select, text

from contracts.money import Money
from deploy.servers import free_ports
from messaging import migrate
from messaging.database import Database
from messaging.memory import MemoryBroker, MemoryBus
from messaging.service import Service, participant_service
from messaging.settings import ServiceSettings
from orchestrator.assembly import orchestrator
from orchestrator.catalog import load
from orchestrator.schema import saga
from orchestrator.settings import OrchestratorSettings
from services.payment.assembly import payment_service
from services.payment.settings import PaymentSettings
from tests.acceptance.pages import ROOT, blocks
from tests.acceptance.programs import AMENDS, answers, eventually, finished, running
from tests.chaos.waiting import eventually as eventually_async

README = ROOT / "README.md"
CHEAP, DEAR = Money(amount=1499, currency="USD"), Money(amount=99_999_999, currency="USD")


@pytest.fixture
def trips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the package `trips`, as the README writes it, on the import path."""
    written = {block.file: block.text for block in blocks(README, "python") if block.file}
    assert sorted(written) == ["trips/desk.py", "trips/hotel.py", "trips/messages.py", "trips/saga.py"]
    (tmp_path / "trips").mkdir()
    for name, content in written.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [each for each in sys.modules if each.partition(".")[0] == "trips"]:
        del sys.modules[name]


def _rooms(url: str, count: int) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE room (number INTEGER PRIMARY KEY, trip TEXT)"))
        for number in range(1, count + 1):
            connection.execute(text("INSERT INTO room VALUES (:number, NULL)"), {"number": number})
    engine.dispose()


async def _ends(database: Database) -> dict[str, int]:
    async with database.reading() as connection:
        found = (await connection.execute(select(saga.c.status, saga.c.reason))).all()
    ends: dict[str, int] = {}
    for status, reason in found:
        words = f"{status}: {reason}" if reason else status
        ends[words] = ends.get(words, 0) + 1
    return ends


def _given(folder: Path, name: str) -> dict[str, Any]:
    url = SecretStr(f"sqlite:///{folder / name}.db")
    return {"database_url": url, "port": 0}


@pytest.fixture
async def house(trips: Path) -> AsyncIterator[dict[str, Service]]:
    """Orchestrator, hotel with two rooms, payment, and the desk's relay, joined by an exchange in memory."""
    broker = MemoryBroker()
    hotel: ModuleType = importlib.import_module("trips.hotel")
    _rooms(f"sqlite:///{trips / 'hotel.db'}", 2)

    def bus(name: str) -> MemoryBus:
        return MemoryBus(broker, service=name)

    services = {
        "orchestrator": orchestrator(
            OrchestratorSettings(**_given(trips, "orchestrator")), load(["trips.saga"]), bus("orchestrator")
        ),
        "hotel": participant_service(hotel.hotel, ServiceSettings(**_given(trips, "hotel")), bus("hotel")),
        "payment": payment_service(PaymentSettings(**_given(trips, "payment")), bus("payment")),
        "desk": Service(ServiceSettings(**_given(trips, "desk")), bus("desk"), name="desk"),
    }
    for service in services.values():
        await service.start()
    yield services
    for service in services.values():
        await service.drain()


async def test_the_trips_of_the_readme_are_booked_or_undone(house: dict[str, Service], trips: Path) -> None:
    """Each way of emitting starts a saga: two trips are paid, one finds no room, and a dear one gives its room back."""
    desk = importlib.import_module("trips.desk")
    database = house["orchestrator"].database
    engine = create_engine(f"sqlite:///{trips / 'desk.db'}")
    desk.Base.metadata.create_all(engine)

    async def ended(number: int) -> bool:
        ends = await _ends(database)
        return sum(ends.values()) == number and not any(each.startswith(("running", "compensating")) for each in ends)

    desk.request(engine, DEAR)
    assert await eventually_async(lambda: ended(1)), await _ends(database)
    await desk.request_async(house["desk"].database.engine, CHEAP)
    assert await eventually_async(lambda: ended(2)), await _ends(database)
    desk.request_collected(engine, CHEAP)
    assert await eventually_async(lambda: ended(3)), await _ends(database)
    desk.request(engine, CHEAP)
    assert await eventually_async(lambda: ended(4)), await _ends(database)
    engine.dispose()
    assert await _ends(database) == {
        "completed": 2,
        "compensated: authorize_payment was refused: payment.failed (card_declined)": 1,
        "compensated: book_room was refused: hotel.full (no_room)": 1,
    }


async def test_nothing_is_emitted_by_a_transaction_that_rolls_back(trips: Path) -> None:
    """When the desk's transaction fails after `emit`, no row is left in its outbox."""
    desk = importlib.import_module("trips.desk")
    url = f"sqlite:///{trips / 'desk.db'}"
    database = Database(url)
    await migrate.upgrade(database, [migrate.MESSAGING])
    await database.close()
    engine = create_engine(url)
    # Without the table `trip` the flush fails, after the event was added.
    with pytest.raises(Exception, match="no such table: trip"):
        desk.request(engine, CHEAP)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM outbox")).scalar_one() == 0
    desk.Base.metadata.create_all(engine)
    desk.request(engine, CHEAP)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT type FROM outbox")).scalars().all() == ["trip.requested"]
    engine.dispose()


def _commands() -> list[tuple[dict[str, str], list[str]]]:
    """The lines of the README that start the trips' processes: variables and words of each."""
    (block,) = [each for each in blocks(README, "sh") if "AMENDS_SAGAS" in each.text]
    lines = []
    for line in block.text.splitlines():
        words = shlex.split(line)
        settings = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
        lines.append((settings, words[len(settings) :]))
    return lines


def test_the_four_processes_of_the_readme_book_a_trip(trips: Path, amqp_url: str) -> None:
    """The README's own command lines, on a real broker, complete a saga that `amends list` shows."""
    commands = _commands()
    assert [words[:2] for _, words in commands] == [
        ["amends", "run"],
        ["python", "-m"],
        ["python", "-m"],
        ["amends", "relay"],
    ]
    _rooms(f"sqlite:///{trips / 'hotel.db'}", 1)
    with ExitStack() as stack:
        for number, ((settings, words), port) in enumerate(zip(commands, free_ports(4), strict=True)):
            # The port is the one thing that a test may not take from the page: it could be somebody's.
            given = settings | {"PORT": str(port), "AMQP_URL": amqp_url, "PYTHONPATH": f"{trips}:{ROOT}"}
            program = AMENDS if words[0] == "amends" else (sys.executable,)
            log = trips / f"{number}.log"
            stack.enter_context(running((*program, *words[1:]), trips, log, given))
            assert eventually(lambda port=port: answers(f"http://127.0.0.1:{port}/readyz")), log.read_text()  # type: ignore[misc]
        desk = importlib.import_module("trips.desk")
        engine = create_engine(f"sqlite:///{trips / 'desk.db'}")
        desk.Base.metadata.create_all(engine)
        desk.request(engine, CHEAP)
        engine.dispose()
        with sqlite3.connect(trips / "orchestrator.db") as connection:
            connection.execute("PRAGMA query_only = ON")

            def status() -> list[str]:
                return [row[0] for row in connection.execute("SELECT status FROM saga")]

            assert eventually(lambda: status() == ["completed"]), status()
        connection.close()
        listed = finished((*AMENDS, "list"), trips, DATABASE_URL="sqlite:///orchestrator.db")
    assert listed.returncode == 0, listed.stderr
    assert "1 completed" in listed.stdout
