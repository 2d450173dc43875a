"""`amends dead-letters redrive --edit`: a corrected message in a dead letter's place, shown and then sent."""

from __future__ import annotations

import json

import typer

from contracts.message import Message
from contracts.registry import InvalidMessage
from contracts.withheld import for_people
from messaging.database import Database
from messaging.process import load
from messaging.sealing import in_plain_text
from orchestrator import letter_decisions, letters, redriving
from orchestrator.catalog import Catalog
from orchestrator.cli import letter_pictures
from orchestrator.cli.choosing import Choice, criteria_of
from orchestrator.cli.editing import changed, given
from orchestrator.cli.letter_orders import LetterOrder, with_letters
from orchestrator.cli.opening import Output, catalog_of, fail
from orchestrator.cli.pictures import plain
from orchestrator.cli.sealing import sealed, seals, warn_of_plain
from orchestrator.letter_decisions import Correction, Outcome
from orchestrator.letters import Decision, Letter, State
from orchestrator.redriving import Undeliverable
from orchestrator.settings import OrchestratorSettings


class _Typed:
    """What a person typed in a letter's place, and as it is sent: sealed where its contract says so."""

    def __init__(self, settings: OrchestratorSettings, catalog: Catalog, letter: Letter, data: object) -> None:
        self.data = data
        self._settings = settings
        self._catalog = catalog
        self._letter = letter
        self._message = self._read(data)
        if self._message is not None:
            warn_of_plain(settings, self._message)
        self.is_sealed = self._message is not None and seals(settings, self._message)
        """Whether what is sent differs each time, and the message's id with it."""

    def _read(self, data: object) -> Message | None:
        return redriving.as_contract(self._letter, data, self._catalog.registry)

    def as_sent(self, *, for_show: bool) -> object:
        """Sealed anew each time. Raises InvalidMessage where something would be sent in plain text."""
        if self._message is None or not self.is_sealed:
            return self.data
        data: object = sealed(self._settings, self._message, self.data, for_show=for_show)
        written = self._read(data)
        if written is not None and (left := in_plain_text(written)):
            raise InvalidMessage(
                f"{', '.join(left)} would be sent in plain text, given under a name that its sender does not write; "
                "name it as the message does"
            )
        return data


def redrive_corrected(order: LetterOrder, edit: str | None, changes: list[str]) -> None:
    """Show what would be sent in the place of one letter, ask, send it, and tell what came of it."""
    if len(order.chosen.ids) != 1 or order.everything or order.chosen != Choice(ids=order.chosen.ids):
        fail("--edit and --set are about one open dead letter: give its id, and no filter", 2)
    if edit is not None and changes:
        fail("give --edit or --set, not both", 2)
    decision = order.decision(State.REDRIVEN)
    letter = with_letters(lambda database: _look(database, order.chosen))
    settings = load(OrchestratorSettings)
    catalog = catalog_of(settings)
    try:
        # What cannot be edited at all is refused before anybody writes anything.
        redriving.editable(letter)
        typed = _Typed(settings, catalog, letter, changed(letter, changes) if changes else given(letter, edit or ""))
        data = typed.as_sent(for_show=True)
        planned = _send(letter, data, catalog, decision, dry_run=True)
        before = _before(letter)
        _show(letter, before, typed, data, planned)
        order.confirm()
        sent = planned
        if not order.dry_run:
            # Now that it is to be kept, with a key that is kept.
            data = typed.as_sent(for_show=False)
            sent = _send(letter, data, catalog, decision, dry_run=False)
    except Undeliverable as error:
        fail(str(error), 1)
    except InvalidMessage as error:
        fail(f"it would not fit its contract: {error}", 1)
    passing = typed.is_sealed and order.dry_run
    outcome = Outcome(letter.id, letter.service, letter.type, None if passing else sent.sent_as)
    if order.output is Output.JSON:
        after = for_people(data) if passing else data
        typer.echo(json.dumps([letter_pictures.correction_as_json(outcome, before, after, sent.sagas)], indent=2))
        return
    telling = order.telling(State.REDRIVEN)
    telling.add([outcome])
    telling.close()


async def _look(database: Database, chosen: Choice) -> Letter:
    async with database.reading() as connection:
        shelf = await letters.shelf_of(connection)
        await criteria_of(connection, shelf, chosen)
        return await letters.find(connection, shelf, chosen.ids[0])


def _send(letter: Letter, data: object, catalog: Catalog, decision: Decision, *, dry_run: bool) -> Correction:
    return with_letters(
        lambda database: letter_decisions.redrive_corrected(
            database, letter.id, data, catalog, decision, dry_run=dry_run
        )
    )


def _show(letter: Letter, before: object, typed: _Typed, data: object, planned: Correction) -> None:
    """For whoever is to say yes."""
    wire_type = plain(letter.type or "")
    if not planned.vouched:
        typer.echo(f"{wire_type} is not known to this checkout: nothing vouches for the data", err=True)
    # What is sealed is sealed anew when it is sent, and the id follows from that.
    name = "" if typed.is_sealed else f" {planned.sent_as}"
    typer.echo(f"send to every reader of {wire_type} a new message{name}", err=True)
    for line in letter_pictures.correction(letter, before, typed.data, data, planned.sagas):
        typer.echo(f"  {line}", err=True)


def _before(letter: Letter) -> object:
    """What the message said, None where that cannot be read: all of it was given anew then."""
    try:
        before: object = redriving.data_of(letter)
    except Undeliverable:
        return None
    return before
