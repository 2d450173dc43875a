"""How the commands of a repair go: choose, rehearse and show, ask, act; each instance for itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import logging
from messaging.clock import SystemClock
from messaging.database import Database
from messaging.process import load
from orchestrator import queries
from orchestrator.catalog import Catalog
from orchestrator.cli.bundled import only_in_database
from orchestrator.cli.json_array import JsonArray
from orchestrator.cli.opening import Output, catalog_of, fail, login, screen, with_database
from orchestrator.cli.shards import holding
from orchestrator.cli.telling import SCREENFUL, Telling
from orchestrator.cli.unasked import heed_key
from orchestrator.instance import SOURCE
from orchestrator.operations.action import Operator, Outcome, Result
from orchestrator.operations.choice import Chosen
from orchestrator.saga.inputs import Action, PersonActed
from orchestrator.settings import OrchestratorSettings

T = TypeVar("T")
Choose = Callable[[AsyncConnection], Awaitable[list[Chosen]]]
See = Callable[[Outcome], None]
Actions = Callable[[bool], Sequence[tuple[Chosen, PersonActed]]]
"""What is to be done, with each instance; given True where it is only shown, so that nothing may be made for it."""
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


def meant(wanted: str | None, choose: Choose | None, *, option: str, saga: str | None, asks: bool) -> Choose:
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
    return one(wanted, asks=asks)


def one(wanted: str, *, asks: bool) -> Choose:
    """The instance with this id, beginning of an id, or key; asked for, it ends the command with 1 if there is none.

    `asks` says whether somebody sees which it is before it is acted on: if not, what may as well be the key of another
    one ends it with 2.
    """

    async def find(connection: AsyncConnection) -> list[Chosen]:
        try:
            row = await queries.find(connection, wanted)
        except queries.NoSuchSaga as error:
            only_in_database(wanted, error)
        if not asks:
            heed_key(wanted, row.id, row.key)
        return [Chosen(row.id, row.name, row.version)]

    return find


class Opened:
    """The configuration, the sagas and the database of one command."""

    def __init__(self, wanted: str | None = None) -> None:
        settings = load(OrchestratorSettings)
        self.settings = settings if wanted is None else holding(settings, wanted)
        logging.configure(SOURCE, self.settings.log_level, self.settings.log_format)
        self.catalog: Catalog = catalog_of(self.settings)

    def choose(self, find: Choose, output: Output) -> list[Chosen]:
        """The instances meant: ends the command where there is none, with 1 if one was named, else with 0."""

        async def look(database: Database) -> list[Chosen]:
            async with database.reading() as connection:
                return await find(connection)

        found = with_database(self.settings, look)
        if not found:
            typer.echo("there is none; nothing to do", err=True)
            if output is Output.JSON:
                JsonArray().close()
            raise typer.Exit(0)
        return found

    def rehearse(self, given: Sequence[tuple[Chosen, PersonActed]], see: See, *, bar: bool) -> None:
        """What would come of it, for each as it is found; nothing is changed. `bar` where a terminal may see one."""

        async def look(database: Database) -> None:
            operator = self._operator(database)
            for each, action in _with_bar(given, bar):
                see(await operator.rehearse(each.id, action))

        with_database(self.settings, look)

    def act(
        self, given: Sequence[tuple[Chosen, PersonActed]], seen: Sequence[int | None], see: See, *, bar: bool
    ) -> None:
        """Do it, one after the other; what came of each is told at once. `seen` is what a person saw of each."""

        async def do(database: Database) -> None:
            operator = self._operator(database)
            for place, (each, action) in enumerate(_with_bar(given, bar)):
                see(await operator.act(each.id, action, seen[place]))

        with_database(self.settings, do)

    def _operator(self, database: Database) -> Operator:
        return Operator(database, self.catalog, SystemClock(), self.settings.accept_changed)


def carry_out(opened: Opened, actions: Actions, manner: Manner) -> NoReturn:
    """Show, ask where --yes does not, act, and end the command: with 1 where anything was refused."""
    if manner.dry_run:
        dry_run(opened, actions(True), manner.output)
    if manner.yes:
        given = actions(False)
        finish(opened, given, [None] * len(given), Telling(manner.output, page=SCREENFUL))
    # For whoever is to say yes; the output proper is what has happened.
    given = actions(True)
    shown = Telling(Output.TABLE, screen() if manner.output is Output.TABLE else Console(stderr=True))
    seen: list[int | None] = []

    def see(outcome: Outcome) -> None:
        shown.add(outcome)
        seen.append(outcome.seen)

    opened.rehearse(given, see, bar=not shown.interleaved(len(given)))
    possible = shown.counted[Result.POSSIBLE]
    shown.close(totals=not possible)
    if not possible:
        if manner.output is Output.JSON:
            dry_run(opened, given, manner.output)
        end(shown)
    _ask(given[0][1], possible)
    finish(opened, actions(False), seen, Telling(manner.output, page=SCREENFUL))


def dry_run(opened: Opened, given: Sequence[tuple[Chosen, PersonActed]], output: Output) -> NoReturn:
    """Show what would come of it, and end the command: with 1 where anything would be refused."""
    telling = Telling(output)
    try:
        opened.rehearse(given, telling.add, bar=not telling.interleaved(len(given)))
    finally:
        telling.close()
    end(telling)


def finish(
    opened: Opened, given: Sequence[tuple[Chosen, PersonActed]], seen: Sequence[int | None], telling: Telling
) -> NoReturn:
    """Act, tell what came of it, and end the command."""
    try:
        opened.act(given, seen, telling.add, bar=not telling.interleaved(len(given)))
    finally:
        # Also where the database has gone, or somebody has pressed Ctrl-C: what was done until then must be known.
        telling.close()
    end(telling)


def end(telling: Telling, hint: str = "") -> NoReturn:
    """Say what more there is to say, and end the command."""
    if hint:
        typer.echo(hint, err=True)
    raise typer.Exit(1 if telling.counted[Result.REFUSED] else 0)


def _ask(action: PersonActed, number: int) -> None:
    which = "this saga" if number == 1 else f"these {number} sagas"
    typer.confirm(f"{action.action} {which} as {action.who}?", abort=True, err=True)


def _with_bar(items: Sequence[T], bar: bool) -> Iterator[T]:
    console = Console(stderr=True)
    off = not bar or len(items) < MANY or not console.is_terminal
    # What is printed meanwhile is no matter of the bar's: it belongs on stdout.
    with Progress(console=console, disable=off, transient=True, redirect_stdout=False) as progress:
        yield from progress.track(items, description="")
