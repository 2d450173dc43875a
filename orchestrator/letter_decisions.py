"""What a person does with dead letters: send them again, send a corrected one, discard them.

Sent through the outbox of the database in which they lie: what was decided and what leaves commit together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.message import Event
from messaging import appending
from messaging.bus import Delivery
from messaging.database import Database, rolled_back
from messaging.envelope import CONTENT_TYPE, decode
from messaging.outbox_rows import OutboxRow
from messaging.senders import Senders
from orchestrator import letters, redriving
from orchestrator.catalog import Catalog, Target
from orchestrator.letters import Criteria, Decision, Letter, Shelf
from orchestrator.redriving import Undeliverable

Told = Callable[[Sequence["Outcome"]], None]
"""Is told what became of each letter of a page, once that is committed."""
PAGE = 100
"""Letters in one transaction: as many bodies as are held in memory at once."""
TRIES = 5
"""How often a page whose transaction collides with somebody else's is begun again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one letter: the message id under which it was sent, or why it could not be."""

    letter: UUID
    service: str
    type: str | None
    sent_as: UUID | None = None
    problem: str | None = None


async def redrive(
    database: Database,
    criteria: Criteria,
    decision: Decision,
    told: Told,
    *,
    dry_run: bool,
    senders: Senders | None = None,
) -> None:
    """Send the letters that `criteria.ids` names again, in that order, as the messages they were.

    Only those that are still as the rest of `criteria` says, and what was refused for its sender only if `senders` let
    it through by now. What became of each is told as soon as its page is committed.
    """

    async def send(connection: AsyncConnection, shelf: Shelf, page: Sequence[Letter]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        rows: list[tuple[Letter, OutboxRow]] = []
        for letter in await letters.with_bodies(connection, shelf, page):
            try:
                row = redriving.again(letter, decision.at, senders)
            except Undeliverable as error:
                outcomes.append(Outcome(letter.id, letter.service, letter.type, problem=str(error)))
            else:
                rows.append((letter, row))
                outcomes.append(Outcome(letter.id, letter.service, letter.type, sent_as=row.message_id))
        if not dry_run:
            await _send(connection, shelf, decision, rows)
        return outcomes

    await _page_by_page(database, criteria, send, told)


async def discard(database: Database, criteria: Criteria, decision: Decision, told: Told, *, dry_run: bool) -> None:
    """Mark such letters, chosen in the same way, as ones that nobody will send again; their rows stay."""

    async def mark(connection: AsyncConnection, shelf: Shelf, page: Sequence[Letter]) -> list[Outcome]:
        if not dry_run:
            await letters.decide(connection, shelf, decision, [(each.id, None) for each in page])
        return [Outcome(each.id, each.service, each.type) for each in page]

    await _page_by_page(database, criteria, mark, told)


@dataclass(frozen=True, slots=True)
class Correction:
    """A new message that was, or would be, sent in a letter's place.

    `vouched` says whether its contract is known, `sagas` which instances it concerns, as far as that is known here.
    """

    sent_as: UUID
    vouched: bool
    sagas: tuple[Target, ...]


async def redrive_corrected(
    database: Database, letter: UUID, data: object, catalog: Catalog, decision: Decision, *, dry_run: bool
) -> Correction:
    """Send a message with this data in the letter's place.

    Raises Undeliverable (also where somebody has just decided about the letter) and InvalidMessage.
    """
    async with database.transaction() as connection:
        shelf = await letters.shelf_of(connection)
        open_ones = Criteria(ids=(letter,), states=frozenset({letters.State.OPEN}))
        found = await letters.locked(connection, shelf, open_ones)
        if not found:
            raise Undeliverable("somebody has just decided about it; look at it again")
        (whole,) = await letters.with_bodies(connection, shelf, found)
        row, vouched = redriving.corrected(whole, data, catalog.registry, decision.at)
        if not dry_run:
            await _send(connection, shelf, decision, [(whole, row)])
    return Correction(row.message_id, vouched, _concerned(row, catalog) if vouched else ())


def _concerned(row: OutboxRow, catalog: Catalog) -> tuple[Target, ...]:
    envelope, data = decode(
        Delivery("", 0, row.body.encode(), row.exchange, row.routing_key, content_type=CONTENT_TYPE)
    )
    event = catalog.registry.parse(envelope.type, envelope.version, data)
    if not isinstance(event, Event):
        return ()
    try:
        return tuple(each for each in catalog.targets(envelope, event) if each.certain)
    except Exception:  # noqa: BLE001 - a definition's own key function; what it raises is told where the message arrives
        return ()


async def _send(
    connection: AsyncConnection, shelf: Shelf, decision: Decision, rows: Sequence[tuple[Letter, OutboxRow]]
) -> None:
    # Nobody has them in memory: the running service's sweeper takes them at once.
    await appending.append(connection, [row for _, row in rows], grace=timedelta(0), on_their_way=(), done=())
    await letters.decide(connection, shelf, decision, [(letter.id, row.message_id) for letter, row in rows])


Act = Callable[[AsyncConnection, Shelf, Sequence[Letter]], Awaitable[list[Outcome]]]


async def _page_by_page(database: Database, criteria: Criteria, act: Act, told: Told) -> None:
    """A transaction a page, each letter once, whatever became of those before.

    The ids are given, not looked for: a letter that fails again meanwhile would be found for ever.
    """
    for start in range(0, len(criteria.ids), PAGE):
        told(await _page(database, replace(criteria, ids=criteria.ids[start : start + PAGE]), act))


async def _page(database: Database, criteria: Criteria, act: Act) -> list[Outcome]:
    failures = 0
    while True:
        try:
            async with database.transaction() as connection:
                shelf = await letters.shelf_of(connection)
                outcomes = await act(connection, shelf, await letters.locked(connection, shelf, criteria))
        except DBAPIError as error:
            failures += 1
            if not rolled_back(error) or failures == TRIES:
                raise
            await asyncio.sleep(0.05 * 2**failures)
        else:
            return outcomes
