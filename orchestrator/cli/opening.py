"""What every command opens: the configuration, the sagas, the database, the terminal; and how it fails."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from messaging.clock import SystemClock
from messaging.commandline import without_password
from messaging.database import Database, does_not_answer, in_words, is_transient
from messaging.process import EX_CONFIG, EX_UNAVAILABLE
from messaging.settings import ServiceSettings
from orchestrator import catalog as catalogs
from orchestrator.catalog import Catalog
from orchestrator.saga.steps import InvalidSaga
from orchestrator.settings import OrchestratorSettings

T = TypeVar("T")


class Output(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table for people, json for programs.")]
WantedArgument = Annotated[str, typer.Argument(metavar="ID", help="A saga's id, the beginning of it, or its key.")]


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
    """Do something with the database; ends the command with one line where it is away (69) or has no tables (78)."""
    shown = without_password(settings.database)
    if settings.database.startswith("sqlite:///") and not Path(settings.database[10:]).exists():
        fail(f"{shown} does not exist; set DATABASE_URL, or run `amends migrate` to make it", EX_UNAVAILABLE)

    async def opened() -> T:
        database = Database(settings.database)
        try:
            return await act(database)
        finally:
            await database.close()

    try:
        return asyncio.run(opened())
    except (DBAPIError, OSError) as error:
        if isinstance(error, DBAPIError) and not is_transient(error):
            fail(f"{shown} has not our tables ({in_words(error)}); run `amends migrate` first", EX_CONFIG)
        fail(does_not_answer(settings.database, error), EX_UNAVAILABLE)


def json_given(text: str) -> Any:
    """JSON from an argument: the text itself, `@FILE`, or `-` for standard input; ends the command with 2."""
    try:
        content = sys.stdin.read() if text == "-" else Path(text[1:]).read_text() if text.startswith("@") else text
        return json.loads(content)
    except OSError as error:
        fail(f"{text[1:]} cannot be read: {error.strerror}", 2)
    except ValueError as error:
        fail(f"that is no JSON: {error}", 2)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def moment(text: str, option: str = "--since") -> datetime:
    """What `option` says: so long ago, or a moment; ends the command with 2."""
    length = _length(text)
    if length is not None:
        return SystemClock().now() - length
    return _moment(text, f"{option} {text!r}: write 90s, 15m, 2h, 3d, or a moment like 2026-01-31T12:00:00+00:00")


def moment_ahead(text: str) -> datetime:
    """`--to`: in so long, or a moment; ends the command with 2."""
    length = _length(text[1:]) if text.startswith("+") else None
    if length is not None:
        return SystemClock().now() + length
    return _moment(text, f"--to {text!r}: write +90s, +15m, +2h, +3d, or a moment like 2026-01-31T12:00:00+00:00")


def _length(text: str) -> timedelta | None:
    if text[-1:] in _UNITS and text[:-1].isdigit():
        return timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]])
    return None


def _moment(text: str, complaint: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(complaint, 2)
    return moment if moment.tzinfo is not None else moment.astimezone()


def screen() -> Console:
    """The terminal; a file or a pipe is as wide as it has to be."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=250)


def fail(words: str, code: int) -> NoReturn:
    """One line on stderr, and the end of the command."""
    typer.echo(f"amends: {words}", err=True)
    raise typer.Exit(code)
