"""The data of a corrected message: given whole, changed field by field, or written in a person's own editor."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from contracts.withheld import for_people
from orchestrator import redriving
from orchestrator.changed import changes as changed_places
from orchestrator.cli.changes import changes
from orchestrator.cli.opening import fail, json_given
from orchestrator.letters import Letter

EDITOR = "editor"


def edited(text: str, name: str) -> str | None:
    """What is saved of `text`, as a file of this name in $VISUAL or $EDITOR; None where nothing was changed.

    Ends the command with 2 where the editor cannot be started, and with 1 where it fails.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with TemporaryDirectory(prefix="amends-") as directory:
        path = Path(directory) / name
        path.write_text(text, encoding="utf-8")
        try:
            ended = subprocess.run([*shlex.split(editor), str(path)], check=False)  # noqa: S603 - the person's own program
        except (OSError, ValueError) as error:
            fail(f"the editor {editor!r} cannot be started ({error}); set EDITOR", 2)
        if ended.returncode != 0:
            fail(f"the editor {editor!r} ended with {ended.returncode}; nothing is sent", 1)
        saved = path.read_text(encoding="utf-8")
    return None if saved == text else saved


def given(letter: Letter, edit: str) -> object:
    """What `--edit` gives: JSON, a file of it, or what is saved in an editor that begins with the old data.

    Ends the command with 2 or 1 where that cannot be; raises Undeliverable where the old data cannot be read.
    """
    if edit != EDITOR:
        return json_given(edit)
    if not sys.stdin.isatty():
        fail("--edit editor needs a terminal; give --edit @FILE, or --edit - and the data on standard input", 2)
    before = json.dumps(redriving.data_of(letter), indent=2, ensure_ascii=False)
    text = edited(before, "message.json")
    if text is None:
        fail("nothing was changed; nothing is sent", 1)
    try:
        return json.loads(text)
    except ValueError as error:
        fail(f"what was saved is no JSON: {error}", 1)


def changed(letter: Letter, assignments: list[str]) -> object:
    """The old data with what `--set FIELD=VALUE` changes in it; ends the command with 2 where that cannot be.

    A value is JSON where it can be read as that, and text otherwise. Raises Undeliverable as above.
    """
    data = redriving.data_of(letter)
    for each in assignments:
        path, equals, value = each.partition("=")
        if not equals or not path:
            fail(f"--set {each!r}: write FIELD=VALUE, as in --set amount.amount=1200", 2)
        *way, name = path.split(".")
        place: Any = data
        for step in way:
            place = place.get(step) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            fail(f"--set {path}: {'.'.join(way) or 'the data'} is no object in this message", 2)
        place[name] = _value(value)
    return data


def difference(before: object, typed: object, sent: object) -> list[str]:
    """What a correction changes, field by field as a diff; all of both where either is no object.

    What is sent sealed is shown as it is typed, and says so; so does what is not sent, because its person is erased.
    """
    if not isinstance(before, dict) or not isinstance(typed, dict):
        return [] if before == typed else [f"- {_text(before)}", f"+ {_text(typed)}"]
    tokens = {each.path: each.after for each in changed_places(typed, sent)}
    lines = []
    for each in changes(before, typed):
        lines += [] if each.kind == "added" else [f"- {each.path}: {_text(each.before)}"]
        lines += [] if each.kind == "removed" else [f"+ {each.path}: {_text(each.after)}{_instead(each.path, tokens)}"]
    return lines


def _instead(path: str, tokens: Mapping[str, Any]) -> str:
    """What becomes of a value that is typed here, or within one of these places."""
    for place, token in tokens.items():
        if path == place or path.startswith((f"{place}.", f"{place}[")):
            return " (not sent: whom it is about is erased)" if "erased" in token else " (sent sealed)"
    return ""


def _text(value: object) -> str:
    return json.dumps(for_people(value), ensure_ascii=False)


def _value(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value
