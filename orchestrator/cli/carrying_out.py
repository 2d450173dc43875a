"""How the commands of a repair go: choose, rehearse and show, ask, act; each instance for itself."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import track
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import logging
from messaging.clock import SystemClock
from messaging.database import Database
from messaging.process import load
from orchestrator import queries
from orchestrator.catalog import Catalog
from orchestrator.cli import repair_pictures
from orchestrator.cli.bundled import only_in_database
from orchestrator.cli.opening import Output, catalog_of, fail, login, screen, with_database
from orchestrator.instance import SOURCE
from orchestrator.operations.action import Operator, Outcome, Result
from orchestrator.operations.choice import Chosen
from orchestrator.saga.inputs import Action, PersonActed
from orchestrator.settings import OrchestratorSettings

T = TypeVar("T")
Choose = Callable[[AsyncConnection], Awaitable[list[Chosen]]]
MANY = 20
"""From so many instances on, a terminal sees a bar."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a command is to be carried out; the same options on each."""

    who: str | None
    why: str
    dry_run: bool
    yes: bool
    output: Output

    def person(self, action: Action, step: str | None = None) -> PersonActed:
        """The action as an input; ends the command with 2 where it does not say who or why."""
        if not self.why.strip():
            fail("say why: the reason is kept in the history", 2)
        return PersonActed(SystemClock().now(), action, self.who or login(), self.why.strip(), step)


def meant(wanted: str | None, choose: Choose | None, *, option: str, saga: str | None) -> Choose:
    """One instance by its id or key, or all that `choose` finds, which `option` asks for.

    Ends the command with 2 where it is unclear which.
    """
    if choose is not None and wanted is not None:
        fail(f"{option} means many: leave the id out, and name a step with --step", 2)
    if choose is None and saga is not None:
        fail(f"--saga narrows {option}; one saga is named by its id or key alone", 2)
    if choose is not None:
        return choose
    if wanted is None:
        fail(f"name one saga by its id or key, or say {option}", 2)
    return one(wanted)


def one(wanted: str) -> Choose:
    """The instance with this id, beginning of an id, or key; asked for, it ends the command with 1 if there is none."""

    async def find(connection: AsyncConnection) -> list[Chosen]:
        try:
            row = await queries.find(connection, wanted)
        except queries.NoSuchSaga as error:
            only_in_database(wanted, error)
        return [Chosen(row.id, row.name, row.version)]

    return find


class Opened:
    """The configuration, the sagas and the database of one command."""

    def __init__(self) -> None:
        self.settings = load(OrchestratorSettings)
        logging.configure(SOURCE, self.settings.log_level, self.settings.log_format)
        self.catalog: Catalog = catalog_of(self.settings)

    def choose(self, find: Choose) -> list[Chosen]:
        """The instances meant: ends the command where there is none, with 1 if one was named, else with 0."""

        async def look(database: Database) -> list[Chosen]:
            async with database.reading() as connection:
                return await find(connection)

        found = with_database(self.settings, look)
        if not found:
            typer.echo("there is none; nothing to do", err=True)
            raise typer.Exit(0)
        return found

    def rehearse(self, given: Sequence[tuple[Chosen, PersonActed]]) -> list[Outcome]:
        """What would come of it, for each; nothing is changed."""
        found: list[Outcome] = []

        async def look(database: Database) -> None:
            operator = self._operator(database)
            for each, action in _with_bar(given):
                found.append(await operator.rehearse(each.id, action))

        with_database(self.settings, look)
        return found

    def act(
        self, given: Sequence[tuple[Chosen, PersonActed]], shown: Sequence[Outcome | None], found: list[Outcome]
    ) -> None:
        """Do it, one after the other; what came of each is appended to `found` at once."""

        async def do(database: Database) -> None:
            operator = self._operator(database)
            both = list(zip(given, shown, strict=True))
            for (each, action), seen in _with_bar(both):
                found.append(await operator.act(each.id, action, seen))

        with_database(self.settings, do)

    def _operator(self, database: Database) -> Operator:
        return Operator(database, self.catalog, SystemClock(), self.settings.accept_changed)


def carry_out(opened: Opened, given: Sequence[tuple[Chosen, PersonActed]], manner: Manner) -> NoReturn:
    """Show, ask where --yes does not, act, and end the command: with 1 where anything was refused."""
    shown: list[Outcome | None] = [None] * len(given)
    if manner.dry_run or not manner.yes:
        rehearsed = opened.rehearse(given)
        possible = [each for each in rehearsed if each.result is Result.POSSIBLE]
        if manner.dry_run or not possible:
            end(rehearsed, manner.output)
        show(rehearsed, manner.output)
        _ask(given[0][1], len(possible))
        shown = [*rehearsed]
    finish(opened, given, shown, manner.output)


def finish(
    opened: Opened,
    given: Sequence[tuple[Chosen, PersonActed]],
    shown: Sequence[Outcome | None],
    output: Output,
    *,
    before: Sequence[Outcome] = (),
) -> NoReturn:
    """Act, print what came of it (behind what is known `before`), and end the command."""
    found = [*before]
    try:
        opened.act(given, shown, found)
    except BaseException:
        # The database has gone, or somebody has pressed Ctrl-C: what was done until then is done, and must be known.
        if found:
            _print(found, output)
        raise
    end(found, output)


def end(found: Sequence[Outcome], output: Output, hint: str = "") -> NoReturn:
    """Print what came of it, and what more there is to say, and end the command."""
    _print(found, output)
    if hint:
        typer.echo(hint, err=True)
    raise typer.Exit(1 if any(each.result is Result.REFUSED for each in found) else 0)


def _print(found: Sequence[Outcome], output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps([repair_pictures.outcome_as_json(each) for each in found], indent=2))
    else:
        repair_pictures.outcomes(found, screen())
        typer.echo(repair_pictures.totals(found), err=True)


def show(rehearsed: Sequence[Outcome], output: Output) -> None:
    """What would happen, for whoever is to say yes; the output proper is what has happened."""
    repair_pictures.outcomes(rehearsed, screen() if output is Output.TABLE else Console(stderr=True))


def _ask(action: PersonActed, number: int) -> None:
    which = "this saga" if number == 1 else f"these {number} sagas"
    typer.confirm(f"{action.action} {which} as {action.who}?", abort=True, err=True)


def _with_bar(items: Sequence[T]) -> Iterable[T]:
    console = Console(stderr=True)
    return track(items, "", console=console, disable=len(items) < MANY or not console.is_terminal, transient=True)
