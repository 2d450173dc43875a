"""Arguments that may name a bundle's file instead of a saga in the database."""

from __future__ import annotations

from pathlib import Path

from orchestrator.cli.opening import fail
from orchestrator.replay.bundle import Bundle, InvalidBundle, read_bundle


def bundle_named(wanted: str) -> Bundle | None:
    """The bundle in the file of this name, None where it is no file's; ends the command with 1 if it is no bundle."""
    path = Path(wanted)
    # No id and no beginning of one ends so: a file that is missing is better called that.
    if not (_is_file(path) or path.suffix == ".json"):
        return None
    try:
        return read_bundle(path)
    except InvalidBundle as error:
        fail(str(error), 1)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a key may be longer than any file's name
        return False
