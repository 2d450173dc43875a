"""What a lone event will do, decided while the database is still looking for the instance that it concerns.

A transition is reckoned of values alone, and a process knows the instances that it has moved last: so it can be
reckoned before the instance's row has come, with all that will be written of it. Nothing is believed because of it. The
row is locked and read as ever; if it makes the same instance, the same input does the same to it, and nothing has to be
reckoned again. Otherwise what was foreseen is as if it had never been.

A definition's functions are called once more then, as they are when a transaction is begun anew.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from functools import partial

from contracts.message import Event
from contracts.value import value
from messaging.envelope import Envelope, uuid_of
from messaging.received import Received
from messaging.work import Work
from orchestrator import moments
from orchestrator.catalog import Catalog, Target
from orchestrator.instance import Instance, Moved, kept, moved_by
from orchestrator.remembered import Remembered
from orchestrator.saga.inputs import EventArrived, known_as
from orchestrator.saga.machine import Transition, move


@value
class Foreseen:
    """What a message will do to an instance, if that is this one."""

    received: Received
    instance: Instance
    given: EventArrived
    transition: Transition
    moved: Moved | None


class Foresight:
    """What was foreseen of one batch, where that is of one message."""

    def __init__(self) -> None:
        self._found: Foreseen | None = None

    def look_soon(
        self, catalog: Catalog, work: Work, remembered: Remembered, target: Target, received: Received
    ) -> None:
        """Have it foreseen as soon as the caller waits for something: the database, which has its statement then."""
        look = partial(self.look, catalog, work, remembered, target, received)
        asyncio.get_running_loop().call_soon(look)

    def of(self, received: Received, instance: Instance) -> Foreseen | None:
        """What this message does to this instance, as it is now."""
        found = self._found
        if found is None or found.received is not received:
            return None
        # Whether two states are the same only itself can tell: what a definition keeps in its data may not be compared.
        if found.instance.state is not instance.state or found.instance.saga is not instance.saga:
            return None
        return found if found.instance == instance else None

    def look(self, catalog: Catalog, work: Work, remembered: Remembered, target: Target, received: Received) -> None:
        """Foresee it, where that can be done; raises nothing."""
        last, event = remembered.last(target.saga_id), received.message
        if not isinstance(event, Event) or (last is None and not target.starts):
            return
        instance = meant(catalog, target, None if last is None else last.as_read())
        if instance is None or instance.saga is None:
            return
        instance.arrive(received.envelope.traceparent)
        given = arrived(received.envelope, event, moments.taken_up(work.now, instance.moved_at))
        after = instance.as_read()
        try:
            transition, state = move(instance.saga, instance.id, instance.state, given)
            moved = moved_by(after, given, transition, state, work.now)
            if moved is not None:
                after.become(moved, given.at)
                moved = replace(moved, kept=kept(after))
        except Exception:  # noqa: BLE001 - a definition's own function: it is asked again in earnest, and told of there
            return
        self._found = Foreseen(received, instance, given, transition, moved)


def meant(catalog: Catalog, target: Target, found: Instance | None) -> Instance | None:
    """The instance that a target names: as it was found, or a new one where it may be begun."""
    if found is None:
        if not target.certain:
            return None
        return Instance(target.saga_id, target.name, catalog.newest(target.name), target.key or "")
    if not found.key and target.key:
        found.key = target.key
    if found.saga is None and not found.loaded_revision and target.name:
        # An early answer knows only the instance's id; whoever knows the key knows the saga too.
        found.name, found.saga = target.name, catalog.newest(target.name)
    return found


def arrived(envelope: Envelope, event: Event, now: datetime) -> EventArrived:
    """The input that an event is."""
    try:
        cause = uuid_of(envelope.causation_id) if envelope.causation_id else None
    except ValueError:
        cause = None
    return known_as(EventArrived(now, envelope.id, event, envelope.source, cause), envelope.text)
