"""`amends replay` of prune's archives: what is torn, damaged or called something else is told, never passed over."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from messaging.archive import Archive
from orchestrator.archive import line
from orchestrator.cli.app import app
from tests.contract.orchestrator.digging import DIGGING
from tests.unit.begun import RecordedPlay
from tests.unit.play import NOON


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two instances, each a member of its own."""
    archive = Archive(tmp_path, "orchestrator", NOON)
    for key in (1, 2):
        archive.append([line(RecordedPlay(DIGGING, key).recorded)])
    assert archive.path is not None
    return archive.path


def _replayed(path: Path, *words: str) -> tuple[int, str, str]:
    environment = {"AMENDS_SAGAS": "tests.contract.orchestrator.digging", "DATABASE_URL": "sqlite:///none.db"}
    result = CliRunner().invoke(app, ["replay", str(path), *words], env=environment)
    return result.exit_code, result.stdout, result.stderr


def test_an_archive_that_ends_in_the_middle_is_told_and_ends_with_1(archive: Path) -> None:
    """What is whole before is replayed; the line on stderr says how much that was."""
    archive.write_bytes(archive.read_bytes()[:-20])
    code, told, complaint = _replayed(archive, "-o", "json")
    assert (code, json.loads(told)["instances"]) == (1, 1)
    assert complaint == f"amends: {archive} ends in the middle, after line 1; 1 instance read\n"


def test_an_empty_archive_is_told_and_ends_with_1(archive: Path) -> None:
    """A killed prune leaves one: nothing was read, which is not `all the same`."""
    archive.write_bytes(b"")
    code, told, complaint = _replayed(archive)
    assert (code, complaint) == (1, f"amends: {archive} ends before its first line; 0 instances read\n")
    assert "all the same" not in told


def test_a_damaged_archive_is_told_in_words(archive: Path) -> None:
    """No error number of the library's."""
    content = archive.read_bytes()
    archive.write_bytes(content[:12] + b"\xff\xff\xff\xff" + content[16:])
    assert _replayed(archive) == (
        1,
        "",
        f"amends: {archive} is damaged: it cannot be unpacked\n",
    )


def test_an_archive_is_known_by_how_it_begins(archive: Path) -> None:
    """Renamed, it replays all the same, and no command takes it for a bundle."""
    renamed = archive.rename(archive.with_name("old.gz"))
    code, told, complaint = _replayed(renamed, "-o", "json")
    assert (code, json.loads(told)["instances"], complaint) == (0, 2, "")
    assert gzip.decompress(renamed.read_bytes()).count(b"\n") == 2
    shown = CliRunner().invoke(app, ["show", str(renamed)])
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert f"{renamed} is an archive of many sagas" in shown.stderr
