"""Redacting a bundle: what its contracts and its definition mark as sensitive becomes tokens, everywhere in it.

An instance's id is derived from its key, the ids of its commands from that, and those of their answers from these. So
where the key tells something sensitive, ids are a way to try out guesses: then all of them are replaced, in such a way
that they still derive from each other where the machine derives them, and the bundle replays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from contracts.registry import InvalidMessage, Registry, UnknownMessage
from messaging.envelope import MalformedMessage
from orchestrator import history
from orchestrator.history import CorruptHistory, why_unreadable
from orchestrator.replay.bundle import Bundle
from orchestrator.replay.recorded import Recorded, RecordedTransition
from orchestrator.replay.replacing import CannotRedact, Hidden, Replacing
from orchestrator.replay.rewriting import Rewriting, UnknownContent
from orchestrator.saga.definition import Saga
from orchestrator.saga.inputs import EventArrived
from orchestrator.saga.state import Direction, command_id, outcome_id, saga_id

__all__ = ["CannotRedact", "redacted"]


def redacted(bundle: Bundle, saga: Saga[Any], secret: bytes, others: Iterable[Saga[Any]] = ()) -> Bundle:
    """The bundle with tokens, made with a secret that nobody may keep.

    `saga` is the definition the instance has; `others` are those of versions that it may have had before, where `saga`
    does not lead to them by its migrations. Raises CannotRedact where a part of the bundle cannot be read, where one of
    its versions is not known, or where no token is valid.
    """
    sagas = _versions(bundle.recorded, saga, others)
    hidden = _hidden(bundle, sagas)
    replacing = Replacing(hidden, secret)
    rewriting = Rewriting(sagas, replacing)
    key = _key(bundle.recorded, sagas, rewriting, replacing)
    if key != bundle.recorded.key:
        replacing.add({bundle.recorded.key: key}, _identities(bundle.recorded, sagas, key, hidden, replacing))
    return replace(rewriting.bundle(bundle), redacted=True)


_Sagas = Mapping[int, Saga[Any]]
"""Every version that an instance has had."""


def _versions(recorded: Recorded, saga: Saga[Any], others: Iterable[Saga[Any]]) -> _Sagas:
    known = {each.version: each for each in others if each.name == saga.name} | {saga.version: saga}
    for each in _before(saga):
        known.setdefault(each.version, each)
    wanted = {recorded.version, recorded.started_version, *recorded.versions()}
    if missing := sorted(wanted - known.keys()):
        names = " and ".join(f"v{each}" for each in missing)
        raise CannotRedact(
            f"{recorded.id} was an instance of {recorded.name} {names}, which is not loaded here, so nobody can say "
            "what of that is sensitive; name its module in AMENDS_SAGAS too"
        )
    return {version: known[version] for version in sorted(wanted)}


def _before(saga: Saga[Any]) -> Iterator[Saga[Any]]:
    for migration in saga.migrations:
        yield migration.old
        yield from _before(migration.old)


def _hidden(bundle: Bundle, sagas: _Sagas) -> Hidden:
    """What is sensitive in it; finds out on the way whether all of it can be read."""
    hidden = Hidden()
    try:
        Rewriting(sagas, hidden).bundle(bundle)
    except UnknownContent as error:
        raise CannotRedact(f"{error}: nobody can say what in it is sensitive") from error
    except (LookupError, TypeError, AttributeError, ValueError, MalformedMessage) as error:
        raise CannotRedact(
            f"the bundle of {bundle.recorded.id} is not as Amends writes it: {why_unreadable(error)}"
        ) from error
    return hidden


def _key(recorded: Recorded, sagas: _Sagas, rewriting: Rewriting, replacing: Replacing) -> str:
    """The key that the redacted start event has."""
    if recorded.transitions:
        first, version = recorded.transitions[0], recorded.versions()[0]
        if _key_of(first, sagas[version]) == recorded.key:
            key = _key_of(rewriting.transition(first, version), sagas[version])
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


def _identities(recorded: Recorded, sagas: _Sagas, key: str, hidden: Hidden, replacing: Replacing) -> dict[str, str]:
    made = {str(old): str(new) for old, new in _derived(recorded, sagas, saga_id(recorded.name, key))}
    others = {each: replacing.token_of(each) for each in sorted(hidden.identities) if each not in made}
    return made | others


def _derived(recorded: Recorded, sagas: _Sagas, identity: UUID) -> Iterator[tuple[UUID, UUID]]:
    """The ids that the machine derives from the instance's, as they were and as they are derived from `identity`."""
    yield recorded.id, identity
    for outcome in ("completed", "compensated"):
        yield outcome_id(recorded.id, outcome), outcome_id(identity, outcome)
    facts = [fact for line in recorded.transitions for fact in json.loads(line.facts)]
    sent = [fact for fact in facts if fact["fact"] == "command_sent"]
    rounds = max((fact["round"] for fact in sent), default=0)
    # A step may have been renamed since.
    stages = {name for saga in sagas.values() for name in saga.stages}
    for step in stages | {fact["step"] for fact in sent}:
        for direction in Direction:
            for number in range(1, rounds + 1):
                yield (
                    command_id(recorded.id, step, direction, number),
                    command_id(identity, step, direction, number),
                )
