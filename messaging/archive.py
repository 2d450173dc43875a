"""An archive of what is pruned: one gzip file of JSON lines a run, on the disk before a row is deleted.

Each `append` is a gzip member of its own, complete or, when the process was killed meanwhile, the file's torn end. What
a torn end held was not deleted yet: it lies in the database, and in the archive of the next run.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_PIECE = 64 * 1024
_GZIP = 31
"""For zlib: the gzip format, and the largest window."""
_MAGIC = b"\x1f\x8b"


class UnreadableArchive(ValueError):
    """A file is no archive of ours; says which, where and why."""


class TornArchive(UnreadableArchive):
    """A file ends in the middle: all that is whole before was read, and whoever reads it has to know."""


class ArchiveFailed(Exception):
    """An archive cannot be written; says where and why."""


class Archive:
    """Writes `NAME-20260301T120000Z.jsonl.gz` in a directory; the file appears with its first line."""

    def __init__(self, directory: Path, name: str, now: datetime) -> None:
        self._directory = directory
        self._stem = f"{name}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        self.path: Path | None = None

    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add lines and wait until the disk has them; raises ArchiveFailed."""
        if not lines:
            return
        try:
            self._append(lines)
        except OSError as error:
            where = self.path or self._directory
            raise ArchiveFailed(f"{where} cannot be written: {error.strerror or error}") from error

    def _append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        if self.path is None:
            self.path = self._create()
        text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
        with self.path.open("ab") as file:
            file.write(gzip.compress(text.encode(), mtime=0))
            file.flush()
            os.fsync(file.fileno())

    def _create(self) -> Path:
        self._directory.mkdir(parents=True, exist_ok=True)
        number = 0
        while True:
            path = self._directory / f"{self._stem}{f'-{number}' if number else ''}.jsonl.gz"
            try:
                path.touch(exist_ok=False)
            except FileExistsError:
                number += 1
                continue
            self._sync_directory()
            return path

    def _sync_directory(self) -> None:
        # Without this a power cut could lose the file's name, and with it all that it holds.
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_gzip(path: Path) -> bool:
    """Whether a file is there that begins as every gzip file does, whatever it is called."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:  # a word may be longer than any file's name; a file may be somebody else's
        return False


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of an archive, a piece of it in memory at a time.

    Raises OSError, TornArchive after the last whole line of a file that ends in the middle, and UnreadableArchive where
    the file is something else.
    """
    number = 0
    try:
        for number, line in enumerate(_lines(path), 1):
            content = json.loads(line)
            if not isinstance(content, dict):
                raise UnreadableArchive(f"{path}, line {number}: no JSON object")
            yield content
    except zlib.error as error:
        if not is_gzip(path):
            raise UnreadableArchive(f"{path} is no archive: it is not compressed with gzip") from error
        what = f"what comes after its line {number}" if number else "it"
        raise UnreadableArchive(f"{path} is damaged: {what} cannot be unpacked") from error
    except EOFError as error:
        ends = f"ends in the middle, after line {number}" if number else "ends before its first line"
        raise TornArchive(f"{path} {ends}") from error
    except UnreadableArchive:
        raise
    except ValueError as error:
        raise UnreadableArchive(f"{path}, line {number}: no JSON: {error}") from error


def _lines(path: Path) -> Iterator[bytes]:
    """Raises EOFError where the last member is not whole."""
    # The gzip module gives nothing of a piece that ends torn, not even the members before.
    rest, unpack = b"", zlib.decompressobj(_GZIP)
    with path.open("rb") as file:
        while piece := unpack.unused_data or file.read(_PIECE):
            unpack = zlib.decompressobj(_GZIP) if unpack.eof else unpack
            *lines, rest = (rest + unpack.decompress(piece)).split(b"\n")
            yield from lines
    if rest or not unpack.eof:
        raise EOFError
