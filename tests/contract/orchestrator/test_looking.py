"""`amends show` and `amends why` as programs, on both databases: exit codes, JSON, and one clear line a mistake."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from messaging import migrate
from messaging.database import Database
from orchestrator.assembly import MIGRATIONS
from orchestrator.saga.state import saga_id
from orchestrator.schema import saga
from tests import laying
from tests.acceptance.programs import AMENDS, finished
from tests.contract.orchestrator.office import Office
from tests.unit.work import Done, pivot, step, work_saga

MINE = saga_id("work", 9)
NOBODY = "amqp://guest:guest@127.0.0.1:1/"


@pytest.fixture
async def kept(database_url: str) -> str:
    """A database that holds one instance, whose step `dig` is done and whose `sign` is awaited; nobody runs."""
    database = Database(database_url)
    await laying.migrated(database, [migrate.MESSAGING, MIGRATIONS])
    office = Office(database)
    await office.employ(work_saga(step("dig"), pivot("sign")))
    await office.handle(office.begun(9))
    await office.handle(office.answer(9, "dig", Done()))
    await office.flush()
    await office.close()
    return database_url


async def amends(cwd: Path, url: str, *words: str, **given: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return await asyncio.to_thread(
        finished, (*AMENDS, *words), cwd, **({"DATABASE_URL": url, "AMQP_URL": NOBODY} | given)
    )


async def test_why_as_json(kept: str, tmp_path: Path) -> None:
    """The same facts as in the sentences, each cause with its name; what was not looked at is said."""
    ended = await amends(tmp_path, kept, "why", "9", "--output", "json")
    assert (ended.returncode, ended.stderr) == (0, "")
    told: dict[str, Any] = json.loads(ended.stdout)
    assert (told["id"], told["status"], told["ended_at"], told["stuck"]) == (str(MINE), "running", None, None)
    assert [cause["cause"] for cause in told["causes"]] == ["definition_missing", "nobody_acts"]
    (awaited,) = told["awaited"]
    assert (awaited["step"], awaited["command"], awaited["attempt"]) == ("sign", "work.do", 1)
    assert "cannot be reached" in told["broker"]


@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("show", "9"),
        ("why", "9"),
        ("watch", "--for", "1s"),
        ("watch", "9", "--for", "1s"),
        ("retry", "9", "--reason", "r", "--dry-run"),
    ],
)
async def test_a_moment_in_json_has_one_form_everywhere(kept: str, tmp_path: Path, words: tuple[str, ...]) -> None:
    """RFC 3339 in UTC with a T and a Z, whichever command prints it; no other spelling anywhere in it."""
    sagas = {"AMENDS_SAGAS": "tests.contract.orchestrator.digging", "AMENDS_ACCEPT_CHANGED": "work:1"}
    ended = await amends(tmp_path, kept, *words, "--output", "json", **sagas)
    found = re.findall(r"\d{4}-\d\d-\d\d.\d\d:\d\d:\d\d[^\"\\]*", ended.stdout)
    assert found, ended.stderr
    assert [each for each in found if not re.fullmatch(r"[-\d]{10}T[:\d]{8}(\.\d{6})?Z", each)] == []


async def test_why_in_sentences(kept: str, tmp_path: Path) -> None:
    """Data on stdout and nothing else anywhere; a broker that is away costs one line, and no failure."""
    ended = await amends(tmp_path, kept, "why", str(MINE)[:13])
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0] == f"work v1  {MINE}"
    assert lines[3] == "Most likely"
    assert lines[4].startswith("  work v1 is in no module that AMENDS_SAGAS names here.")
    assert [line for line in lines if line.startswith("  The queues: the broker at amqp://guest@127.0.0.1:1/ cannot")]


async def test_show_in_all_its_forms(kept: str, tmp_path: Path) -> None:
    """Table, diff, diagram and JSON tell of the same two transitions."""
    plain = await amends(tmp_path, kept, "show", "9")
    assert plain.stdout.splitlines()[-2].split()[:5] == ["2", "+0.00s", "worker", "work.done", "dig:"]
    diff = await amends(tmp_path, kept, "show", "9", "--data")
    assert [line.strip() for line in diff.stdout.splitlines() if line.startswith("   +")] == [
        "+ id: 9",
        "+ log: []",
        '+ log[0]: "dig done"',
    ]
    diagram = await amends(tmp_path, kept, "show", "9", "--mermaid")
    assert diagram.stdout.splitlines()[0] == "sequenceDiagram"
    assert "    p3->>p4: 2. work.done" in diagram.stdout.splitlines()
    programs = await amends(tmp_path, kept, "show", "9", "--output", "json")
    told = json.loads(programs.stdout)
    assert [each["data"] for each in told["entries"]] == [{"id": 9, "log": []}, {"id": 9, "log": ["dig done"]}]
    assert [each.returncode for each in (plain, diff, diagram, programs)] == [0, 0, 0, 0]


async def test_a_bundle_tells_the_same_story_without_a_database(kept: str, tmp_path: Path) -> None:
    """Its file, and no database at all, give what the database gives, to the letter; a broken one costs one line."""
    exported = await amends(
        tmp_path, kept, "export", "9", "-o", "saga.json", AMENDS_SAGAS="tests.contract.orchestrator.digging"
    )
    assert exported.returncode == 0, exported.stderr
    for form in (("--data",), ("--mermaid",), ("--output", "json")):
        there = await amends(tmp_path, kept, "show", "9", *form)
        here = await amends(tmp_path, "sqlite:///nowhere.db", "show", "saga.json", *form)
        assert (here.returncode, here.stderr, here.stdout) == (0, "", there.stdout)
    (tmp_path / "saga.json").write_text("{")
    broken = await amends(tmp_path, "sqlite:///nowhere.db", "show", "saga.json")
    assert (broken.returncode, broken.stdout, len(broken.stderr.splitlines())) == (1, "", 1)


async def test_mistakes_are_told_in_one_line(kept: str, tmp_path: Path) -> None:
    """Nothing by that name is 1, two forms at once are 2, no database is 69, an unknown module is 78."""
    for words, given, code, said in (
        (("why", "nothing"), {}, 1, "amends: no saga has the id or the key 'nothing'"),
        (("show", "nothing"), {}, 1, "amends: no saga has the id or the key 'nothing'"),
        (("show", "9", "--mermaid", "--output", "json"), {}, 2, "amends: --mermaid is text"),
        (("why", "9"), {"DATABASE_URL": "sqlite:///nowhere.db"}, 69, "amends: sqlite:///nowhere.db does not exist"),
        (("why", "9"), {"AMENDS_SAGAS": "no.such.module"}, 78, "amends: invalid saga: AMENDS_SAGAS names"),
    ):
        ended = await amends(tmp_path, kept, *words, **given)
        assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (code, "", 1), ended
        assert ended.stderr.startswith(said), ended.stderr


async def test_a_row_that_cannot_be_read_is_called_that(kept: str, tmp_path: Path) -> None:
    """A row changed by hand costs one line that names it, not a traceback."""
    database = Database(kept)
    async with database.transaction() as connection:
        await connection.execute(update(saga).values(progress="nonsense"))
    await database.close()
    for command in ("show", "why"):
        ended = await amends(tmp_path, kept, command, "9")
        assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (1, "", 1), ended
        assert str(MINE) in ended.stderr
        assert "cannot be read" in ended.stderr


async def test_with_its_definition_why_tells_of_a_row_that_cannot_be_read(kept: str, tmp_path: Path) -> None:
    """As the most likely cause, with what can be done; no traceback, and for programs by its name."""
    database = Database(kept)
    async with database.transaction() as connection:
        await connection.execute(update(saga).values(progress="nonsense"))
    await database.close()
    loaded = {"AMENDS_SAGAS": "tests.contract.orchestrator.digging"}
    ended = await amends(tmp_path, kept, "why", "9", **loaded)
    assert (ended.returncode, ended.stderr) == (0, "")
    words = " ".join(ended.stdout.split())
    assert "Most likely The state of an instance of Saga('work', version=1) cannot be read: expected" in words
    assert f"amends abandon {MINE} --reason" in ended.stdout
    told = json.loads((await amends(tmp_path, kept, "why", "9", "-o", "json", **loaded)).stdout)
    assert [each["cause"] for each in told["causes"]] == ["row_unreadable", "nobody_acts"]


async def test_why_looks_at_a_real_broker(kept: str, amqp_url: str, tmp_path: Path) -> None:
    """Queues that nobody has declared are missing, before and after: looking makes none."""
    for _ in range(2):
        ended = await amends(tmp_path, kept, "why", "9", "-o", "json", AMQP_URL=amqp_url)
        assert (ended.returncode, ended.stderr) == (0, "")
        told = json.loads(ended.stdout)
        missing = [cause["queue"] for cause in told["causes"] if cause["cause"] == "no_queue"]
        assert (missing, told["broker"]) == (["work.commands", "orchestrator.events"], "")
