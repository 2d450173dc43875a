"""Commands that list what waits: parked events, outbox rows, deferred messages. They change nothing.

All of the database that DATABASE_URL names. Every service has an outbox and a `deferred` table, so those two answer for
any service; parked events are the orchestrator's.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.clock import SystemClock
from messaging.database import Database
from messaging.process import load
from messaging.waiting import (
    DeferredWaiting,
    Filter,
    OutboxWaiting,
    Waiting,
    deferred_waiting,
    outbox_waiting,
)
from orchestrator.cli.json_values import in_json
from orchestrator.cli.opening import Output, OutputOption, length_of, screen, with_database
from orchestrator.cli.pictures import identity, safe_lines, sentence
from orchestrator.parked_list import ParkedWaiting, parked_waiting
from orchestrator.settings import OrchestratorSettings
from orchestrator.times import clock, short

T = TypeVar("T", ParkedWaiting, OutboxWaiting, DeferredWaiting)

parked = typer.Typer(
    help="Events that nobody awaits yet.\n\nExample: amends parked list", no_args_is_help=True, rich_markup_mode=None
)
outbox = typer.Typer(
    help="Messages that have to leave.\n\nWorks on any service's database.\n\nExample: amends outbox list",
    no_args_is_help=True,
    rich_markup_mode=None,
)
deferred = typer.Typer(
    help="Messages that are tried again later.\n\nWorks on any service's database.\n\nExample: amends deferred list",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ROOMY = 120
"""Columns from which on a whole id fits."""

TypeOption = Annotated[str | None, typer.Option("--type", help="Only messages of this type (payment.authorize).")]
OlderOption = Annotated[str | None, typer.Option(help="Only what has waited for longer: 90s, 15m, 2h, 3d.")]
LimitOption = Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the oldest first.")]


@parked.command("list")
def list_parked(
    *,
    type: TypeOption = None,
    older_than: OlderOption = None,
    limit: LimitOption = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List parked events, the oldest first.

    What came, for which saga, where that is, when it is looked at again.

    Example: amends parked list --older-than 1h
    """
    columns = ("age", "type", "saga", "stands behind", "next look", "why")

    def cells(each: ParkedWaiting) -> tuple[str, ...]:
        behind = f"{each.status}{f', at {each.step}' if each.step else ''}" if each.status else "not started"
        return (
            short(each.age),
            each.type,
            f"{each.saga} {identity(each.saga_id, screen().width)}",
            behind,
            clock(each.retry_at),
            each.reason,
        )

    _list(parked_waiting, _filter(type, older_than, limit), output, columns, cells, "parked")


@outbox.command("list")
def list_outbox(
    *,
    type: TypeOption = None,
    older_than: OlderOption = None,
    limit: LimitOption = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List what has not left, the oldest first.

    Tries, the last error, and the row of its key that it stands behind.

    Example: DATABASE_URL=postgresql://payment@localhost/payment amends outbox list --older-than 1m
    """
    columns = ("row", "age", "type", "key", "tries", "stands behind", "last error")

    def cells(each: OutboxWaiting) -> tuple[str, ...]:
        ahead = each.stands_behind
        behind = f"row {ahead.id}, {ahead.type}" if ahead else ""
        error = each.last_error or (ahead.last_error if ahead else None) or ""
        return (str(each.id), short(each.age), each.type, _key(each.key), str(each.attempts), behind, error)

    _list(outbox_waiting, _filter(type, older_than, limit), output, columns, cells, "in the outbox")


@deferred.command("list")
def list_deferred(
    *,
    type: TypeOption = None,
    older_than: OlderOption = None,
    limit: LimitOption = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List what was put off, the oldest first.

    Tries, the last error, when it is tried again.

    Example: DATABASE_URL=postgresql://payment@localhost/payment amends deferred list --type payment.authorize
    """
    columns = ("age", "type", "consumer", "saga", "tries", "stands behind", "last error")

    def cells(each: DeferredWaiting) -> tuple[str, ...]:
        behind = "its call outside" if each.started else f"the time, {clock(each.due_at)}"
        saga = identity(each.correlation_id or "", screen().width)
        return (short(each.age), each.type, each.consumer, saga, str(each.attempts), behind, each.last_error)

    _list(deferred_waiting, _filter(type, older_than, limit), output, columns, cells, "deferred")


def _filter(type: str | None, older_than: str | None, limit: int) -> Filter:
    return Filter(type, length_of("--older-than", older_than) if older_than else None, limit)


def _list(
    gather: Callable[[AsyncConnection, datetime, Filter], Awaitable[Waiting[T]]],
    wanted: Filter,
    output: Output,
    columns: Sequence[str],
    cells: Callable[[T], tuple[str, ...]],
    where: str,
) -> None:
    settings = load(OrchestratorSettings)

    async def look(database: Database) -> Waiting[T]:
        async with database.reading() as connection:
            return await gather(connection, SystemClock().now(), wanted)

    found = with_database(settings, look)
    if output is Output.JSON:
        typer.echo(json.dumps([asdict(each) for each in found.rows], indent=2, default=in_json))
        return
    console = screen()
    if found.rows:
        console.print(_table(columns, [cells(each) for each in found.rows]))
    _total(console, len(found.rows), found.total, where)


def _table(columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        # What is copied or counted stays whole; words may take several lines.
        table.add_column(column, no_wrap=column in ("row", "age", "tries"), overflow="fold")
    for row in rows:
        table.add_row(*(safe_lines(cell) for cell in row))
    return table


def _total(console: Console, shown: int, total: int, where: str) -> None:
    words = f"{shown} shown of {total} {where}" if total else f"nothing is {where}"
    sentence(console, words, style="dim")


def _key(key: str | None) -> str:
    # A narrow terminal has room for the beginning of an id; all of it is in the JSON.
    return (key or "") if screen().width >= ROOMY else (key or "")[:8]
