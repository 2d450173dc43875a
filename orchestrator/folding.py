"""Folding inputs over instances: what one transaction touches, decided and written.

Whatever a saga's own function raises belongs to that one instance: it becomes stuck, the rest of the batch commits.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import structlog

from contracts.message import Event
from contracts.registry import InvalidMessage, UnknownMessage
from messaging import driver
from messaging.bulk import Outcome, alike
from messaging.database import Conflict
from messaging.envelope import Envelope, MalformedMessage, uuid_of
from messaging.inbox import Entry
from messaging.inbox import Status as InboxStatus
from messaging.plans import exactly
from messaging.received import Received
from messaging.work import Work
from orchestrator import history, moments, parked, search, timers
from orchestrator.catalog import Catalog, Target
from orchestrator.instance import (
    COLUMNS,
    HISTORY,
    SOURCE,
    Instance,
    Moved,
    kept,
    moved_by,
    worth_waiting,
)
from orchestrator.loading import Loaded
from orchestrator.saga.inputs import Action, DeadlinePassed, EventArrived, Input, PersonActed, known_as
from orchestrator.saga.machine import Transition, Verdict, fold, move, stuck
from orchestrator.saga.state import SagaState
from orchestrator.saga.story import story
from orchestrator.schema import saga as saga_table
from orchestrator.schema import saga_history
from orchestrator.texts import Texts


class Watch(Protocol):
    """Who wants to know of transitions."""

    def moved(self, instance: Instance, transition: Transition, at: datetime) -> None:
        """The instance, as it still is, is moved by this transition at this moment."""


class Folding:
    """One batch: the instances it touches, which `loading` has read, and every row it will write.

    `beforehand`, it is only tried: what a definition raises is raised, and of what is decided nobody is told before the
    commit.
    """

    def __init__(
        self, catalog: Catalog, patience: timedelta, work: Work, loading: Loaded, *, beforehand: bool = False
    ) -> None:
        self._catalog = catalog
        self._patience = patience
        self._work = work
        self._loading = loading
        self._instances = loading.instances
        self.history: list[tuple[Any, ...]] = []
        """The rows of history it will write, in order, each in the order of HISTORY."""
        self.watch: Watch | None = None
        """Told of every transition before it takes effect, where somebody wants to know."""
        self._parked = parked.Changes()
        self._unreadable: set[int] = set()
        self._written: list[tuple[Instance, Texts]] = []
        """Instances, with what is written of their states."""
        # Asked once: to tell nobody costs as much for each transition as to decide some.
        self._tells = _tells()
        self._beforehand = beforehand

    def event(self, received: Received, target: Target) -> None:
        """Apply a message to one instance."""
        instance = self._instances.get(target.saga_id)
        if instance is None and not target.certain:
            return
        if instance is None:
            saga = self._catalog.newest(target.name)
            instance = Instance(target.saga_id, target.name, saga, target.key or "")
            self._instances[target.saga_id] = instance
        if not instance.key and target.key:
            instance.key = target.key
        if instance.saga is None and not instance.loaded_revision and target.name:
            # An early answer knows only the instance's id; whoever knows the key knows the saga too.
            instance.name, instance.saga = target.name, self._catalog.newest(target.name)
        event = received.message
        if not isinstance(event, Event):
            return
        given = _arrived(received.envelope, event, self._now(instance))
        instance.arrive(received.envelope.traceparent)
        transition = self._apply(instance, given)
        if transition.verdict is Verdict.PARKED:
            instance.parked.append(
                self._parked.add(instance.id, instance.name, received, transition.note, self._work.now)
            )
            self._work.wake(self._work.now + parked.FIRST_LOOK)
        elif transition.verdict is Verdict.APPLIED:
            if received.envelope.causation_id:
                self._work.causes.add(received.envelope.causation_id)
            if instance.parked:
                self._reconsider(instance)

    def tick(self, tick: timers.DeadlineDue | timers.ParkedDue) -> None:
        """A deadline has passed, or it is time to look at what is parked."""
        instance = self._instances.get(tick.saga_id)
        if instance is None:
            return
        if isinstance(tick, timers.DeadlineDue):
            transition = self._apply(instance, DeadlinePassed(self._now(instance)))
            if transition.verdict is Verdict.APPLIED:
                self._reconsider(instance)
            return
        self._reconsider(instance)
        for event in instance.parked:
            if event.retry_at > self._work.now:
                continue
            too_long = self._work.now - event.parked_at > self._patience
            # Newer code may yet read what this cannot, unless the instance awaits nothing whatever it says.
            waits = event.id in self._unreadable and not instance.ended
            if too_long and not waits and not worth_waiting(instance, event):
                self._work.bury(parked.letter(event, SOURCE, self._work.now))
                # It was taken in when it was parked; sent again, it is to be taken in again.
                self._work.settled[event.message_id] = Entry(InboxStatus.FAILED)
                self._parked.remove(event)
            else:
                self._parked.postpone(event, self._work.now)

    def instance(self, identity: UUID) -> Instance | None:
        """One that was loaded and exists."""
        found = self._instances.get(identity)
        return found if found is not None and found.loaded_revision else None

    def touched(self, identity: UUID) -> Instance | None:
        """One that was loaded, or that this batch begins."""
        return self._instances.get(identity)

    def person(self, instance: Instance, given: PersonActed) -> Transition:
        """Apply a person's action, at this moment whatever `given.at` says.

        The instance is changed if and only if the verdict is APPLIED.
        """
        given = replace(given, at=self._now(instance))
        before = instance.saga
        if given.action is Action.MIGRATE:
            # The version that it goes to decides.
            instance.saga = self._catalog.get(instance.name, given.to_version or 0)
        transition = self._apply(instance, given)
        if transition.verdict is Verdict.APPLIED:
            self._reconsider(instance)
        else:
            instance.saga = before
        return transition

    def _reconsider(self, instance: Instance) -> None:
        """After a transition, see whether something parked has become due; and again after each that has."""
        moved = True
        while moved:
            moved = False
            for event in list(instance.parked):
                try:
                    received = parked.received(event, self._catalog.registry)
                except (MalformedMessage, UnknownMessage, InvalidMessage) as error:
                    # Parked by newer code: it waits for a process that can read it.
                    structlog.get_logger().error(
                        "parked_unreadable", message_id=str(event.message_id), error=str(error)
                    )
                    self._unreadable.add(event.id)
                    continue
                if not isinstance(received.message, Event):
                    continue
                given = _arrived(received.envelope, received.message, self._now(instance))
                transition = self._apply(instance, given, from_parking=True)
                if transition.verdict is Verdict.PARKED:
                    continue
                instance.parked.remove(event)
                self._parked.remove(event)
                moved = True

    def _now(self, instance: Instance) -> datetime:
        return moments.taken_up(self._work.now, instance.moved_at)

    def _apply(self, instance: Instance, given: Input, *, from_parking: bool = False) -> Transition:
        if instance.saga is None:
            loaded = f"no definition of {instance.name} in its version is loaded here"
            why = instance.unreadable or (loaded if instance.name else "no saga of this id has been started")
            return Transition(Verdict.PARKED, note=why)
        try:
            transition, state = move(instance.saga, instance.id, instance.state, given)
            moved = moved_by(instance, given, transition, state, self._work.now)
        except Exception as error:  # DESIGN rule: what a definition raises makes that one instance stuck
            if self._beforehand:
                raise
            transition = self._failed(instance, given, error)
            moved = moved_by(instance, given, transition, fold(instance.state, transition.facts), self._work.now)
        if moved is not None:
            if self.watch is not None:
                self.watch.moved(instance, transition, given.at)
            self._keep(instance, given, moved)
        if from_parking and transition.facts and transition.verdict is Verdict.PARKED:
            # It was tried and raised: it stays parked until a person has the instance tried again.
            return Transition(Verdict.PARKED, note=transition.note)
        return transition

    def _failed(self, instance: Instance, given: Input, error: Exception) -> Transition:
        if not isinstance(given, PersonActed):
            structlog.get_logger().error(
                "saga_stuck", saga=instance.name, saga_id=str(instance.id), error=f"{type(error).__name__}: {error}"
            )
        return stuck(instance.state, given, story(error))

    def _keep(self, instance: Instance, given: Input, moved: Moved) -> None:
        moments.told(instance.name, instance.id, instance.moved_at, given.at)
        instance.become(moved, given.at)
        self.history.append(moved.row)
        self._work.sends.extend(moved.sends)
        if self._tells:
            self._tell(instance, given, moved.state)

    def _tell(self, instance: Instance, given: Input, state: SagaState) -> None:
        tell = partial(
            structlog.get_logger().debug,
            "saga_moved",
            saga=instance.name,
            saga_id=str(instance.id),
            correlation_id=str(instance.id),
            message_id=str(given.message_id) if isinstance(given, EventArrived) else None,
            seq=instance.revision,
            status=state.status.value,
            step=state.current,
        )
        if self._beforehand:
            self._work.after_commit.append(tell)
        else:
            tell()

    async def write(self) -> None:
        """Hand instances, histories and parked events to the batch's work, which writes them with all of its own.

        Its checks raise Conflict then, where somebody came between.
        """
        touched = self._touched()
        await self._loading.hold(touched)
        # At once: one statement could not delete a row and insert it anew.
        await search.forget(self._work.connection, _found_otherwise(touched))
        self._collect(touched)

    def draft(self) -> bool:
        """The same of what is held already, where nothing has to be asked of the database; returns whether it is so."""
        touched = self._touched()
        if _found_otherwise(touched):
            return False
        self._collect(touched)
        return True

    def _touched(self) -> list[Instance]:
        return [each for each in self._instances.values() if each.revision > each.loaded_revision]

    def _collect(self, touched: Sequence[Instance]) -> None:
        loading, writes, lines = self._loading, self._work.writes, self.history
        several = driver.dialect(self._work.connection) != "sqlite"  # which has one writer at a time
        if several and (touched or loading.parked.rows):
            self._work.check(*parked.unchanged(writes, loading.parked, loading.ids))
        # In one order, as others that start the same ones: what is not there yet nobody could lock before.
        starting = sorted((each for each in touched if not each.loaded_revision), key=lambda each: each.id.int)
        fresh = [self._row(each) for each in starting]
        changed = [self._row(each) for each in touched if each.loaded_revision]
        # Nobody needs it before, and others wait for this commit.
        self._work.after_commit.append(partial(loading.remembered.keep, self._written))
        changed.extend(each.row for each in loading.set_aside)
        lines.extend(each.line for each in loading.set_aside)
        groups = (("name", "version", "status", "reason"), ("started_at", "updated_at"), ("traceparent",))
        same = alike(fresh, *groups, order=COLUMNS)
        careful = self._work.careful
        inserted = writes.insert(saga_table, COLUMNS, fresh, ignore_conflicts=careful, alike=same, counted=careful)
        updated = timers.update_instances(writes, changed)
        # Who came between has written the same places in histories: the instances tell that, and what to do.
        same = alike(lines, ("at",), order=HISTORY)
        told = writes.insert(saga_history, HISTORY, lines, ignore_conflicts=careful, alike=same, counted=careful)

        def check() -> None:
            if updated.count != len(changed) or (careful and inserted.count != len(fresh)):
                raise Conflict("another process moved an instance of this batch")
            if careful and told.count != len(lines):
                raise history.CorruptHistory(
                    "a history holds transitions already that its instance does not know of; somebody has changed or "
                    "deleted the row in saga and left those in saga_history"
                )

        counted: list[tuple[Outcome, Sequence[Any]]] = [(updated, changed)]
        if careful:
            counted.extend(((inserted, fresh), (told, lines)))
        for outcome, rows in counted:
            outcome.guard = exactly(len(rows))
        if looked_at := [outcome for outcome, rows in counted if rows]:
            self._work.check(check, *looked_at)
        self._tell_of_set_aside()
        found = {each.id: each.attributes for each in touched if each.attributes is not None}
        # Whoever has started the same instance meanwhile has written the same; it is found out by the instance.
        search.add(writes, found, careful=careful)
        self._parked.write(writes)

    def _tell_of_set_aside(self) -> None:
        for aside in self._loading.set_aside:
            if self.watch is not None:
                self.watch.moved(self._instances[aside.id], aside.transition, self._work.now)
            structlog.get_logger().error("saga_unreadable", saga=aside.name, saga_id=str(aside.id), error=aside.reason)

    def _row(self, instance: Instance) -> tuple[Any, ...]:
        """What is written of it, which is remembered for the next batch that it is in."""
        found = kept(instance)
        if found.deadline is not None:
            self._work.wake(found.deadline)
        self._written.append((instance, found.texts))
        return found.row


def _found_otherwise(touched: Sequence[Instance]) -> list[UUID]:
    """Those that were there before and are found by other attributes now."""
    return [each.id for each in touched if each.attributes is not None and each.loaded_revision]


_LEVELS = (logging.NOTSET, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
_FILTERED = {structlog.make_filtering_bound_logger(level): level <= logging.DEBUG for level in _LEVELS}
"""Whether structlog's own loggers tell of transitions, by their class: to make one takes as long as three facts."""


def _tells() -> bool:
    """Whether anybody hears of transitions now; of other loggers the level may change while a process runs."""
    known = _FILTERED.get(structlog.get_config()["wrapper_class"])
    return bool(structlog.get_logger().is_enabled_for(logging.DEBUG)) if known is None else known


def _arrived(envelope: Envelope, event: Event, now: datetime) -> EventArrived:
    try:
        cause = uuid_of(envelope.causation_id) if envelope.causation_id else None
    except ValueError:
        cause = None
    return known_as(EventArrived(now, envelope.id, event, envelope.source, cause), envelope.text)
