"""Bundles: what is written is read back, and what is no bundle is told in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from orchestrator.replay.bundle import (
    Bundle,
    InvalidBundle,
    ParkedMessage,
    as_text,
    read_bundle,
    sealed_again,
    write_bundle,
)
from orchestrator.replay.recorded import Recorded, RecordedTransition

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

BUNDLE = Bundle(
    recorded=Recorded(
        id=UUID(int=1),
        name="work",
        version=1,
        key="7",
        status="running",
        step="stock",
        reason="",
        data='{"id":7,"log":["ä"],"share":1e16}',
        progress='{"steps":{}}',
        started_at=NOON,
        updated_at=NOON + timedelta(microseconds=1),
        deadline=None,
        transitions=(
            RecordedTransition(1, NOON, '{"kind":"deadline"}', '[{"fact":"completed"}]', "[]"),
            RecordedTransition(2, NOON, '{ "kind": "odd" }', '"text"', "no json"),
        ),
    ),
    parked=(ParkedMessage(UUID(int=2), "work.approved", "q", '{"id":"x"}', "early", NOON, NOON),),
    fingerprint="ab",
    description={"name": "work"},
    schemas={"work.begun.v1": {"type": "object"}},
    amends="0.1.0",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A bundle's file."""
    path = tmp_path / "work.json"
    write_bundle(BUNDLE, path)
    return path


def test_what_is_written_is_read_back_to_the_letter(path: Path) -> None:
    """A bundle comes back from its file with every stored text as it was, also one that is odd JSON or none."""
    assert read_bundle(path) == BUNDLE


def test_stored_json_can_be_read_by_people(path: Path) -> None:
    """Inputs, facts and data stand in the file as JSON, not as quoted text, where that loses nothing."""
    content = json.loads(path.read_text("utf-8"))
    assert content["history"][0] == {
        "seq": 1,
        "at": "2026-03-01T12:00:00Z",
        "input": {"kind": "deadline"},
        "facts": [{"fact": "completed"}],
        "commands": [],
    }
    # 1e16 would come back as 1e+16.
    assert content["instance"]["data"] == '{"id":7,"log":["ä"],"share":1e16}'
    assert content["parked"][0]["body"] == {"id": "x"}


def test_laying_it_out_afresh_keeps_the_seal(path: Path) -> None:
    """The checksum is of what a bundle says: sorted and without blanks it is the same bundle."""
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")), sort_keys=True, separators=(",", ":")), "utf-8")
    assert read_bundle(path) == BUNDLE


def _edited(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text("utf-8"))
    edit(content)
    path.write_text(json.dumps(content), "utf-8")


def _complaint(path: Path) -> str:
    with pytest.raises(InvalidBundle) as caught:
        read_bundle(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "FILE")


def test_an_edited_bundle_is_refused_until_it_is_sealed_again(path: Path) -> None:
    """Who edits a bundle is told how to say that it was on purpose; sealed again, it is read and says so itself."""
    _edited(path, lambda content: content["instance"].update(key="8"))
    assert _complaint(path) == (
        "FILE was changed after it was exported: its checksum does not fit what it says; "
        "if that was on purpose, say so with `amends seal FILE`, otherwise export the saga again"
    )
    path.write_text(sealed_again(path), "utf-8")
    assert read_bundle(path).recorded.key == "8"
    assert read_bundle(path).edited


def test_sealing_what_nobody_has_edited_changes_nothing(path: Path) -> None:
    """A bundle that is as it was exported does not become an edited one."""
    assert sealed_again(path) == as_text(BUNDLE)


def test_sealing_does_not_make_a_bundle_of_what_is_none(path: Path) -> None:
    """An edit that took a field away is refused however it is sealed."""
    _edited(path, lambda content: content["instance"].pop("key"))
    with pytest.raises(InvalidBundle, match=r"instance\.key is missing"):
        sealed_again(path)


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda content: content.pop("history"), "FILE: history is missing; export the saga again, or mend it"),
        (lambda content: content["history"][1].pop("input"), "FILE: history[1].input is missing; export"),
        (
            lambda content: content["history"].pop(0),
            "FILE: history: its transitions count 1, 2, 3, …, but number 1 of them is 2; export",
        ),
        (lambda content: content["instance"].update(id="x"), 'FILE: instance.id: expected a UUID, found "x"; export'),
        (lambda content: content.update(more=1), "FILE: more is nothing that is known here: 1; export"),
        (
            lambda content: content.update(format_version=2, amends="9.0"),
            "FILE has bundle format 2, made by Amends 9.0; this one reads formats up to 1",
        ),
        (lambda content: content.update(format_version="1.0"), 'FILE: format_version: expected 1, found "1.0"; export'),
        (
            lambda content: content["saga"].update(version="x"),
            'saga.version: expected a whole number, found "x"; export',
        ),
        (lambda content: content.update(parked={}), "parked: expected a list, found {}; export"),
        (lambda content: content.update(redacted="perhaps"), 'redacted: expected true or false, found "perhaps"'),
        (
            lambda content: content["history"][1].update(at="yesterday" * 50, seq=None),
            "FILE: history[1].seq: expected a whole number, found null; and 1 more; export",
        ),
        (
            lambda content: content["history"][0].update(at="yesterday " * 50),
            f'at: expected a moment, like 2026-03-01T12:00:00Z, found "{"yesterday " * 7}yesterda…; export',
        ),
        (
            lambda content: content["history"][0].update(at="2026-03-01T12:00:00"),
            "at: expected a moment with its time zone, like 2026-03-01T12:00:00Z, found",
        ),
        (lambda content: content.pop("format"), 'FILE is JSON, but no bundle: its "format" is not "amends.bundle"'),
    ],
)
def test_a_bundle_that_lacks_something_is_told_by_its_place(
    path: Path, edit: Callable[[dict[str, Any]], object], complaint: str
) -> None:
    """One line names the field, or the version, and what to do."""
    _edited(path, edit)
    assert complaint in _complaint(path)


def test_a_truncated_bundle_is_called_that_wherever_it_ends(path: Path) -> None:
    """Cut off at any place, it is said to be cut off; an empty file is said to be empty."""
    text = path.read_text("utf-8")
    for length in range(1, len(text) - 2):
        path.write_text(text[:length], "utf-8")
        assert "cut off" in _complaint(path), text[:length]
    path.write_text("", "utf-8")
    assert _complaint(path) == "FILE is empty; export the saga again"


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"not json at all", "FILE is no JSON: Expecting value in line 1, column 1"),
        (b"\xff\xfe", "FILE is no text: byte 0 is not UTF-8"),
        (b"[" * 100_000, "FILE is no JSON as a bundle has it"),
        (b'{"format": NaN}', "FILE is no JSON as a bundle has it: NaN is no JSON number"),
        (b"[1]", "FILE is JSON, but no bundle"),
    ],
)
def test_what_is_no_bundle_is_told(path: Path, raw: bytes, complaint: str) -> None:
    """Whatever the bytes, one line says what they are not."""
    path.write_bytes(raw)
    assert complaint in _complaint(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The line names the file and why it cannot be read."""
    assert _complaint(tmp_path / "none.json") == "FILE cannot be read: No such file or directory"
