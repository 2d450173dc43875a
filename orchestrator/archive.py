"""Pruned sagas in an archive: each a line, whole, and read back as what a replay takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from messaging.archive import UnreadableArchive, read
from orchestrator.replay.recorded import Recorded
from orchestrator.replay.unfit import unfit

FORMAT = 1
_RECORDED: TypeAdapter[Recorded] = TypeAdapter(Recorded)


def line(recorded: Recorded) -> dict[str, Any]:
    """An instance as its line: everything a replay needs but the definition."""
    content: dict[str, Any] = _RECORDED.dump_python(recorded, mode="json")
    return {"kind": "saga", "format": FORMAT, "recorded": content}


def recorded_in(path: Path) -> Iterator[Recorded]:
    """The instances in an archive, one in memory at a time.

    An instance may be there twice, where pruning was killed between archiving and deleting it: both are the same.
    Raises OSError, UnreadableArchive saying which line cannot be read, and TornArchive, one of these, after the last
    whole line of a file that ends in the middle: what it held besides is in the database, or in the next run's archive.
    """
    for number, content in enumerate(read(path), 1):
        if content.get("kind") != "saga":
            continue
        if content.get("format") != FORMAT:
            raise UnreadableArchive(
                f"{path}, line {number}: format {content.get('format')!r}; this version of Amends reads {FORMAT}"
            )
        try:
            yield _RECORDED.validate_python(content.get("recorded"), strict=False)
        except ValidationError as error:
            raise UnreadableArchive(f"{path}, line {number}: {unfit(error)}") from error
