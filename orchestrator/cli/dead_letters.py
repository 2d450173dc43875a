"""`amends dead-letters`: what nobody could handle, in every service, and what is to be done about it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Protocol, TypeVar

import typer

from contracts.registry import InvalidMessage
from messaging.clock import SystemClock
from messaging.database import Database
from messaging.process import EX_CONFIG, load
from orchestrator import letter_decisions, letters, queries, redriving
from orchestrator.catalog import Catalog
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
from orchestrator.cli.editing import changed, given
from orchestrator.cli.json_array import JsonArray
from orchestrator.cli.opening import Output, OutputOption, catalog_of, fail, login, screen, with_database
from orchestrator.cli.options import DryRunOption, LatestOption, WhoOption, YesOption
from orchestrator.cli.pictures import plain
from orchestrator.cli.sealing import sealed
from orchestrator.cli.shards import collecting
from orchestrator.letter_decisions import Correction, Outcome, Told
from orchestrator.letters import Counted, Criteria, Decision, Letter, NoLetters, NoSuchLetter, State, Waiting
from orchestrator.redriving import Undeliverable
from orchestrator.settings import OrchestratorSettings

T = TypeVar("T")

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

    found, totals = _with_letters(look)
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

    letter, saga = _with_letters(look)
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
    order = _Order("redrive", chosen, everything, reason, who, dry_run, yes, output)
    if edit is not None or change:
        _redrive_corrected(order, edit, change or [])
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
    order = _Order("discard", chosen, everything, reason, who, dry_run, yes, output)
    _carry_out(order, "discard", State.DISCARDED, letter_decisions.discard)


@dataclass(frozen=True, slots=True)
class _Order:
    """A command that changes something: about which letters, by whom, why, and how sure he is."""

    name: str
    chosen: Choice
    everything: bool
    reason: str | None
    who: str | None
    dry_run: bool
    yes: bool
    output: Output

    def decision(self, state: State) -> Decision:
        """What is kept with the letters; ends the command with 2 where it is not said why."""
        if not self.reason and not self.dry_run:
            fail('say why: --reason "the handler is mended"', 2)
        return Decision(state, self.who or login(), self.reason or "", SystemClock().now())


class Act(Protocol):
    """What is done with the letters that were shown."""

    async def __call__(
        self, database: Database, criteria: Criteria, decision: Decision, told: Told, *, dry_run: bool
    ) -> None: ...


def _carry_out(order: _Order, words: str, state: State, act: Act) -> None:
    chosen = order.chosen
    if chosen.ids and (order.everything or chosen != Choice(ids=chosen.ids, which=chosen.which)):
        fail("give ids, or filters, not both", 2)
    if not (chosen.narrowed or order.everything):
        fail(f"say which: ids, filters, or --all; `amends dead-letters {order.name} --help` shows them", 2)
    decision = order.decision(state)

    async def plan(database: Database) -> tuple[Criteria, list[Counted]]:
        async with database.snapshot() as connection:
            shelf = await letters.shelf_of(connection)
            criteria = await criteria_of(connection, shelf, chosen)
            # What is shown is what is acted on: not what comes while he thinks it over, or while we are at it.
            shown = replace(criteria, ids=await letters.chosen(connection, shelf, criteria))
            return shown, await letters.counts(connection, shelf, criteria)

    criteria, totals = _with_letters(plan)
    number = sum(each.letters for each in totals)
    if not number:
        if order.output is Output.JSON:
            JsonArray().close()
        fail(f"no {chosen.which.value} dead letter is like that; `amends dead-letters list` shows what there is", 1)
    typer.echo(f"{words}: {number} dead letter{'s' if number != 1 else ''}", err=True)
    for each in totals[:20]:
        typer.echo(plain(f"  {each.letters} {each.type or 'of no type'} in {each.service} ({each.reason})"), err=True)
    _confirm(order)
    telling = _telling(order, state)
    try:
        _with_letters(lambda database: act(database, criteria, decision, telling.add, dry_run=order.dry_run))
    finally:
        # Also where the database has gone, or somebody has pressed Ctrl-C: what was done until then must be known.
        telling.close()
    if telling.failed:
        raise typer.Exit(1)


def _telling(order: _Order, state: State) -> letter_pictures.Telling:
    return letter_pictures.Telling(order.output, state.value, dry_run=order.dry_run)


def _confirm(order: _Order) -> None:
    if not order.dry_run and not order.yes and not typer.confirm("go on?", err=True):
        raise typer.Exit(1)


# -- a corrected one -----------------------------------------------------------------------------------------


def _redrive_corrected(order: _Order, edit: str | None, changes: list[str]) -> None:
    if len(order.chosen.ids) != 1 or order.everything or order.chosen != Choice(ids=order.chosen.ids):
        fail("--edit and --set are about one open dead letter: give its id, and no filter", 2)
    if edit is not None and changes:
        fail("give --edit or --set, not both", 2)
    decision = order.decision(State.REDRIVEN)

    async def look(database: Database) -> Letter:
        async with database.reading() as connection:
            shelf = await letters.shelf_of(connection)
            await criteria_of(connection, shelf, order.chosen)
            return await letters.find(connection, shelf, order.chosen.ids[0])

    letter = _with_letters(look)
    settings = load(OrchestratorSettings)
    catalog = catalog_of(settings)

    def send(data: object, *, dry_run: bool) -> Correction:
        return _with_letters(
            lambda database: letter_decisions.redrive_corrected(
                database, letter.id, data, catalog, decision, dry_run=dry_run
            )
        )

    try:
        # What cannot be edited at all is refused before anybody writes anything.
        redriving.editable(letter)
        typed = changed(letter, changes) if changes else given(letter, edit or "")
        data = _sealed(settings, catalog, letter, typed, dry_run=order.dry_run)
        planned = send(data, dry_run=True)
        if not planned.vouched:
            typer.echo(
                f"{plain(letter.type or '')} is not known to this checkout: nothing vouches for the data", err=True
            )
        typer.echo(f"send to every reader of {plain(letter.type or '')} a new message {planned.sent_as}", err=True)
        before = _before(letter)
        for line in letter_pictures.correction(letter, before, typed, planned.sagas):
            typer.echo(f"  {line}", err=True)
        _confirm(order)
        sent = planned if order.dry_run else send(data, dry_run=False)
    except Undeliverable as error:
        fail(str(error), 1)
    except InvalidMessage as error:
        fail(f"it would not fit its contract: {error}", 1)
    outcome = Outcome(letter.id, letter.service, letter.type, sent.sent_as)
    if order.output is Output.JSON:
        typer.echo(json.dumps([letter_pictures.correction_as_json(outcome, before, data, sent.sagas)], indent=2))
        return
    telling = _telling(order, State.REDRIVEN)
    telling.add([outcome])
    telling.close()


def _sealed(settings: OrchestratorSettings, catalog: Catalog, letter: Letter, data: object, *, dry_run: bool) -> object:
    """The data as it is to be sent: sealed once, as the message's id follows from it."""
    message = redriving.as_contract(letter, data, catalog.registry)
    kept = None if message is None else sealed(settings, message, for_show=dry_run)
    return data if kept is None else kept


def _before(letter: Letter) -> object:
    """What the message said, None where that cannot be read: all of it was given anew then."""
    try:
        before: object = redriving.data_of(letter)
    except Undeliverable:
        return None
    return before


# -- the database --------------------------------------------------------------------------------------------


def _with_letters(act: Callable[[Database], Awaitable[T]]) -> T:
    """Do something with the database's letters; ends the command with one line where that cannot be."""
    settings = collecting(load(OrchestratorSettings))
    try:
        return with_database(settings, act)
    except (NoSuchLetter, queries.NoSuchSaga) as error:
        fail(str(error), 1)
    except NoLetters as error:
        fail(f"{error}; run `amends migrate` first, or set DATABASE_URL", EX_CONFIG)
