"""`amends subjects`: what it prints, keeps and refuses; the statements are looked at in test_subject_store.py."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from messaging.clock import SystemClock
from messaging.database import Database
from messaging.subject_keys import SubjectKey
from messaging.subjects import erasing, rewrapping
from messaging.subjects.settings import SubjectsSettings
from messaging.subjects.store import store_of
from orchestrator.cli.app import app


@dataclass
class _Desk:
    """Where a person sits who looks after the keys: the database and a folder of master keys."""

    place: Path
    url: str
    more: dict[str, str] = field(default_factory=dict)

    @property
    def masters(self) -> Path:
        return self.place / "masters"

    def run(self, *words: str, **more: str) -> Result:
        environment = {"AMENDS_SUBJECT_KEYS": self.url, "AMENDS_MASTER_KEYS": str(self.masters), "TZ": "UTC"}
        return CliRunner().invoke(app, ["subjects", *words], env={"COLUMNS": "100", **environment, **self.more, **more})

    def said(self, *words: str, **more: str) -> str:
        ended = self.run(*words, **more)
        assert ended.exit_code == 0, ended.stderr
        return ended.stdout

    def keys(self, *subjects: str) -> Mapping[str, SubjectKey | None]:
        """As a service makes and opens them."""
        settings = SubjectsSettings.model_validate(
            {
                "subject_keys": self.url,
                "master_keys": self.masters,
                "master_key_id": self.more.get("AMENDS_MASTER_KEY_ID"),
            }
        )

        async def ensure() -> Mapping[str, SubjectKey | None]:
            store = store_of(settings, SystemClock())
            assert store is not None
            try:
                return await store.ensure(subjects)
            finally:
                await store.close()

        return asyncio.run(ensure())


def _furnished(desk: _Desk) -> _Desk:
    desk.masters.mkdir()
    assert desk.said("migrate").endswith(": messaging.subjects at head\n")
    file = desk.masters / "2025.json"
    assert desk.said("master", "new", str(file), "--id", "2025") == f"{file}: 2025\n"
    return desk


@pytest.fixture
def desk(sqlite_url: str, tmp_path: Path) -> _Desk:
    """With a table and one master key, and no person yet."""
    return _furnished(_Desk(tmp_path, sqlite_url))


def test_a_person_is_erased_with_who_and_why(database_url: str, tmp_path: Path) -> None:
    """Asked first, done once, and kept; the key is never shown."""
    desk = _furnished(_Desk(tmp_path, database_url))
    ada = desk.keys("ada", "bob")["ada"]
    assert ada is not None
    told = desk.said("show", "ada")
    assert re.fullmatch(
        rf"the key {ada.id} of ada was made \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\nit is wrapped by the master key 2025\n",
        told,
    )
    assert desk.said("show", ada.id) == told
    words = ("erase", "ada", "--reason", "request 114", "--as", "grace")
    assert desk.said(*words, "--dry-run") == f"would erase ada, key {ada.id}\n"
    ended = desk.run("erase", ada.id, "--reason", "request 114", "--yes")
    assert (ended.exit_code, ended.stderr) == (1, f"amends: {ada.id} is the id of the key of ada: name the person\n")
    # Nobody answers.
    assert desk.run(*words).exit_code == 1
    assert desk.keys("ada") == {"ada": ada}

    ended = desk.run(*words, "--yes")
    assert (ended.exit_code, ended.stdout) == (0, f"erased ada, key {ada.id}\n")
    assert ended.stderr == "amends: processes that have used a key forget it within 10 s\n"
    assert desk.keys("ada") == {"ada": None}
    shown = json.loads(desk.said("show", "ada", "-o", "json"))
    assert (shown["id"], shown["master"], shown["erased_by"], shown["erased_why"]) == (
        ada.id,
        None,
        "grace",
        "request 114",
    )
    assert datetime.fromisoformat(shown["erased_at"]).tzinfo is not None
    assert re.search(
        r"^ada was erased .* by grace\nbecause: request 114\nthe key \S+ of ada was made ", desk.said("show", "ada")
    )

    ended = desk.run("erase", "ada", "--reason", "once more", "--yes")
    assert (ended.exit_code, ended.stdout) == (0, "nobody to erase\n")
    assert "erased before: ada was erased" in ended.stderr
    assert "because: request 114" in ended.stderr


def test_somebody_who_was_never_seen_is_erased_too(desk: _Desk) -> None:
    """So that nobody makes a key later."""
    assert desk.said("erase", "carl", "--reason", "asked", "--yes") == "erased carl, of whom there is no key yet\n"
    assert desk.keys("carl") == {"carl": None}
    assert desk.said("show", "carl").endswith("because: asked\nthere was no key yet\n")


def test_after_a_backup_came_back_what_was_erased_is_erased_again(desk: _Desk) -> None:
    """From the list that was kept, with the moments, names and reasons of then."""
    desk.keys("ada", "bob")
    for name in ("ada", "carl"):
        desk.said("erase", name, "--reason", "asked", "--as", "grace", "--yes")
    listed = desk.said("erasures", "-o", "json")
    assert [each["subject"] for each in json.loads(listed)] == ["ada", "carl"]
    assert desk.said("erasures").splitlines()[0].split() == ["person", "erased", "by", "why"]
    assert desk.said("erasures", "--since", "2999-01-01", "-o", "json") == "[]\n"
    kept = desk.place / "erasures.json"
    kept.write_text(listed)
    assert desk.said("erase", "--again", str(kept)) == "nobody to erase\n"

    async def restore() -> None:
        database = Database(desk.url)
        async with database.transaction() as connection:
            await connection.exec_driver_sql("DELETE FROM subject_key")
        await database.close()

    asyncio.run(restore())
    desk.keys("ada", "bob")
    assert desk.said("erase", "--again", str(kept), "--yes") == "erased 2 persons, 1 of whom there is no key yet\n"
    assert desk.said("erasures", "-o", "json") == listed
    assert desk.keys("ada", "bob", "carl").keys() == {"ada", "bob", "carl"}
    assert [name for name, key in desk.keys("ada", "bob", "carl").items() if key is None] == ["ada", "carl"]


def test_a_new_master_key_takes_over(desk: _Desk) -> None:
    """What is made next it wraps; `rewrap` wraps the rest anew; then the old one is needed no more."""
    before = desk.keys("ada", "bob")
    desk.said("master", "new", str(desk.masters / "2026.json"), "--id", "2026")
    ended = desk.run("rewrap")
    assert (ended.exit_code, ended.stdout) == (78, "")
    assert "holds several master keys (2025, 2026): say in AMENDS_MASTER_KEY_ID" in ended.stderr
    desk.more["AMENDS_MASTER_KEY_ID"] = "2026"
    before = {**before, **desk.keys("carl")}

    assert desk.said("rewrap", "--dry-run") == "would wrap 2 keys by the master key 2026\n"
    assert desk.said("rewrap", "--dry-run", "-o", "json") == '{\n  "keys": 2,\n  "damaged": []\n}\n'
    assert desk.run("rewrap").stderr.startswith("wrap 2 keys by the master key 2026 (2 by 2025 now)?")
    assert desk.said("rewrap", "--yes") == "wrapped 2 keys by the master key 2026\n"
    assert desk.said("rewrap", "--yes") == "nothing to wrap anew\n"
    (desk.masters / "2025.json").unlink()
    assert desk.keys("ada", "bob", "carl") == before


def test_what_cannot_be_wrapped_anew_is_told(desk: _Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A master key that is not here before anything begins; a key that does not open at the end, after all others."""
    monkeypatch.setattr(rewrapping, "BATCH", 1)
    bob = desk.keys("ada", "bob", "carl")["bob"]
    assert bob is not None
    old = (desk.masters / "2025.json").rename(desk.place / "2025.json")
    desk.said("master", "new", str(desk.masters / "2026.json"), "--id", "2026")
    ended = desk.run("rewrap", "--yes")
    assert (ended.exit_code, ended.stdout) == (78, "")
    assert ended.stderr == "amends: not in AMENDS_MASTER_KEYS: 2025, which wraps 3 keys\n"

    old.rename(desk.masters / "2025.json")

    async def spoil() -> None:
        database = Database(desk.url)
        async with database.transaction() as connection:
            await connection.exec_driver_sql("UPDATE subject_key SET wrapped = 'spoiled' WHERE subject = 'bob'")
        await database.close()

    asyncio.run(spoil())
    ended = desk.run("rewrap", "--yes", AMENDS_MASTER_KEY_ID="2026")
    assert (ended.exit_code, ended.stdout) == (1, "wrapped 2 keys by the master key 2026\n")
    assert f"damaged, restore them from a backup: {bob.id}\n" in ended.stderr


def test_what_could_not_be_overwritten_is_told_and_done_the_next_time(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite keeps what a reader may still look at; the person is erased all the same."""
    monkeypatch.setattr(erasing, "OVERWRITING_SECONDS", 0.05)
    desk = _furnished(_Desk(tmp_path, sqlite_url))
    desk.keys("ada", "bob")
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(file)) as reader:
        reader.execute("BEGIN")
        (wrapped,) = reader.execute("SELECT wrapped FROM subject_key WHERE subject = 'ada'").fetchone()
        ended = desk.run("erase", "ada", "--reason", "request 7", "--as", "carl", "--yes")

    assert (ended.exit_code, ended.stdout.partition(",")[0]) == (1, "erased ada")
    assert "its files still hold what the master key opens: run the same again" in ended.stderr
    assert desk.keys("ada") == {"ada": None}
    assert desk.said("erase", "ada", "--reason", "request 7", "--yes") == "nobody to erase\n"
    written = b"".join(each.read_bytes() for each in file.parent.glob(f"{file.name}*"))
    assert wrapped.encode() not in written
    assert desk.keys("bob")["bob"] is not None


# -- what needs no server ------------------------------------------------------------------------------------


def test_a_master_key_is_its_owners_and_never_written_over(sqlite_url: str, tmp_path: Path) -> None:
    """The file has the key, nobody else may read it, and its name is its own."""
    desk = _Desk(tmp_path, sqlite_url)
    file = tmp_path / "key.json"
    told = desk.said("master", "new", str(file))
    said = json.loads(file.read_text())
    assert told == f"{file}: {said['kid']}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert said["k"] not in told
    for words, code, complaint in (
        ((str(file),), 1, f"there already: {file}; a key is never written over"),
        ((str(tmp_path / "none" / "key.json"),), 1, "cannot be written: No such file or directory"),
        ((str(tmp_path / "other.json"), "--id", "a b"), 2, "'a b' cannot be a key's id"),
    ):
        ended = desk.run("master", "new", *words)
        assert (ended.exit_code, ended.stdout) == (code, "")
        assert complaint in ended.stderr
    assert json.loads(file.read_text()) == said


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (("show", "nobody"), 1, "nobody has made a key for 'nobody', nor erased one, nor is it the id of a key"),
        (("erase",), 2, "say who is meant, and --reason why; or --again FILE"),
        (("erase", "ada"), 2, "say who is meant, and --reason why; or --again FILE"),
        (("erase", "ada", "--reason", " "), 2, "say who is meant, and --reason why; or --again FILE"),
        (("erase", "x" * 201, "--reason", "asked"), 2, "cannot be a subject: 1 to 200 characters"),
        (("erase", "ada", "--again", "list.json"), 2, "--again takes everything from the file"),
        (("erase", "--again", "none.json"), 2, "none.json cannot be read: No such file or directory"),
        (("erase", "--again", "list.json"), 2, "list.json is not what `amends subjects erasures --output json` prints"),
        (("erase", "--again", "naive.json"), 2, "naive.json is not what `amends subjects erasures"),
        (("erase", "--again", "number.json"), 2, "number.json is not what `amends subjects erasures"),
        (("erasures", "--since", "yesterday"), 2, "--since 'yesterday': write"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, tuple) else None,
)
def test_what_cannot_be_done_is_said_in_a_line(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, complaint: str
) -> None:
    """With the exit code of its kind, and nothing on stdout."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text('[{"subject": "ada"}]')
    whole = {"subject": "ada", "at": "2026-03-01T12:00:00+00:00", "by": "ada", "why": "asked"}
    for name, wrong in (("naive", {"at": "2026-03-01T12:00:00"}), ("number", {"subject": 7})):
        (tmp_path / f"{name}.json").write_text(json.dumps([whole | wrong]))
    desk = _Desk(tmp_path, sqlite_url)
    desk.said("migrate")
    ended = desk.run(*words)
    assert (ended.exit_code, ended.stdout) == (code, "")
    assert complaint in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "code", "complaint"),
    [
        ("", 78, "AMENDS_SUBJECT_KEYS must say where the keys of persons are"),
        (
            "sqlite:///none.db",
            69,
            "does not exist; set AMENDS_SUBJECT_KEYS, or run `amends subjects migrate` to make it",
        ),
        ("postgresql://a:secret@127.0.0.1:1/keys", 69, "start it, or set AMENDS_SUBJECT_KEYS"),
        ("mysql://a:secret@there/keys", 78, "AMENDS_SUBJECT_KEYS: 'mysql' is no database that Amends runs on"),
    ],
)
def test_a_database_that_is_not_there_is_said_in_a_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    url: str,
    code: int,
    complaint: str,
) -> None:
    """With the variable that names it, and no password."""
    monkeypatch.chdir(tmp_path)
    ended = _Desk(tmp_path, url).run("show", "ada")
    said = ended.stderr + capsys.readouterr().err
    assert (ended.exit_code, ended.stdout) == (code, "")
    assert complaint in said
    assert "secret" not in said
