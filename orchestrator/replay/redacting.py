"""Redacting a bundle: what its contracts and its definition mark as sensitive becomes tokens, everywhere in it.

An instance's id is derived from its key, the ids of its commands from that, and those of their answers from these. So
where the key tells something sensitive, ids are a way to try out guesses: then all of them are replaced, in such a way
that they still derive from each other where the machine derives them, and the bundle replays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

from contracts.registry import InvalidMessage, Registry, UnknownMessage
from messaging.envelope import MalformedMessage
from orchestrator import history
from orchestrator.history import CorruptHistory
from orchestrator.replay.bundle import Bundle
from orchestrator.replay.recorded import Recorded, RecordedTransition
from orchestrator.replay.replacing import CannotRedact, Hidden, Replacing
from orchestrator.replay.rewriting import Rewriting, UnknownContent
from orchestrator.saga.definition import Saga
from orchestrator.saga.inputs import EventArrived
from orchestrator.saga.state import Direction, command_id, outcome_id, saga_id

__all__ = ["CannotRedact", "redacted"]


def redacted(bundle: Bundle, saga: Saga[Any], secret: bytes) -> Bundle:
    """The bundle with tokens, made with a secret that nobody may keep.

    `saga` is the definition the instance has. Raises CannotRedact where a part of the bundle cannot be read, or where
    no token is valid.
    """
    hidden = _hidden(bundle, saga)
    replacing = Replacing(hidden, secret)
    rewriting = Rewriting(saga, replacing)
    key = _key(bundle.recorded, saga, rewriting, replacing)
    if key != bundle.recorded.key:
        replacing.add({bundle.recorded.key: key}, _identities(bundle.recorded, saga, key, hidden, replacing))
    return replace(rewriting.bundle(bundle), redacted=True)


def _hidden(bundle: Bundle, saga: Saga[Any]) -> Hidden:
    """What is sensitive in it; finds out on the way whether all of it can be read."""
    hidden = Hidden()
    try:
        Rewriting(saga, hidden).bundle(bundle)
    except UnknownContent as error:
        raise CannotRedact(f"{error}: nobody can say what in it is sensitive") from error
    except (LookupError, TypeError, AttributeError, ValueError, MalformedMessage) as error:
        raise CannotRedact(f"the bundle of {bundle.recorded.id} is not as Amends writes it: {error!r}") from error
    return hidden


def _key(recorded: Recorded, saga: Saga[Any], rewriting: Rewriting, replacing: Replacing) -> str:
    """The key that the redacted start event has."""
    if recorded.transitions:
        first = recorded.transitions[0]
        if _key_of(first, saga) == recorded.key:
            key = _key_of(rewriting.transition(first), saga)
            if key is not None:
                return key
    return replacing.words(recorded.key)


def _key_of(line: RecordedTransition, saga: Saga[Any]) -> str | None:
    try:
        given = history.load_input(line.input, Registry(saga.messages()))
        if isinstance(given, EventArrived) and isinstance(given.event, saga.starts_on.event):
            return str(saga.starts_on.key(given.event))
    except (CorruptHistory, UnknownMessage, InvalidMessage):
        return None
    except Exception:  # noqa: BLE001 - a definition's own key function: it gives no key then
        return None
    return None


def _identities(recorded: Recorded, saga: Saga[Any], key: str, hidden: Hidden, replacing: Replacing) -> dict[str, str]:
    made = {str(old): str(new) for old, new in _derived(recorded, saga, saga_id(saga.name, key))}
    others = {each: replacing.token_of(each) for each in sorted(hidden.identities) if each not in made}
    return made | others


def _derived(recorded: Recorded, saga: Saga[Any], identity: UUID) -> Iterator[tuple[UUID, UUID]]:
    """The ids that the machine derives from the instance's, as they were and as they are derived from `identity`."""
    yield recorded.id, identity
    for outcome in ("completed", "compensated"):
        yield outcome_id(recorded.id, outcome), outcome_id(identity, outcome)
    facts = [fact for line in recorded.transitions for fact in json.loads(line.facts)]
    sent = [fact for fact in facts if fact["fact"] == "command_sent"]
    rounds = max((fact["round"] for fact in sent), default=0)
    # A step may have been renamed since.
    for step in {*saga.stages, *(fact["step"] for fact in sent)}:
        for direction in Direction:
            for number in range(1, rounds + 1):
                yield (
                    command_id(recorded.id, step, direction, number),
                    command_id(identity, step, direction, number),
                )
