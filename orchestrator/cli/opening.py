"""What every command opens: the configuration, the sagas, the database, the terminal; and how it fails."""

from __future__ import annotations

import getpass
import os
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console

from messaging import reaching
from messaging.clock import SystemClock
from messaging.commandline import span
from messaging.database import Database
from messaging.process import EX_CONFIG
from messaging.reaching import Output, OutputOption, reach
from messaging.settings import ServiceSettings
from messaging.strict_json import NotStrictJson, loads
from orchestrator import catalog as catalogs
from orchestrator.catalog import Catalog
from orchestrator.cli.pictures import WHOLE, plain_lines
from orchestrator.saga.steps import InvalidSaga
from orchestrator.settings import OrchestratorSettings

__all__ = [
    "PROGRAM",
    "Output",
    "OutputOption",
    "catalog_of",
    "fail",
    "json_given",
    "length_of",
    "login",
    "moment",
    "moment_ahead",
    "screen",
    "warn",
    "with_database",
]

T = TypeVar("T")
PROGRAM = "amends"


def catalog_of(settings: OrchestratorSettings) -> Catalog:
    """The sagas that AMENDS_SAGAS names; ends the command with 78 where one is invalid."""
    # A console script does not have the working directory on its path, where a team's modules lie.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return catalogs.load(settings.sagas)
    except InvalidSaga as error:
        fail(f"invalid saga: {error}", EX_CONFIG)


def with_database(settings: ServiceSettings, act: Callable[[Database], Awaitable[T]]) -> T:
    """Do something with the database; ends the command with one line where it is away (69) or has no tables (78).

    Where there are shards, and nobody says which is meant, it ends with 78.
    """
    if isinstance(settings, OrchestratorSettings) and settings.shards and settings.shard is None:
        fail(
            f"AMENDS_SHARDS names {len(settings.shards)} databases, and this looks into one: say which, "
            f"AMENDS_SHARD=0 to {len(settings.shards) - 1}",
            EX_CONFIG,
        )
    return reach(settings, act, program=PROGRAM)


def json_given(text: str) -> Any:
    """JSON from an argument: the text itself, `@FILE`, or `-` for standard input; ends the command with 2."""
    try:
        content = sys.stdin.read() if text == "-" else Path(text[1:]).read_text() if text.startswith("@") else text
        return loads(content.encode())
    except OSError as error:
        fail(f"{text[1:]} cannot be read: {error.strerror}", 2)
    except UnicodeError:
        fail(f"{text[1:] or 'standard input'} is no UTF-8 text", 2)
    except NotStrictJson as error:
        said = str(error)
        fail(f"that is {said}" if said.startswith("no JSON") else f"that JSON cannot be taken: {said}", 2)


def moment(text: str, option: str = "--since") -> datetime:
    """What `option` says: so long ago, or a moment; ends the command with 2."""
    complaint = f"{option} {text!r}: write 90s, 15m, 2h, 3d, or a moment like 2026-01-31T12:00:00+00:00"
    length = span(text)
    return _moment(text, complaint) if length is None else _after(-length, complaint)


def moment_ahead(text: str) -> datetime:
    """`--to`: in so long, or a moment; ends the command with 2."""
    complaint = f"--to {text!r}: write +90s, +15m, +2h, +3d, or a moment like 2026-01-31T12:00:00+00:00"
    length = span(text[1:]) if text.startswith("+") else None
    return _moment(text, complaint) if length is None else _after(length, complaint)


def length_of(option: str, text: str) -> timedelta:
    """An option's length of time; ends the command with 2."""
    found = span(text)
    if found is None:
        fail(f"{option} {text!r}: write 90s, 15m, 2h or 30d", 2)
    return found


def _after(length: timedelta, complaint: str) -> datetime:
    try:
        return SystemClock().now() + length
    except OverflowError:
        fail(complaint, 2)


def _moment(text: str, complaint: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(complaint, 2)
    return moment if moment.tzinfo is not None else moment.astimezone()


def login() -> str:
    """Who has given the command; ends it with 2 where that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        fail("your login has no name here; say who you are with --as NAME", 2)


def screen() -> Console:
    """The terminal; a file or a pipe is as wide as it has to be, and no line there ends with blanks."""
    console = Console()
    if console.is_terminal:
        return console
    return Console(file=_Trimmed(), width=None if "COLUMNS" in os.environ else WHOLE)


class _Trimmed(StringIO):
    """Standard output without the blanks that fill a table's last column."""

    def write(self, text: str) -> int:
        sys.stdout.write(re.sub(r" +(?=\n)", "", text))
        return len(text)

    def flush(self) -> None:
        sys.stdout.flush()


def fail(words: str, code: int) -> NoReturn:
    """One line on stderr, and the end of the command; what the words quote moves no cursor."""
    reaching.fail(plain_lines(words), code, program=PROGRAM)


def warn(words: str) -> None:
    """One line on stderr, of a command that goes on."""
    typer.echo(f"{PROGRAM}: {plain_lines(words)}", err=True)
