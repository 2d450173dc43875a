"""Arguments that may name a bundle's file instead of a saga in the database, and those that may not."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from messaging.archive import is_gzip
from orchestrator.cli.opening import fail
from orchestrator.queries import NoSuchSaga
from orchestrator.replay.bundle import Bundle, InvalidBundle, read_bundle

ARCHIVE = ".jsonl.gz"


def bundle_named(wanted: str) -> Bundle | None:
    """The bundle in the file of this name, None where it is no file's; ends the command with 1 if it is no bundle."""
    if not _names_a_file(wanted):
        return None
    if archive_named(wanted) is not None:
        fail(
            f"{wanted} is an archive of many sagas, and this looks at one; `amends replay {wanted}` replays them all", 1
        )
    try:
        return read_bundle(Path(wanted))
    except InvalidBundle as error:
        fail(str(error), 1)


def archive_named(wanted: str) -> Path | None:
    """The archive that `amends prune` has written, by its name or, renamed, by how it begins; None for all else."""
    path = Path(wanted)
    return path if wanted.endswith(ARCHIVE) or is_gzip(path) else None


def only_in_database(wanted: str, error: NoSuchSaga) -> NoReturn:
    """End a command that takes no file with 1, saying so where one was meant, and else what `error` says."""
    if _names_a_file(wanted):
        fail(f"{wanted} names a file, and this looks in the database: give the id or the key of the saga in it", 1)
    fail(str(error), 1)


def _names_a_file(wanted: str) -> bool:
    # No id and no beginning of one ends so: a file that is missing is better called that.
    path = Path(wanted)
    try:
        return path.suffix == ".json" or wanted.endswith(ARCHIVE) or path.is_file()
    except OSError:  # a key may be longer than any file's name
        return False
