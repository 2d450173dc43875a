"""Messages that come again after they had become dead letters here: which letter each of them is.

A person's redrive names the letter in the envelope. That makes it a letter of ours only where it lies in our table, or
bears the name that we ourselves would give it: another reader of the same event is not concerned.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import bulk, schema
from messaging.dead_letters import letter_id, unreadable_id
from messaging.received import Received, Unreadable


async def readable(
    connection: AsyncConnection, service: str, messages: Collection[Received], *, unmarked: bool = False
) -> dict[UUID, UUID]:
    """Which of these messages are dead letters of this service, sent again: the letter by the message's id.

    A message that a person has sent again names its letter; `unmarked` looks for all others too.
    """
    named = {each.envelope.id: each.envelope.redrives for each in messages if each.envelope.redrives is not None}
    own = {
        each.envelope.id: letter_id(str(each.envelope.id), service)
        for each in messages
        if unmarked or each.envelope.id in named
    }
    if not own:
        return {}
    here = await _lying_here(connection, {*named.values(), *own.values()})
    return {
        message: letter
        for message in own
        for letter in (named.get(message, own[message]),)
        # What the broker gave up lies in no table of ours, but bears the name that we would give it.
        if letter in here or (message in named and letter == own[message])
    }


async def unreadable(
    connection: AsyncConnection, service: str, deliveries: Collection[Unreadable]
) -> dict[Unreadable, UUID]:
    """The same for what can still not be read."""
    named = {
        each: each.envelope.redrives
        for each in deliveries
        if each.envelope is not None and each.envelope.redrives is not None
    }
    here = await _lying_here(connection, set(named.values()))
    return {each: letter for each, letter in named.items() if letter in here or letter == unreadable_id(each, service)}


async def _lying_here(connection: AsyncConnection, letters: set[UUID]) -> set[UUID]:
    column = schema.dead_letter.c.letter_id
    return {row.letter_id for row in await bulk.select(connection, (column,), column, sorted(letters))}
