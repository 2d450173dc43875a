"""The command that watches: all sagas at a glance, or one saga's timeline as it grows. It changes nothing."""

from __future__ import annotations

import asyncio
import json
from abc import abstractmethod
from dataclasses import asdict
from datetime import timedelta
from types import TracebackType
from typing import Annotated, Protocol, Self

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.clock import SystemClock
from messaging.database import DATABASE_ERRORS, Database, in_words, is_transient
from messaging.process import load
from orchestrator import queries
from orchestrator.cli import dashboard, pictures, timeline
from orchestrator.cli.bundled import only_in_database
from orchestrator.cli.json_values import in_json
from orchestrator.cli.opening import Output, OutputOption, fail, length_of, screen, with_database
from orchestrator.cli.shards import holding
from orchestrator.history import CorruptHistory
from orchestrator.replay import reading
from orchestrator.saga.state import Status
from orchestrator.settings import OrchestratorSettings
from orchestrator.times import clock, short
from orchestrator.watching import Rates, Snapshot, rates, snapshot

PATIENCE = 30.0
"""Seconds after which a database that says nothing is taken to be away."""


class Watched(Protocol):
    """Something that is looked at again and again, and shows what it has seen."""

    @abstractmethod
    async def look(self, connection: AsyncConnection) -> None:
        """Look once more."""

    @abstractmethod
    def show(self, trouble: str) -> None:
        """Show it; `trouble` says why there was no fresh look."""

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether nothing moves by itself any more."""

    @property
    @abstractmethod
    def stuck(self) -> bool:
        """Whether a person must decide."""


def watch(
    wanted: Annotated[
        str | None, typer.Argument(metavar="ID", help="A saga's id, the beginning of it, or its key; all without.")
    ] = None,
    *,
    interval: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks.")] = 2.0,
    duration: Annotated[str | None, typer.Option("--for", help="End after so long: 10s, 5m.")] = None,
    until_ended: Annotated[bool, typer.Option("--until-ended", help="End when nothing moves by itself.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Watch all sagas, or one, live.

    A terminal is drawn over; elsewhere each look is a line, and for programs a JSON object a line. Ends by Ctrl-C,
    after --for, or with --until-ended, which exits with 1 where a saga is stuck or time ran out.

    Example: amends watch 3fa8 --until-ended --for 1m
    """
    settings = load(OrchestratorSettings)
    bound = length_of("--for", duration) if duration else None
    console = screen()

    async def follow(database: Database) -> int:
        with _Screen(console) as live:
            watched: Watched = _All(live, output) if wanted is None else _One(wanted, live, output)
            in_time = await _follow(database, watched, timedelta(seconds=interval), bound, until_ended=until_ended)
        return 1 if until_ended and (not in_time or watched.stuck) else 0

    try:
        code = with_database(settings if wanted is None else holding(settings, wanted), follow)
    except queries.NoSuchSaga as error:
        only_in_database(wanted or "", error)
    except CorruptHistory as error:
        fail(str(error), 1)
    raise typer.Exit(code)


async def _follow(
    database: Database, watched: Watched, interval: timedelta, bound: timedelta | None, *, until_ended: bool
) -> bool:
    """Look until it has ended or time is up; returns whether it has. Once seen, the database may go and return."""
    loop = asyncio.get_running_loop()
    give_up = None if bound is None else loop.time() + bound.total_seconds()
    seen = False
    while True:
        trouble = ""
        try:
            async with asyncio.timeout(PATIENCE), database.reading() as connection:
                await watched.look(connection)
                seen = True
        except DATABASE_ERRORS as error:
            if not seen or not is_transient(error):
                raise
            trouble = f"the database does not answer ({in_words(error)}); trying again"
        watched.show(trouble)
        if until_ended and not trouble and watched.ended:
            return True
        rest = interval.total_seconds()
        if give_up is not None:
            rest = min(rest, give_up - loop.time())
        if rest <= 0:
            return watched.ended
        await asyncio.sleep(rest)


class _Screen:
    """A terminal that is drawn over, or a place for lines."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def say(self, words: str) -> None:
        """A line that stays."""
        # A pipe gets a line a line; a terminal breaks between words.
        self.console.print(pictures.plain(words), markup=False, highlight=False, soft_wrap=self.live is None)


class _Complaining:
    """Says on stderr when the database goes and when it is back; once each."""

    def __init__(self) -> None:
        self._away = False

    def heed(self, trouble: str) -> None:
        """Take note of the outcome of a look."""
        if trouble and not self._away:
            typer.echo(f"amends: {trouble}", err=True)
        if self._away and not trouble:
            typer.echo("amends: the database is back", err=True)
        self._away = bool(trouble)


class _All:
    """All sagas."""

    def __init__(self, screen: _Screen, output: Output) -> None:
        self._screen = screen
        self._output = output
        self._complaining = _Complaining()
        self._seen: Snapshot | None = None
        self._rates: Rates | None = None

    async def look(self, connection: AsyncConnection) -> None:
        seen = await snapshot(connection, SystemClock().now())
        self._rates = rates(self._seen, seen) if self._seen is not None else None
        self._seen = seen

    def show(self, trouble: str) -> None:
        seen, live = self._seen, self._screen.live
        if seen is None:
            return
        if live is not None and self._output is Output.TABLE:
            live.update(dashboard.screenful(seen, self._rates, trouble, self._screen.console.width), refresh=True)
            return
        self._complaining.heed(trouble)
        if trouble:
            return
        if self._output is Output.JSON:
            speed = asdict(self._rates) if self._rates is not None else None
            typer.echo(json.dumps(asdict(seen) | {"rates": speed}, default=in_json))
        else:
            self._screen.say(dashboard.line(seen, self._rates))

    @property
    def ended(self) -> bool:
        return self._seen is not None and not self._seen.under_way

    @property
    def stuck(self) -> bool:
        return self._seen is not None and bool(self._seen.stuck)


class _One:
    """One saga's timeline."""

    def __init__(self, wanted: str, screen: _Screen, output: Output) -> None:
        self._wanted = wanted
        self._screen = screen
        self._output = output
        self._complaining = _Complaining()
        self._told = 0
        self._story: timeline.Story | None = None

    async def look(self, connection: AsyncConnection) -> None:
        row = await queries.find(connection, self._wanted)
        self._wanted = str(row.id)
        self._story = timeline.story(await reading.recorded(connection, row))

    def show(self, trouble: str) -> None:
        story = self._story
        if story is None:
            return
        if not self._told and self._output is Output.TABLE:
            self._screen.say(f"{story.name} v{story.version}  {story.id}  key {story.key}")
        for entry in story.entries[self._told :]:
            if self._output is Output.JSON:
                typer.echo(json.dumps(asdict(entry), default=in_json))
            else:
                self._screen.say(_entry(entry, story))
        moved, self._told = len(story.entries) > self._told, len(story.entries)
        live = self._screen.live
        if live is None or self._output is Output.JSON:
            self._complaining.heed(trouble)
        elif trouble:
            live.update(Text(trouble, style="bold red"), refresh=True)
        else:
            live.update(Text.from_markup(_standing(story)), refresh=True)
        if live is None and self.ended and moved and self._output is Output.TABLE:
            self._screen.say(Text.from_markup(_standing(story)).plain)

    @property
    def ended(self) -> bool:
        return self._story is not None and (Status(self._story.status).terminal or self.stuck)

    @property
    def stuck(self) -> bool:
        return self._story is not None and self._story.status == Status.STUCK.value


def _entry(entry: timeline.Entry, story: timeline.Story) -> str:
    after = short(entry.at - story.started_at)
    words = [f"#{entry.seq} +{after} {entry.source}: {entry.input}", *entry.moved]
    sent = f" -> {', '.join(each.type for each in entry.sent)}" if entry.sent else ""
    return "; ".join(words) + sent


def _standing(story: timeline.Story) -> str:
    waited = short(SystemClock().now() - story.updated_at)
    words = pictures.status(story.status)
    if story.step:
        words += f", waiting for {pictures.safe(story.step)} since {waited}"
    if story.deadline is not None:
        words += f", deadline {clock(story.deadline)}"
    if story.reason:
        words += f" ({pictures.safe(story.reason.strip().rpartition(chr(10))[2])})"
    return words
