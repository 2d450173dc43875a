"""The command to run before a deploy: would anything in flight, or anything stored, not fit this checkout?"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from messaging.clock import SystemClock
from messaging.database import Database
from messaging.process import load
from orchestrator import versions
from orchestrator.catalog import Catalog
from orchestrator.cli import pictures
from orchestrator.cli.opening import Output, OutputOption, catalog_of, moment, screen, with_database
from orchestrator.cli.pictures import safe, safe_lines
from orchestrator.preflight.checking import count
from orchestrator.preflight.checking import preflight as check
from orchestrator.preflight.instances import Verdict
from orchestrator.preflight.report import Report
from orchestrator.settings import OrchestratorSettings
from orchestrator.versions import Changed

_COLORS = {Verdict.COMPATIBLE: "green", Verdict.NEEDS_VERSION: "yellow", Verdict.GETS_STUCK: "bold red"}


def preflight(
    *,
    since: Annotated[
        str | None,
        typer.Option(
            help="Of the sagas that have ended, only those that ended since then: 90s, 15m, 2h, 3d, a moment."
        ),
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Let changed definitions start that no instance in flight would notice.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Before a deploy: does this checkout fit what is there?

    Its definitions and contracts are held against what is in flight and stored. Publishes nothing. Exit codes: 0 it
    fits, 1 it does not.

    Example: DATABASE_URL=postgresql://amends@production/amends amends preflight --since 30d
    """
    settings = load(OrchestratorSettings)
    catalog = catalog_of(settings)
    after = moment(since) if since else None
    found = []
    for each in settings.each_shard():
        report = _looked(each, catalog, after)
        found.append((each, report, _accept(each, catalog, report) if accept else ()))
    if output is Output.JSON:
        told = [as_json(report, accepted) | _shard(each) for each, report, accepted in found]
        typer.echo(json.dumps(told[0] if len(told) == 1 else told, indent=2))
    else:
        console = screen()
        for each, report, accepted in found:
            if len(found) > 1:
                console.print(f"[bold]{each.placement}[/]", highlight=False)
            show(report, accepted, console)
    if not all(report.fits for _, report, _ in found):
        raise typer.Exit(1)


def _shard(settings: OrchestratorSettings) -> dict[str, int]:
    return {"shard": settings.placement.number} if settings.shards else {}


def _looked(settings: OrchestratorSettings, catalog: Catalog, after: datetime | None) -> Report:
    number = with_database(settings, lambda database: count(database, after))
    columns = (TextColumn("looking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("looking", total=number)
        return with_database(
            settings,
            lambda database: check(database, catalog, since=after, progress=lambda more: bar.advance(task, more)),
        )


def _accept(settings: OrchestratorSettings, catalog: Catalog, report: Report) -> tuple[Changed, ...]:
    acceptable = report.acceptable()

    async def write(database: Database) -> None:
        async with database.transaction() as connection:
            for each in acceptable:
                definition = catalog.get(each.name, each.version)
                if definition is not None:
                    await versions.accept(connection, definition, SystemClock().now())

    if acceptable:
        with_database(settings, write)
    return acceptable


# -- on a terminal -------------------------------------------------------------------------------------------


def show(report: Report, accepted: tuple[Changed, ...], console: Console) -> None:
    """Instances by verdict, changed definitions, each finding with the ids it holds for, and the conclusion."""
    if report.instances:
        console.print(_instances(report))
    for each in report.changed:
        _line(console, f"\n[bold]{safe(each.name)}[/] v{each.version} is not what it was when it last started:")
        for words in each.differences:
            # The source of a function takes several lines; all of them stay below its name.
            _line(console, "  " + safe_lines(words).replace("\n", "\n    "))
    for (name, version, reason), finding in report.findings.items():
        color = _COLORS[finding.verdict]
        _line(console, f"\n[{color}]{finding.verdict.value}[/]: {safe_lines(reason)}")
        shown = ", ".join(map(str, finding.ids)) + (", …" if finding.instances > len(finding.ids) else "")
        _line(console, f"  {_number(finding.instances, 'instance')} of {safe(name)} v{version}: {shown}")
    for (where, wire_type, sentence), rows in report.troubles.items():
        _line(console, f"\n[bold red]does not fit[/]: {safe(f'{wire_type} in {where}' if wire_type else where)}")
        shown = safe(", ".join(rows.examples)) + (", …" if rows.rows > len(rows.examples) else "")
        _line(console, f"  {safe_lines(sentence)}\n  {_number(rows.rows, 'row')}: {shown}")
    if report.unlisted:
        _line(console, f"\n{report.unlisted:,} more that do not fit, for yet other reasons")
    looked = ", ".join(f"{table} ({number:,})" for table, number in sorted(report.looked_at.items()))
    console.print(f"\nlooked at: {looked or 'nothing; the database is empty'}", style="dim", highlight=False)
    _line(console, _conclusion(report, accepted))


def _instances(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("in flight", no_wrap=True)
    for verdict in Verdict:
        table.add_column(verdict.value, justify="right", no_wrap=True)
    for (name, version), counted in sorted(report.instances.items()):
        cells = [f"[{_COLORS[verdict]}]{counted[verdict]:,}[/]" if counted[verdict] else "0" for verdict in Verdict]
        table.add_row(f"{safe(name)} v{version}", *cells)
    return table


def _conclusion(report: Report, accepted: tuple[Changed, ...]) -> str:
    names = ", ".join(f"{each.name} v{each.version}" for each in accepted)
    told = f"\naccepted: {safe(names)} as it is here; a process with it starts now" if accepted else ""
    if not report.fits:
        return f"[bold red]does not fit[/]: do not deploy this checkout onto this database{told}"
    if report.changed and not accepted:
        return (
            "[green]fits[/]: no instance in flight would notice the change. The process will refuse to start until "
            "this is said: amends preflight --accept"
        )
    return f"[green]fits[/]: everything in flight goes on, everything stored reads as it was written{told}"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _line(console: Console, markup: str) -> None:
    pictures.sentence(console, markup)


# -- for programs --------------------------------------------------------------------------------------------


def as_json(report: Report, accepted: tuple[Changed, ...]) -> dict[str, Any]:
    """All of it."""
    return {
        "fits": report.fits,
        "in_flight": [
            {"name": name, "version": version} | {verdict.name.lower(): counted[verdict] for verdict in Verdict}
            for (name, version), counted in sorted(report.instances.items())
        ],
        "changed": [
            {"name": each.name, "version": each.version, "differences": each.differences} for each in report.changed
        ],
        "accepted": [{"name": each.name, "version": each.version} for each in accepted],
        "findings": [
            {
                "name": name,
                "version": version,
                "verdict": finding.verdict.value,
                "reason": reason,
                "instances": finding.instances,
                "ids": [str(each) for each in finding.ids],
            }
            for (name, version, reason), finding in report.findings.items()
        ],
        "troubles": [
            {"table": where, "type": wire_type, "sentence": sentence, "rows": rows.rows, "examples": rows.examples}
            for (where, wire_type, sentence), rows in report.troubles.items()
        ],
        "unlisted": report.unlisted,
        "looked_at": dict(report.looked_at),
    }
