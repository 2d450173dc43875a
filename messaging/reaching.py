"""A command's way to its database, and how a command fails: one clear line on stderr and the right exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer

from messaging.commandline import without_password
from messaging.database import (
    DATABASE_ERRORS,
    Database,
    does_not_answer,
    in_words,
    is_transient,
    no_database,
    turns_away,
)
from messaging.process import EX_CONFIG, EX_UNAVAILABLE
from messaging.settings import ServiceSettings

T = TypeVar("T")


class Output(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table for people, json for programs.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def reach(settings: ServiceSettings, act: Callable[[Database], Awaitable[T]], *, program: str) -> T:
    """Do something with the database; ends the command with one line where it is away (69) or has no tables (78).

    `program` is what the user has started (`amends`): it stands in front, and its `migrate` makes the tables.
    """
    shown = without_password(settings.database)
    if settings.database.startswith("sqlite:///") and not Path(settings.database[10:]).exists():
        words = f"{shown} does not exist; set {settings.database_variable}, or run `{program} migrate` to make it"
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
        if is_transient(error) or turns_away(error):
            fail(does_not_answer(settings.database, error, settings.database_variable), EX_UNAVAILABLE, program=program)
        if (mend := no_database(settings.database, error, settings.database_variable)) is not None:
            fail(mend, EX_CONFIG, program=program)
        words, code = _refusal(error, program)
        fail(f"{shown} {words}", code, program=program)


def _refusal(error: BaseException, program: str) -> tuple[str, int]:
    """What an error that does not pass by itself says of the database, and how to mend it; the exit code."""
    said = in_words(error)
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    if "readonly database" in said or state in _MAY_NOT:
        return f"may not be written by you ({said}); use a user who may", EX_CONFIG
    if state in _NO_TABLE or said.startswith(("no such table", "no such column")):
        return f"has not our tables ({said}); run `{program} migrate` first", EX_CONFIG
    return f"refused that: {said}", 1


_NO_TABLE = ("42P01", "42703")
"""SQLSTATE: undefined table, undefined column (PostgreSQL, appendix A)."""
_MAY_NOT = ("42501", "25006")
"""SQLSTATE: insufficient privilege, read-only transaction."""


def fail(words: str, code: int, *, program: str) -> NoReturn:
    """One line on stderr, and the end of the command."""
    typer.echo(f"{program}: {words}", err=True)
    raise typer.Exit(code)
