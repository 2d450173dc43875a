"""Commands that find sagas: list by status, time and attributes, and index what was there before an attribute was."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from messaging.clock import SystemClock
from messaging.commandline import counted
from messaging.database import Database
from messaging.process import load
from orchestrator import queries, search
from orchestrator.cli import pictures
from orchestrator.cli.json_values import in_json
from orchestrator.cli.opening import Output, OutputOption, catalog_of, fail, moment, screen, with_database
from orchestrator.cli.options import LatestOption, OnlySagaOption
from orchestrator.cli.shards import across
from orchestrator.saga.definition import Saga
from orchestrator.saga.state import Status
from orchestrator.settings import OrchestratorSettings


def list_sagas(
    *,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only with this attribute, one that the saga declares in `search`."),
    ] = None,
    saga: OnlySagaOption = None,
    status: Annotated[Status | None, typer.Option(help="Only this status.")] = None,
    key: Annotated[str | None, typer.Option(help="Only this key (the order's id, say).")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what moved since then: 90s, 15m, 2h, 3d, or a moment.")
    ] = None,
    limit: LatestOption = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List saga instances, those that moved last first.

    Example: amends list --where customer_id=42 --status stuck --since 1h
    """
    settings = load(OrchestratorSettings)
    after = moment(since) if since else None
    wanted = _wanted(where or [])

    async def look(
        database: Database,
    ) -> tuple[list[queries.Listed], dict[tuple[str, str], int], list[search.Attribute]]:
        async with database.reading() as connection:
            known = await search.declared(connection, saga) if wanted else []
            found = await queries.listing(
                connection,
                name=saga,
                status=status.value if status else None,
                key=key,
                since=after,
                where=wanted,
                limit=limit,
            )
            return found, await queries.counts(connection), known

    looks = across(settings, look)
    found = sorted((each for some, _, _ in looks for each in some), key=lambda each: each.updated_at, reverse=True)[
        :limit
    ]
    totals: Counter[tuple[str, str]] = sum((Counter(some) for _, some, _ in looks), Counter())
    known = [each for _, _, some in looks for each in some]
    _complain(wanted, known, saga)
    if output is Output.JSON:
        typer.echo(json.dumps([pictures.listed_as_json(each) for each in found], indent=2))
    else:
        pictures.listing(found, totals, screen())


def reindex(
    *,
    saga: OnlySagaOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let older instances be found by a new search attribute.

    Sagas go on meanwhile; safe to run again. Run it once every process has the definition that declares the new
    attribute.

    Example: amends reindex --saga fulfill_order
    """
    settings = load(OrchestratorSettings)
    found = catalog_of(settings)
    definitions = [each for each in found if saga in (None, each.name)]
    if not definitions:
        fail(f"there is no saga {saga!r}; AMENDS_SAGAS loads {', '.join(found.names())}", 1)
    now = SystemClock().now()
    complaints = Console(stderr=True)

    async def index(database: Database) -> list[search.Reindexed]:
        with Progress(console=complaints, disable=not complaints.is_terminal, transient=True) as bar:
            return [await search.reindex(database, each, now, progress=_into(bar, each)) for each in definitions]

    done = with_database(settings, index)
    if output is Output.JSON:
        typer.echo(json.dumps([asdict(each) for each in done], indent=2, default=in_json))
    else:
        for each in done:
            by = f"indexed by {', '.join(each.search)}" if each.search else "without a search attribute"
            typer.echo(f"{each.saga} v{each.version}: {counted(each.instances, 'instance')} {by}")
    unreadable = [f"{identity}" for each in done for identity in each.unreadable]
    if unreadable:
        shown = ", ".join(unreadable[:10]) + (", …" if len(unreadable) > 10 else "")
        fail(
            f"data that does not fit its definition: {counted(len(unreadable), 'instance')} cannot be found: {shown}", 1
        )


def _into(bar: Progress, definition: Saga[Any]) -> Callable[[int], None]:
    task = bar.add_task(f"{definition.name} v{definition.version}", total=None)

    def tell(done: int) -> None:
        bar.update(task, completed=done)

    return tell


def _wanted(where: Sequence[str]) -> dict[str, str]:
    wanted: dict[str, str] = {}
    for each in where:
        name, sign, value = each.partition("=")
        if not sign or not name:
            fail(f"--where {each!r}: write NAME=VALUE, like customer_id=42", 2)
        if wanted.setdefault(name, value) != value:
            fail(f"--where asks for {name}={wanted[name]} and {name}={value}, which no instance has both", 2)
    return wanted


def _complain(wanted: Mapping[str, str], known: Sequence[search.Attribute], saga: str | None) -> None:
    names = sorted({each.name for each in known})
    of = f" of {saga}" if saga else ""
    for name in wanted:
        if name not in names:
            there = f"known: {', '.join(names)}" if names else "none is declared; declare it: Saga(search=(...))"
            fail(f"--where {name}: no attribute{of} is called that; {there}", 2)
        behind = [f"{each.saga} v{each.version}" for each in known if each.name == name and not each.indexed]
        if behind:
            typer.echo(
                f"amends: instances of {', '.join(behind)} from before {name} was declared are not found yet; "
                "run `amends reindex`",
                err=True,
            )
