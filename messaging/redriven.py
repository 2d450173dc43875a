"""Messages that come again after they had become dead letters here: which letter each of them is.

A person's redrive names the letter in the envelope. That makes it a letter of ours only where it lies in our table, or
bears the name that we ourselves would give it: another reader of the same event is not concerned, and drops it even
where its inbox has forgotten the event.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import bulk, schema
from messaging.dead_letters import letter_id, said_id
from messaging.envelope import Envelope
from messaging.received import Received, Unreadable
from messaging.senders import UNBELIEVED


async def readable(
    connection: AsyncConnection, service: str, messages: Collection[Received], *, unmarked: bool = False
) -> dict[UUID, UUID]:
    """Which of these messages are dead letters of this service, sent again: the letter by the message's id.

    A message that a person has sent again names its letter; `unmarked` looks for all others too.
    """
    named = {
        each.envelope.id: each.envelope.redrives or letter_id(str(each.envelope.id), service)
        for each in messages
        if unmarked or each.envelope.redrives is not None
    }
    if not named:
        return {}
    here = await _lying_here(connection, set(named.values()))
    return {
        each.envelope.id: named[each.envelope.id]
        for each in messages
        if each.envelope.id in named
        and (named[each.envelope.id] in here or _named_by_us(each.envelope, each.data, service))
    }


async def unreadable(
    connection: AsyncConnection, service: str, deliveries: Collection[Unreadable]
) -> dict[Unreadable, UUID]:
    """The same for what can still not be read; who may not say what he says cannot name anybody's letter either."""
    named = {
        each: (each.envelope, each.envelope.redrives)
        for each in deliveries
        if each.envelope is not None and each.envelope.redrives is not None and each.reason not in UNBELIEVED
    }
    here = await _lying_here(connection, {letter for _, letter in named.values()})
    return {
        each: letter
        for each, (envelope, letter) in named.items()
        if letter in here or _named_by_us(envelope, each.data, service)
    }


def meant_for_another(envelope: Envelope, data: Any) -> bool:
    """Whether a message that is no letter of ours is another service's, sent again: not for us, handled or forgotten.

    A corrected message names a letter too, and is a new one for everybody.
    """
    return envelope.redrives is not None and envelope.id != correction_id(envelope.redrives, data)


def correction_id(letter: UUID, data: Any) -> UUID:
    """The id of the message that is sent with this data in the letter's place, however often that is done."""
    return uuid5(letter, sha256(json.dumps(data, sort_keys=True).encode()).hexdigest())


def _named_by_us(envelope: Envelope, data: Any, service: str) -> bool:
    """Whether the letter has a name that we would give it, whether we can read its message or not.

    What the broker gave up lies in no table of ours, and what lay there may have been pruned.
    """
    names = (letter_id(str(envelope.id), service), said_id(envelope, data, service))
    return envelope.redrives in names


async def _lying_here(connection: AsyncConnection, letters: set[UUID]) -> set[UUID]:
    column = schema.dead_letter.c.letter_id
    return {row.letter_id for row in await bulk.select(connection, (column,), column, sorted(letters))}
