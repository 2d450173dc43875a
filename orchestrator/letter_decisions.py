"""What a person does with dead letters: send them again, send a corrected one, discard them.

Sent through the outbox of the database in which they lie: what was decided and what leaves commit together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.registry import Registry
from messaging import outbox
from messaging.database import Database
from messaging.outbox import OutboxRow
from orchestrator import letters, redriving
from orchestrator.letters import Criteria, Decision, Letter, Shelf
from orchestrator.redriving import Undeliverable

PAGE = 100
"""Letters in one transaction: as many bodies as are held in memory at once."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one letter: the message id under which it was sent, or why it could not be."""

    letter: UUID
    service: str
    type: str | None
    sent_as: UUID | None = None
    problem: str | None = None


async def redrive(database: Database, criteria: Criteria, decision: Decision, *, dry_run: bool) -> list[Outcome]:
    """Send every such letter again, oldest first, as the message it was."""

    async def send(connection: AsyncConnection, shelf: Shelf, found: Sequence[Letter]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        rows: list[tuple[Letter, OutboxRow]] = []
        for letter in await letters.with_bodies(connection, shelf, found):
            try:
                row = redriving.again(letter, decision.at)
            except Undeliverable as error:
                outcomes.append(Outcome(letter.id, letter.service, letter.type, problem=str(error)))
            else:
                rows.append((letter, row))
                outcomes.append(Outcome(letter.id, letter.service, letter.type, sent_as=row.message_id))
        if not dry_run:
            await _send(connection, shelf, decision, rows)
        return outcomes

    return await _page_by_page(database, criteria, send)


async def discard(database: Database, criteria: Criteria, decision: Decision, *, dry_run: bool) -> list[Outcome]:
    """Mark every such letter as one that nobody will send again; its row stays."""

    async def mark(connection: AsyncConnection, shelf: Shelf, found: Sequence[Letter]) -> list[Outcome]:
        if not dry_run:
            await letters.decide(connection, shelf, decision, [(each.id, None) for each in found])
        return [Outcome(each.id, each.service, each.type) for each in found]

    return await _page_by_page(database, criteria, mark)


@dataclass(frozen=True, slots=True)
class Correction:
    """A new message that was, or would be, sent in a letter's place; `vouched` says whether its contract is known."""

    sent_as: UUID
    vouched: bool


async def redrive_corrected(
    database: Database, letter: UUID, data: object, registry: Registry, decision: Decision, *, dry_run: bool
) -> Correction:
    """Send a message with this data in the letter's place.

    Raises Undeliverable (also where somebody has just decided about the letter) and InvalidMessage.
    """
    async with database.transaction() as connection:
        shelf = await letters.shelf_of(connection)
        open_ones = Criteria(ids=(letter,), states=frozenset({letters.State.OPEN}))
        found = await letters.page(connection, shelf, open_ones, 1)
        if not found:
            raise Undeliverable("somebody has just decided about it; look at it again")
        (whole,) = await letters.with_bodies(connection, shelf, found)
        row, vouched = redriving.corrected(whole, data, registry, decision.at)
        if not dry_run:
            await _send(connection, shelf, decision, [(whole, row)])
    return Correction(row.message_id, vouched)


async def _send(
    connection: AsyncConnection, shelf: Shelf, decision: Decision, rows: Sequence[tuple[Letter, OutboxRow]]
) -> None:
    # Nobody has them in memory: the running service's sweeper takes them at once.
    await outbox.append(connection, [row for _, row in rows], grace=timedelta(0), on_their_way=(), done=())
    await letters.decide(connection, shelf, decision, [(letter.id, row.message_id) for letter, row in rows])


async def _page_by_page(
    database: Database,
    criteria: Criteria,
    act: Callable[[AsyncConnection, Shelf, Sequence[Letter]], Awaitable[list[Outcome]]],
) -> list[Outcome]:
    """A transaction a page, oldest first, each letter once, whatever became of those before."""
    outcomes: list[Outcome] = []
    last: Letter | None = None
    while True:
        async with database.transaction() as connection:
            shelf = await letters.shelf_of(connection)
            found = await letters.page(connection, shelf, criteria, PAGE, last)
            outcomes.extend(await act(connection, shelf, found))
        if len(found) < PAGE:
            return outcomes
        last = found[-1]
