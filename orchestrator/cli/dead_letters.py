"""`amends dead-letters`: what nobody could handle, in every service, and what is to be done about it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Annotated, Protocol

import typer

from messaging.clock import SystemClock
from messaging.database import Database
from messaging.process import load
from orchestrator import letter_decisions, letters
from orchestrator.cli import letter_pictures
from orchestrator.cli.choosing import (
    Choice,
    OlderOption,
    SagaOption,
    ServiceOption,
    SinceOption,
    StateOption,
    TypeOption,
    Which,
    choice,
    criteria_of,
)
from orchestrator.cli.correcting import redrive_corrected
from orchestrator.cli.json_array import JsonArray
from orchestrator.cli.letter_orders import LetterOrder, with_letters
from orchestrator.cli.opening import Output, OutputOption, fail, screen
from orchestrator.cli.options import DryRunOption, LatestOption, WhoOption, YesOption
from orchestrator.cli.pictures import plain
from orchestrator.letter_decisions import Told
from orchestrator.letters import Counted, Criteria, Decision, Letter, State, Waiting
from orchestrator.settings import OrchestratorSettings

app = typer.Typer(
    help="What nobody could handle: look, send again, discard.\n\nOf every service; with DATABASE_URL set to a "
    "service's own database, of that one.\n\nExample: amends dead-letters list",
    no_args_is_help=True,
    rich_markup_mode=None,
)

LettersArgument = Annotated[
    list[str] | None, typer.Argument(metavar="ID...", help="Their ids, the beginnings of them, or their message ids.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All that the filters leave.")]
DiedOfOption = Annotated[str | None, typer.Option("--died-of", help="Only those with this reason: handler_failed.")]
WhyOption = Annotated[str | None, typer.Option("--reason", help="Why; it is kept with the letter.")]


@app.command("list")
def list_letters(
    *,
    type: TypeOption = None,
    died_of: Annotated[
        str | None, typer.Option("--reason", "--died-of", help="Only those with this reason: handler_failed.")
    ] = None,
    service: ServiceOption = None,
    older_than: OlderOption = None,
    since: SinceOption = None,
    saga: SagaOption = None,
    state: StateOption = Which.OPEN,
    limit: LatestOption = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List dead letters, those that failed last first.

    Example: amends dead-letters list --service payment --since 1h
    """
    chosen = choice(
        service=service,
        type=type,
        died_of=died_of,
        saga=saga,
        since=since,
        older_than=older_than,
        which=state,
    )

    async def look(database: Database) -> tuple[list[Letter], list[Counted]]:
        async with database.reading() as connection:
            shelf = await letters.shelf_of(connection)
            criteria = await criteria_of(connection, shelf, chosen)
            found = await letters.listing(connection, shelf, criteria, limit)
            return found, await letters.counts(connection, shelf, criteria)

    found, totals = with_letters(look)
    if output is Output.JSON:
        typer.echo(json.dumps([letter_pictures.as_json(each) for each in found], indent=2))
    else:
        letter_pictures.listing(found, totals, SystemClock().now(), state.value, screen())


@app.command()
def show(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="Its id, the beginning of it, or its message id.")],
    *,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one dead letter whole.

    The error, the message as it came, what was decided, what its saga is doing.

    Example: amends dead-letters show 7b1e
    """

    async def look(database: Database) -> tuple[Letter, Waiting | None]:
        async with database.reading() as connection:
            shelf = await letters.shelf_of(connection)
            letter = await letters.find(connection, shelf, wanted)
            return letter, await letters.saga_of(connection, shelf, letter)

    letter, saga = with_letters(look)
    if output is Output.JSON:
        typer.echo(json.dumps(letter_pictures.as_json(letter, saga, whole=True), indent=2))
    else:
        letter_pictures.letter(letter, saga, screen())


@app.command()
def redrive(
    ids: LettersArgument = None,
    *,
    everything: AllOption = False,
    type: TypeOption = None,
    died_of: DiedOfOption = None,
    service: ServiceOption = None,
    older_than: OlderOption = None,
    since: SinceOption = None,
    saga: SagaOption = None,
    state: StateOption = Which.OPEN,
    edit: Annotated[
        str | None,
        typer.Option(
            "--edit",
            metavar="@FILE|-|JSON|editor",
            help="Send a new message with this data instead; `editor` opens $EDITOR with the old.",
        ),
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="The same, with one field changed.")
    ] = None,
    reason: WhyOption = None,
    who: WhoOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send dead letters again, each as the message it was.

    Only the service in which it died handles it again. With --edit or --set a corrected event is sent in the place of
    one, as a new message for all its readers.

    Example: amends dead-letters redrive --all --service payment --died-of handler_failed --reason "handler mended"
    """
    chosen = choice(
        ids=tuple(ids or ()),
        service=service,
        type=type,
        died_of=died_of,
        saga=saga,
        since=since,
        older_than=older_than,
        which=state,
    )
    order = LetterOrder("redrive", chosen, everything, reason, who, dry_run, yes, output)
    if edit is not None or change:
        redrive_corrected(order, edit, change or [])
        return
    send = partial(letter_decisions.redrive, senders=load(OrchestratorSettings).allowed)
    _carry_out(order, "send again, as the messages they were", State.REDRIVEN, send)


@app.command()
def discard(
    ids: LettersArgument = None,
    *,
    everything: AllOption = False,
    type: TypeOption = None,
    died_of: DiedOfOption = None,
    service: ServiceOption = None,
    older_than: OlderOption = None,
    since: SinceOption = None,
    saga: SagaOption = None,
    state: StateOption = Which.OPEN,
    reason: WhyOption = None,
    who: WhoOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Mark dead letters as done with.

    They are no longer listed as open, and are kept for the record.

    Example: amends dead-letters discard --older-than 30d --type order.viewed --reason "nobody needs it any more"
    """
    chosen = choice(
        ids=tuple(ids or ()),
        service=service,
        type=type,
        died_of=died_of,
        saga=saga,
        since=since,
        older_than=older_than,
        which=state,
    )
    order = LetterOrder("discard", chosen, everything, reason, who, dry_run, yes, output)
    _carry_out(order, "discard", State.DISCARDED, letter_decisions.discard)


class Act(Protocol):
    """What is done with the letters that were shown."""

    async def __call__(
        self, database: Database, criteria: Criteria, decision: Decision, told: Told, *, dry_run: bool
    ) -> None: ...


def _carry_out(order: LetterOrder, words: str, state: State, act: Act) -> None:
    chosen = order.chosen
    if chosen.ids and (order.everything or chosen != Choice(ids=chosen.ids, which=chosen.which)):
        fail("give ids, or filters, not both", 2)
    if not (chosen.narrowed or order.everything):
        fail(f"say which: ids, filters, or --all; `amends dead-letters {order.name} --help` shows them", 2)
    decision = order.decision(state)

    async def plan(database: Database) -> tuple[Criteria, list[Counted]]:
        async with database.snapshot() as connection:
            shelf = await letters.shelf_of(connection)
            criteria = await criteria_of(connection, shelf, chosen, asks=not order.yes)
            # What is shown is what is acted on: not what comes while he thinks it over, or while we are at it.
            shown = replace(criteria, ids=await letters.chosen(connection, shelf, criteria))
            return shown, await letters.counts(connection, shelf, criteria)

    criteria, totals = with_letters(plan)
    number = sum(each.letters for each in totals)
    if not number:
        if order.output is Output.JSON:
            JsonArray().close()
        fail(f"no {chosen.which.value} dead letter is like that; `amends dead-letters list` shows what there is", 1)
    typer.echo(f"{words}: {number} dead letter{'s' if number != 1 else ''}", err=True)
    for each in totals[:20]:
        typer.echo(plain(f"  {each.letters} {each.type or 'of no type'} in {each.service} ({each.reason})"), err=True)
    order.confirm()
    telling = order.telling(state)
    try:
        with_letters(lambda database: act(database, criteria, decision, telling.add, dry_run=order.dry_run))
    finally:
        # Also where the database has gone, or somebody has pressed Ctrl-C: what was done until then must be known.
        telling.close()
    if missed := len(criteria.ids) - telling.told:
        verb = "is" if missed == 1 else "are"
        since = "decided about, handled, failed again or pruned since they were shown"
        fail(f"{missed} of them {verb} no longer like that: {since}; look at them again", 1)
    if telling.failed:
        raise typer.Exit(1)
