"""The README's own code and commands: sixty lines that book trips."""

from __future__ import annotations

import importlib
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, event, text

from contracts.money import Money
from deploy.servers import free_ports
from messaging import migrate
from messaging.database import Database
from tests.acceptance.pages import ROOT, blocks
from tests.acceptance.programs import AMENDS, BOUND, answers, eventually, finished, running
from tests.acceptance.travel import GETTING_STARTED, README, ended, ends, files, importable


def test_the_example_is_sixty_lines_of_code(tmp_path: Path) -> None:
    """The README's Python is one file with at most sixty lines of code, none of them longer than the formatter's."""
    written = files(README)
    assert list(written) == ["trips.py"]
    code = [line for line in written["trips.py"].splitlines() if line.strip() and not line.startswith("#")]
    assert 40 < len(code) <= 60
    assert not [line for line in code if ";" in line]
    # What the formatter would spread over more lines must not be counted as fewer.
    (tmp_path / "trips.py").write_text(written["trips.py"], encoding="utf-8")
    check = (sys.executable, "-m", "ruff", "format", "--diff", "--config", str(ROOT / "pyproject.toml"), "trips.py")
    formatted = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert formatted.returncode == 0, formatted.stdout + formatted.stderr


async def test_nothing_is_emitted_by_a_transaction_that_rolls_back(tmp_path: Path) -> None:
    """A transaction that fails at its commit leaves neither the trip nor its event; one that commits leaves both."""
    url = f"sqlite:///{tmp_path / 'desk.db'}"
    database = Database(url)
    await migrate.upgrade(database, [migrate.MESSAGING])
    await database.close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE trip (id TEXT PRIMARY KEY, customer TEXT)"))

    def left() -> tuple[list[str], list[str]]:
        with engine.connect() as connection:
            trips = connection.execute(text("SELECT customer FROM trip")).scalars().all()
            return list(trips), list(connection.execute(text("SELECT type FROM outbox")).scalars())

    def full(_: object) -> None:
        raise OSError("no space left")

    price = Money(amount=1499, currency="USD")
    with importable(tmp_path):
        trips = importlib.import_module("trips")
        event.listen(engine, "commit", full)
        with pytest.raises(OSError, match="no space left"):
            trips.request_trip(engine, "ada", price)
        event.remove(engine, "commit", full)
        assert left() == ([], [])
        trips.request_trip(engine, "ada", price)
        assert left() == (["ada"], ["trip.requested"])
    engine.dispose()


def _processes(page: Path, place: int = 0) -> list[tuple[dict[str, str], list[str]]]:
    """The lines of a page's first or later block that starts the trips' processes: variables and words of each."""
    block = [each for each in blocks(page, "sh") if each.text.startswith("PORT=")][place]
    lines = []
    for line in block.text.splitlines():
        words = shlex.split(line)
        settings = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
        lines.append((settings, words[len(settings) :]))
    return lines


def _grow(stack: ExitStack, folder: Path, amqp_url: str, old: Mapping[str, subprocess.Popen[bytes]]) -> None:
    """The page's second version, on its own command lines, after four trips of the first: `old` are the processes that
    it replaces, by the port that the page gives them.
    """
    second = _processes(GETTING_STARTED, 1)
    assert [settings["PORT"] for settings, _ in second] == [*old]
    for process in old.values():
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    for (settings, words), port in zip(second, free_ports(2), strict=True):
        program = AMENDS if words[0] == "amends" else (sys.executable,)
        log = folder / f"second-{port}.log"
        given = settings | {"PORT": str(port), "AMQP_URL": amqp_url}
        stack.enter_context(running((*program, *words[1:]), folder, log, given))
        assert eventually(lambda port=port: answers(f"http://127.0.0.1:{port}/readyz")), log.read_text()  # type: ignore[misc]
    for script in ("second_floor.py", "ask.py"):
        ran = finished((sys.executable, script), folder)
        assert ran.returncode == 0, ran.stderr
    orchestrators = folder / "orchestrator.db"
    assert eventually(lambda: ended(orchestrators, 8)), ends(orchestrators)
    assert ends(orchestrators) == {
        "completed": 5,
        "compensated: authorize_payment was refused: payment.failed (card_declined)": 2,
        "compensated: book_room was refused: hotel.full (no_room)": 1,
    }
    with closing(sqlite3.connect(folder / "hotel.db")) as hotel:
        assert hotel.execute("SELECT count(*) FROM room WHERE number > 2 AND trip IS NULL").fetchone() == (1,)
    with closing(sqlite3.connect(orchestrators)) as connection:
        query = "SELECT id FROM saga WHERE version = 2 AND status = 'compensated'"
        ((bob,),) = connection.execute(query).fetchall()
    variables = {"DATABASE_URL": "sqlite:///orchestrator.db", "AMENDS_SAGAS": "trips,more_trips"}
    listed = finished((*AMENDS, "list"), folder, **variables)
    assert "3 compensated, 5 completed" in listed.stdout, listed.stderr
    shown = finished((*AMENDS, "show", str(bob)), folder, **variables)
    assert "hotel.release_room" in shown.stdout, shown.stderr
    assert "book_room: compensated" in shown.stdout


def test_the_four_processes_of_the_readme_book_trips(tmp_path: Path, amqp_url: str) -> None:
    """The README's code and command lines, on a real broker, pay two trips, refuse one and let one's money go; what
    getting started adds to them gives a room back.
    """
    commands = _processes(README)
    assert [words[:2] for _, words in commands] == [
        ["amends", "run"],
        ["python", "-m"],
        ["python", "-m"],
        ["amends", "relay"],
    ]
    assert _processes(GETTING_STARTED) == commands
    orchestrators = tmp_path / "orchestrator.db"
    with importable(tmp_path), ExitStack() as stack:
        made = finished((sys.executable, "tables.py"), tmp_path)
        assert made.returncode == 0, made.stderr
        ports = free_ports(4)
        processes = []
        for number, ((settings, words), port) in enumerate(zip(commands, ports, strict=True)):
            # The port is the one thing that a test may not take from the page: it could be somebody's.
            given = settings | {"PORT": str(port), "AMQP_URL": amqp_url}
            program = AMENDS if words[0] == "amends" else (sys.executable,)
            log = tmp_path / f"{number}.log"
            processes.append(stack.enter_context(running((*program, *words[1:]), tmp_path, log, given)))
        for number, port in enumerate(ports):
            log = tmp_path / f"{number}.log"
            assert eventually(lambda port=port: answers(f"http://127.0.0.1:{port}/readyz")), log.read_text()  # type: ignore[misc]
        asked = finished((sys.executable, "ask.py"), tmp_path)
        assert asked.returncode == 0, asked.stderr
        assert eventually(lambda: ended(orchestrators, 4)), ends(orchestrators)
        assert ends(orchestrators) == {
            "completed": 2,
            "compensated: authorize_payment was refused: payment.failed (card_declined)": 1,
            "compensated: book_room was refused: hotel.full (no_room)": 1,
        }
        audit = httpx.get(f"http://127.0.0.1:{ports[1]}/audit", trust_env=False, timeout=BOUND).json()
        listed = finished((*AMENDS, "list"), tmp_path, DATABASE_URL="sqlite:///orchestrator.db")
        _grow(stack, tmp_path, amqp_url, {commands[place][0]["PORT"]: processes[place] for place in (0, 2)})
    assert audit["held"] in ({}, {"USD": 0}), audit
    # Two of 14.99, 20.00 and 30.00: which one came too late for a room is the broker's to say.
    assert audit["captured"]["USD"] in (3499, 4499, 5000), audit
    assert listed.returncode == 0, listed.stderr
    assert "2 compensated, 2 completed" in listed.stdout
