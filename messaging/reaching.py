"""A command's way to its database, and how a command fails: one clear line on stderr and the right exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer

from messaging.commandline import without_password
from messaging.database import DATABASE_ERRORS, Database, does_not_answer, in_words, is_transient
from messaging.process import EX_CONFIG, EX_UNAVAILABLE
from messaging.settings import ServiceSettings

T = TypeVar("T")


class Output(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table for people, json for programs.")]


def reach(settings: ServiceSettings, act: Callable[[Database], Awaitable[T]], *, program: str) -> T:
    """Do something with the database; ends the command with one line where it is away (69) or has no tables (78).

    `program` is what the user has started (`amends`): it stands in front, and its `migrate` makes the tables.
    """
    shown = without_password(settings.database)
    if settings.database.startswith("sqlite:///") and not Path(settings.database[10:]).exists():
        words = f"{shown} does not exist; set DATABASE_URL, or run `{program} migrate` to make it"
        fail(words, EX_UNAVAILABLE, program=program)

    async def opened() -> T:
        database = Database(settings.database)
        try:
            return await act(database)
        finally:
            await database.close()

    try:
        return asyncio.run(opened())
    except DATABASE_ERRORS as error:
        if is_transient(error):
            fail(does_not_answer(settings.database, error), EX_UNAVAILABLE, program=program)
        if in_words(error) == "file is not a database":
            fail(f"{shown} is no SQLite database; set DATABASE_URL to one", EX_CONFIG, program=program)
        fail(
            f"{shown} has not our tables ({in_words(error)}); run `{program} migrate` first", EX_CONFIG, program=program
        )


def fail(words: str, code: int, *, program: str) -> NoReturn:
    """One line on stderr, and the end of the command."""
    typer.echo(f"{program}: {words}", err=True)
    raise typer.Exit(code)
