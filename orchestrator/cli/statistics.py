"""The command that shows figures: how many sagas, how fast, and what becomes of each step's commands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table

from messaging.clock import SystemClock
from messaging.commandline import counted
from messaging.database import Database
from messaging.process import load
from orchestrator.cli import pictures
from orchestrator.cli.opening import Output, OutputOption, fail, moment, screen, with_database
from orchestrator.cli.options import OnlySagaOption
from orchestrator.settings import OrchestratorSettings
from orchestrator.statistics import SAMPLE, Durations, SagaStatistics, StepStatistics, statistics
from orchestrator.times import short

ROOMY = 100
"""Columns from which on everything fits."""


def stats(
    *,
    saga: OnlySagaOption = None,
    since: Annotated[str | None, typer.Option(help="Only instances that moved since then: 15m, 24h, a moment.")] = None,
    sample: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Histories read of each saga, chosen as if at random.")
    ] = SAMPLE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show figures by saga and step.

    Throughput, refusals, timeouts, and durations (p50, p95, p99). Counts by status are exact; durations and what
    concerns steps come from a sample of histories.

    Example: amends stats --saga fulfill_order --since 24h
    """
    settings = load(OrchestratorSettings)
    after = moment(since) if since else None

    async def look(database: Database) -> list[SagaStatistics]:
        async with database.reading() as connection:
            return await statistics(connection, SystemClock().now(), name=saga, since=after, sample=sample)

    found = with_database(settings, look)
    if output is Output.JSON:
        typer.echo(json.dumps([asdict(each) for each in found], indent=2))
    elif found or saga is None:
        picture(found, screen())
    if saga is not None and not found:
        fail(f"no instance of {saga!r} has moved{' since then' if since else ''}; `amends list` shows what there is", 1)


def picture(found: Sequence[SagaStatistics], console: Console) -> None:
    """Each saga's figures, as wide as the terminal allows."""
    if not found:
        console.print("no saga has moved", style="dim")
    for each in found:
        statuses = ", ".join(f"{number} {pictures.status(status)}" for status, number in each.statuses.items())
        console.print(
            f"[bold]{pictures.safe(each.saga)}[/]  {counted(each.instances, 'instance')}: {statuses}", highlight=False
        )
        console.print(
            f"ended {_rate(each.ended_per_second)}; from start to end {_words(each.duration)}", highlight=False
        )
        console.print()
        _steps(each.steps, console)
        for step in each.steps:
            if step.reasons:
                reasons = ", ".join(f"{number} {reason}" for reason, number in step.reasons.items())
                console.print(f"{pictures.safe(step.step)} refused: {pictures.safe(reasons)}", highlight=False)
        if each.unreadable:
            console.print(
                f"{counted(each.unreadable, 'history', 'histories')} cannot be read; `amends replay` names them",
                style="yellow",
            )
        read = each.sampled - each.unreadable
        words = f"steps and durations from {read} of {counted(each.instances, 'history', 'histories')}\n"
        console.print(words, style="dim", highlight=False)


def _steps(steps: Sequence[StepStatistics], console: Console) -> None:
    """A line a step; where that would cut figures off, a paragraph a step."""
    table = _table(steps, roomy=console.width >= ROOMY)
    whole = Measurement.get(console, console.options.update(max_width=ROOMY), table).maximum
    if whole <= console.width:
        console.print(table)
        return
    for each in steps:
        console.print(pictures.safe(each.step), style="bold", highlight=False)
        told = [f"{number} {what}" for what, number in zip(_COUNTS, _counts(each), strict=True) if number]
        told += [] if each.duration.p50 is None else [_words(each.duration)]
        console.print(Padding(", ".join(told) or "never sent", (0, 0, 0, 2)), highlight=False)


_COUNTS = ("sent", "answered", "refused", "timed out", "retried", "compensated")


def _counts(step: StepStatistics) -> tuple[int, ...]:
    return (step.sent, step.answered, step.refused, step.timed_out, step.retried, step.compensated)


def _table(steps: Sequence[StepStatistics], *, roomy: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=not roomy)
    table.add_column("step", no_wrap=True)
    columns = [*_COUNTS, "p50", "p95", "p99"]
    if not roomy:
        columns.remove("p95")
    for column in columns:
        table.add_column("undone" if column == "compensated" and not roomy else column, justify="right")
    for each in steps:
        took = [each.duration.p50, each.duration.p95, each.duration.p99]
        if not roomy:
            del took[1]
        table.add_row(
            pictures.safe(each.step),
            *(str(number) for number in _counts(each)),
            *(_length(seconds) for seconds in took),
        )
    return table


def _words(duration: Durations) -> str:
    return f"p50 {_length(duration.p50)}, p95 {_length(duration.p95)}, p99 {_length(duration.p99)}"


def _length(seconds: float | None) -> str:
    return "-" if seconds is None else short(seconds)


def _rate(per_second: float) -> str:
    if per_second >= 1:
        return f"{per_second:.1f}/s"
    per_hour = per_second * 3600
    return f"{per_hour:.0f}/h" if per_hour >= 10 else f"{per_hour * 24:.1f}/day"
