"""`amends why`: why a saga is where it is."""

from __future__ import annotations

import json
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import typer
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import logging
from messaging.bus import BusUnavailable
from messaging.clock import SystemClock
from messaging.database import Database
from messaging.process import BadConfiguration, bus_of, load
from messaging.settings import MEMORY
from orchestrator import queries
from orchestrator.cli import pictures
from orchestrator.cli.bundled import only_in_database
from orchestrator.cli.json_values import plain_json
from orchestrator.cli.opening import Output, OutputOption, catalog_of, fail, screen, with_database
from orchestrator.cli.options import WantedArgument
from orchestrator.cli.sentences import sections
from orchestrator.cli.shards import collecting, holding
from orchestrator.diagnosis import gather
from orchestrator.diagnosis.findings import Cause, Diagnosis
from orchestrator.history import CorruptHistory
from orchestrator.settings import OrchestratorSettings

BROKER_SECONDS = 2
"""How long the broker may take to be reached; whoever asks why does not wait for a minute."""


def why(wanted: WantedArgument, *, output: OutputOption = Output.TABLE) -> None:
    """Say why a saga is where it is, and what you can do.

    The most likely cause comes first. Looks at the orchestrator's database and, where AMQP_URL names one that answers,
    at the queues of the broker. Changes nothing and sends nothing.

    Example: amends why 3fa8
    """
    settings = load(OrchestratorSettings)
    catalog = catalog_of(settings)
    # What goes wrong with the broker is said in one line of ours.
    logging.configure(settings.service, "error", settings.log_format)

    async def look(database: Database) -> Diagnosis:
        async with database.snapshot() as connection, _collected(settings, held, connection) as collected:
            row = await queries.find(connection, wanted)
            found = await gather.diagnose(connection, row, catalog, SystemClock().now(), collected)
        return await _with_broker(held, found)

    held = holding(settings, wanted)
    try:
        found = with_database(held, look)
    except queries.NoSuchSaga as error:
        only_in_database(wanted, error)
    except CorruptHistory as error:
        fail(str(error), 1)
    if output is Output.JSON:
        typer.echo(json.dumps(as_json(found), indent=2))
    else:
        picture(found, screen())


@asynccontextmanager
async def _collected(
    settings: OrchestratorSettings, held: OrchestratorSettings, connection: AsyncConnection
) -> AsyncIterator[AsyncConnection]:
    """Where everybody's dead letters lie: in the first shard, unless AMENDS_SHARD names the only one to look into."""
    collector = collecting(settings)
    if collector.shard == held.shard:
        yield connection
        return
    other = Database(collector.database)
    try:
        async with other.snapshot() as elsewhere:
            yield elsewhere
    finally:
        await other.close()


async def _with_broker(settings: OrchestratorSettings, found: Diagnosis) -> Diagnosis:
    """The same, and what the broker shows; where it cannot be asked, with the reason."""
    names = gather.queues(found.awaited, settings.partitions, settings.shard if settings.shards else None)
    url = settings.amqp_url.get_secret_value()
    if not names:
        return found
    if url == MEMORY:
        return replace(found, broker="The queues: AMQP_URL is memory://, they lie inside the process that runs.")
    hurried = settings.model_copy(update={"start_timeout": timedelta(seconds=BROKER_SECONDS)})
    try:
        bus = bus_of(hurried, "amends why")
        try:
            await bus.start()
            return gather.with_causes(found, await gather.look(bus, names))
        finally:
            await bus.close()
    except (BusUnavailable, BadConfiguration) as error:
        return replace(found, broker=f"The queues: {error}")


def as_json(found: Diagnosis) -> dict[str, Any]:
    """The same facts for programs; each cause with its name."""
    content: dict[str, Any] = plain_json(asdict(found))
    for told, cause in zip(content["causes"], found.causes, strict=True):
        told["cause"] = _name(cause)
    return content


def _name(cause: Cause) -> str:
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in type(cause).__name__).strip("_")


def picture(found: Diagnosis, console: Console) -> None:
    """A head, and the sentences below their headings."""
    console.print(f"[bold]{pictures.safe(found.name)}[/] v{found.version}  {found.id}", highlight=False)
    console.print(f"key {pictures.safe(found.key)}, {pictures.status(found.status)}", highlight=False)
    for section in sections(found):
        console.print(f"\n[bold]{section.title}[/]", highlight=False)
        for line in section.lines:
            # What is to be copied is never broken.
            width = 10_000 if line.startswith("amends ") else console.width
            words = textwrap.fill(
                pictures.safe(line),
                width,
                initial_indent="  ",
                subsequent_indent="  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            console.print(words, highlight=False, soft_wrap=True)
