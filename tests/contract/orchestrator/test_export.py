"""amends export, seal and replay of bundles, on what a real engine has written into real databases."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from typer.testing import CliRunner, Result

from messaging.database import Database
from orchestrator import versions
from orchestrator.catalog import Catalog
from orchestrator.cli.app import app
from orchestrator.saga.state import Direction, saga_id
from tests.acceptance.pages import ROOT
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.conftest import make_tables
from tests.contract.orchestrator.office import Office
from tests.unit.clinic import CLINIC, Agreed, Insured, Left, Released
from tests.unit.test_redacting import PATIENT
from tests.unit.work import step, work_saga

KEY = "ada@lovelace.example/east"
IDENTITY = saga_id("clinic", KEY)
NAMES = ("lovelace", "Byron", "James", "48151", "1815-12-10", "Isabella", "5c0a2f36", "POL-77-ab")


async def _treat(database_url: str) -> Office:
    """One patient who was insured, has consented too early, and has left; the engine has stopped."""
    database = Database(database_url)
    await make_tables(database)
    await versions.check(database, Catalog([CLINIC]), (), NOON)
    office = Office(database)
    await office.employ(CLINIC)
    early = Agreed(email=PATIENT.email, signed="Ada B.")
    await office.handle(office.delivery(PATIENT, correlation_id=None))
    await office.handle(office.delivery(early, correlation_id=None))
    await office.retire()
    return office


async def _leave(office: Office) -> None:
    await office.employ(CLINIC)
    await office.handle(office.answer_to(IDENTITY, "insurance", Insured(policy="POL-77-ab")))
    await office.handle(office.delivery(Left(email=PATIENT.email), correlation_id=None))
    await office.handle(office.answer_to(IDENTITY, "insurance", Released(), direction=Direction.COMPENSATION))
    await office.retire()


@pytest.fixture
async def left(database_url: str) -> AsyncIterator[str]:
    """The URL of a database with a saga in it that was compensated."""
    office = await _treat(database_url)
    await _leave(office)
    yield database_url
    await office.close()


@pytest.fixture
async def treated(database_url: str) -> AsyncIterator[str]:
    """The URL of a database with one saga in it, and an event parked for it."""
    office = await _treat(database_url)
    yield database_url
    await office.close()


async def _amends(*words: object, url: str = "", sagas: str = "tests.unit.clinic") -> Result:
    environment = {"DATABASE_URL": url or "sqlite:///nothing-here.db", "AMENDS_SAGAS": sagas, "COLUMNS": "120"}
    arguments = [str(word) for word in words]
    # The commands run a loop of their own.
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, arguments, env=environment))


def _complaint(result: Result, code: int) -> str:
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return str(result.stderr).strip()


async def test_both_databases_give_the_same_bundle(sqlite_url: str, postgres_url: str) -> None:
    """To the letter, with history, definition, schemas and what is parked."""
    texts = []
    for url in (sqlite_url, postgres_url):
        office = await _treat(url)
        result = await _amends("export", KEY, url=url)
        await office.close()
        assert (result.exit_code, result.stderr) == (0, "")
        texts.append(result.stdout)
    assert texts[0] == texts[1]
    content = json.loads(texts[0])
    assert content["saga"] == {"name": "clinic", "version": 1}
    assert content["instance"]["key"] == KEY
    assert [each["input"]["type"] for each in content["history"]] == ["clinic.admitted"]
    assert [each["body"]["data"]["signed"] for each in content["parked"]] == ["Ada B."]
    assert len(content["definition"]["fingerprint"]) == 64
    assert content["schemas"]["clinic.discharged.v1"]["x-amends"]["kind"] == "event"


async def test_a_bundle_replays_without_a_database(treated: str, tmp_path: Path) -> None:
    """What was exported from either database is the same to this checkout, and so is what was redacted."""
    plain, redacted = tmp_path / "plain.json", tmp_path / "redacted.json"
    exported = await _amends("export", KEY, "-o", plain, url=treated)
    assert (await _amends("export", KEY, "-o", "-", url=treated)).stdout == plain.read_text()
    assert (exported.exit_code, exported.stdout, exported.stderr) == (0, "", f"written: {plain}\n")
    assert (await _amends("export", KEY, "--redact", "-o", redacted, url=treated)).stderr == f"written: {redacted}\n"
    for path in (plain, redacted):
        result = await _amends("replay", path)
        assert result.exit_code == 0, result.output
        assert "same: 1 transition as recorded" in result.stdout


async def test_redacted_nothing_is_left(left: str, tmp_path: Path) -> None:
    """Of nothing that is marked is there a trace; redacting a bundle's file does the same."""
    plain = tmp_path / "plain.json"
    await _amends("export", KEY, "-o", plain, url=left)
    assert [name for name in NAMES if name not in plain.read_text("utf-8")] == []
    for source in (KEY, plain):
        result = await _amends("export", source, "--redact", url=left)
        assert result.exit_code == 0, result.output
        assert [name for name in NAMES if name in result.stdout] == []
        assert str(IDENTITY) not in result.stdout
        assert json.loads(result.stdout)["redacted"]


async def test_a_saga_becomes_a_test_that_passes(left: str, tmp_path: Path) -> None:
    """One command writes the test and the bundle beside it; pytest runs it with no database and no setting."""
    target = tmp_path / "test_ada.py"
    result = await _amends("export", KEY, "--as-test", "-o", target, url=left)
    assert result.stdout.splitlines() == [str(target), str(tmp_path / "test_ada.json")]
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(target))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DATABASE_URL": "no database"}
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


async def test_nothing_is_written_over_unasked(treated: str, tmp_path: Path) -> None:
    """Neither a bundle nor either file of a test; with --force they are."""
    target = tmp_path / "test_ada.json"
    target.write_text("mine", "utf-8")
    assert _complaint(await _amends("export", KEY, "-o", target, url=treated), 1) == (
        f"amends: {target} is there already; give another -o, or --force to write over it"
    )
    as_test = ("export", KEY, "--as-test", "-o", target.with_suffix(".py"))
    assert _complaint(await _amends(*as_test, url=treated), 1).startswith(f"amends: {target} is there already")
    assert not target.with_suffix(".py").exists()
    assert target.read_text("utf-8") == "mine"
    assert (await _amends(*as_test, "--force", url=treated)).exit_code == 0
    assert target.read_text("utf-8") != "mine"


async def test_an_edited_bundle_must_be_sealed(treated: str, tmp_path: Path) -> None:
    """Replay refuses it and names the command; sealed, it replays, and what was edited is the difference."""
    path = tmp_path / "ada.json"
    await _amends("export", KEY, "-o", path, url=treated)
    path.write_text(path.read_text("utf-8").replace('"attempt": 1', '"attempt": 2'), "utf-8")
    assert f"`amends seal {path}`" in _complaint(await _amends("replay", path), 1)
    assert (await _amends("seal", path)).exit_code == 0
    result = await _amends("replay", path)
    assert result.exit_code == 1
    assert "different" in result.stdout


async def test_bad_requests_get_one_line(treated: str, tmp_path: Path) -> None:
    """An unknown id, a saga that is not loaded, a file that is missing or no bundle, a folder that is not there."""
    assert "no saga has the id or the key 'zz'" in _complaint(await _amends("export", "zz", url=treated), 1)
    assert "no saga has the id or the key 'z" in _complaint(await _amends("export", "z" * 5000, url=treated), 1)
    assert _complaint(await _amends("export", KEY, url=treated, sagas="docs.examples.trip.saga"), 1) == (
        "amends: saga 'clinic' v1 is not loaded, and without it nobody knows its contracts; "
        "AMENDS_SAGAS loads book_trip v1: name the module that holds it, too"
    )
    assert "cannot be read: No such file" in _complaint(await _amends("export", tmp_path / "none.json"), 1)
    target = tmp_path / "none" / "a.json"
    assert f"{target} cannot be written: No such file" in _complaint(
        await _amends("export", KEY, "-o", target, url=treated), 1
    )
    (tmp_path / "odd.json").write_text("{}", "utf-8")
    for words in (
        ("export", tmp_path / "odd.json"),
        ("replay", tmp_path / "odd.json"),
        ("seal", tmp_path / "odd.json"),
    ):
        assert "is JSON, but no bundle" in _complaint(await _amends(*words), 1)
    assert "does not exist" in _complaint(await _amends("export", KEY), 69)
    assert "a test is a Python file: -o" in _complaint(
        await _amends("export", KEY, "--as-test", "-o", tmp_path / "a.txt", url=treated), 2
    )


async def test_an_ambiguous_id_is_told(database_url: str) -> None:
    """Of a hundred ids two begin alike, with what is no key; the line names them."""
    database = Database(database_url)
    await make_tables(database)
    office = Office(database)
    await office.employ(work_saga(step("stock")))
    await office.handle(*[office.begun(number) for number in range(100)])
    await office.close()
    first = [str(saga_id("work", number))[0] for number in range(100)]
    letter = next(each for each in first if first.count(each) > 1 and each in "abcdef")
    assert "fits more than one saga" in _complaint(await _amends("export", letter, url=database_url), 1)


async def test_who_marks_nothing_is_told_so(database_url: str) -> None:
    """A redacted bundle of contracts without a mark holds everything as it was, and the command says that."""
    database = Database(database_url)
    await make_tables(database)
    office = Office(database)
    await office.employ(work_saga(step("stock")))
    await office.handle(office.begun(7))
    await office.close()
    result = await _amends("export", "7", "--redact", url=database_url, sagas="tests.contract.orchestrator.unmarked")
    assert result.exit_code == 0
    assert "nothing in Saga('work', version=1) is marked sensitive" in result.stderr
    assert json.loads(result.stdout)["instance"]["id"] == str(saga_id("work", 7))


async def test_a_function_that_looks_at_what_is_sensitive_is_told(treated: str, tmp_path: Path) -> None:
    """Where the definition does not only pass a value on, the command says that and what differs."""
    result = await _amends("export", KEY, "--redact", url=treated, sagas="tests.contract.orchestrator.looking_at_names")
    assert result.exit_code == 0
    assert "redacted, it does not replay as it was recorded" in result.stderr
    assert UUID(json.loads(result.stdout)["instance"]["id"]) != IDENTITY
