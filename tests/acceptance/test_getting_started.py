"""docs/getting-started.md: how its trips grow."""

from __future__ import annotations

import importlib
import runpy
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from contracts.money import Money
from tests.acceptance.pages import blocks
from tests.acceptance.travel import GETTING_STARTED, ended, ends, files, house, importable
from tests.chaos.waiting import eventually

CHEAP, DEAR = Money(amount=1499, currency="USD"), Money(amount=99_999_999, currency="USD")


def test_every_file_of_the_page_is_used() -> None:
    """The page's Python is these files, each of which a test here or of the README runs, and so are its commands."""
    assert sorted(files(GETTING_STARTED)) == ["ask.py", "desk.py", "more_trips.py", "second_floor.py", "tables.py"]
    commands = [line for block in blocks(GETTING_STARTED, "sh") for line in block.text.splitlines()]
    assert [line for line in commands if not line.startswith("PORT=")] == [
        "python tables.py",
        "python ask.py",
        "DATABASE_URL=sqlite:///orchestrator.db amends list",
        "python second_floor.py",
        "python ask.py",
        "DATABASE_URL=sqlite:///orchestrator.db AMENDS_SAGAS=trips,more_trips amends list",
    ]


async def _ended(orchestrators: Path, number: int) -> bool:
    return ended(orchestrators, number)


async def test_the_second_version_gives_a_room_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way of emitting starts the second version: a dear trip gives its room back, two are paid, one finds none."""
    monkeypatch.chdir(tmp_path)
    orchestrators = tmp_path / "orchestrator.db"
    with importable(tmp_path):
        runpy.run_path("tables.py")
        trips, more, desk = (importlib.import_module(name) for name in ("trips", "more_trips", "desk"))
        async with house(tmp_path, ("trips", "more_trips"), more.hotel):
            engine = create_engine("sqlite:///desk.db")

            async def so_many(number: int) -> bool:
                return await eventually(partial(_ended, orchestrators, number))

            trips.request_trip(engine, "bob", DEAR)
            assert await so_many(1), ends(orchestrators)
            asynchronous = create_async_engine("sqlite+aiosqlite:///desk.db")
            await desk.request_async(asynchronous, "ada", CHEAP)
            await asynchronous.dispose()
            assert await so_many(2), ends(orchestrators)
            desk.request_collected(engine, "cleo", CHEAP)
            assert await so_many(3), ends(orchestrators)
            trips.request_trip(engine, "dan", CHEAP)
            assert await so_many(4), ends(orchestrators)
            with engine.connect() as connection:
                noted = connection.execute(text("SELECT customer FROM trip")).scalars().all()
            engine.dispose()
    assert ends(orchestrators) == {
        "completed": 2,
        "compensated: authorize_payment was refused: payment.failed (card_declined)": 1,
        "compensated: book_room was refused: hotel.full (no_room)": 1,
    }
    assert sorted(noted) == ["ada", "bob", "cleo", "dan"]
