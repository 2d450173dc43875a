"""Commands that look at one saga and change nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from messaging.database import Database
from messaging.process import load
from orchestrator import queries
from orchestrator.cli import history_pictures, timeline
from orchestrator.cli.bundled import bundle_named
from orchestrator.cli.mermaid import sequence
from orchestrator.cli.opening import Output, OutputOption, fail, screen, with_database
from orchestrator.cli.options import RecordedArgument
from orchestrator.cli.shards import holding
from orchestrator.history import CorruptHistory
from orchestrator.replay import reading
from orchestrator.settings import OrchestratorSettings


def show(
    wanted: RecordedArgument,
    *,
    data: Annotated[
        bool, typer.Option("--data", help="How the saga's data changed, transition by transition, too.")
    ] = False,
    messages: Annotated[bool, typer.Option("--messages", help="What every input and command carried, too.")] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As a mermaid sequence diagram.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one saga: its steps, its history as a timeline.

    Of an exported bundle it needs no database.

    Example: amends show 3fa8 --data
    """
    if mermaid and output is Output.JSON:
        fail("--mermaid is text; leave out --output json", 2)
    bundle = bundle_named(wanted)
    try:
        story = _from_database(wanted) if bundle is None else timeline.story(bundle.recorded, _waiting(bundle.parked))
    except CorruptHistory as error:
        fail(str(error), 1)
    if output is Output.JSON:
        typer.echo(json.dumps(story.as_json(), indent=2))
    elif mermaid:
        typer.echo(sequence(story))
    else:
        history_pictures.story(story, screen(), with_data=data, with_messages=messages)


def _from_database(wanted: str) -> timeline.Story:
    """The story of an instance of the database; ends the command where there is none of that name."""

    async def look(database: Database) -> timeline.Story:
        async with database.snapshot() as connection:
            row = await queries.find(connection, wanted)
            parked = await queries.parked_for(connection, row.id)
            return timeline.story(await reading.recorded(connection, row), _waiting(parked))

    try:
        return with_database(holding(load(OrchestratorSettings), wanted), look)
    except queries.NoSuchSaga as error:
        fail(str(error), 1)


def _waiting(parked: Iterable[Any]) -> list[timeline.Waiting]:
    return [timeline.Waiting(each.type, each.parked_at, each.reason) for each in parked]
