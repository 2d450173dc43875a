"""How `amends --help` is laid out: commands under headings, examples a line each."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol

import typer
from typer.core import TyperGroup


class _Formatter(Protocol):
    width: int

    def section(self, name: str) -> AbstractContextManager[None]: ...

    def write_dl(self, rows: list[tuple[str, str]]) -> None: ...


class Headed(TyperGroup):
    """A group that lists its commands under the headings they were registered with, in that order."""

    def format_commands(self, ctx: object, formatter: _Formatter) -> None:
        """A section a heading; commands without one come first."""
        room = formatter.width - 6 - max(map(len, self.commands))
        headings: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            heading = getattr(command, "rich_help_panel", None)
            row = (name, command.get_short_help_str(room))
            headings.setdefault(heading if isinstance(heading, str) else "Commands", []).append(row)
        for heading, rows in headings.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def lay_out_examples(apps: Iterable[typer.Typer]) -> None:
    """Have the examples in docstrings printed as they stand, so that they can be copied."""
    for app in apps:
        for command in app.registered_commands:
            if command.callback is not None and command.help is None:
                told = inspect.getdoc(command.callback) or ""
                command.help = told.replace("\n\nExample: ", "\n\n\b\nExample: ")
        lay_out_examples(each.typer_instance for each in app.registered_groups if each.typer_instance is not None)
