"""A person's action on one instance: the same code, locks and rows as an event, in a transaction of its own.

Nothing is published from here. Commands are rows of the outbox that may leave at once, so the running orchestrator's
sweeper takes them with its next look.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.clock import Clock
from messaging.database import Conflict, Database, in_words, rolled_back
from messaging.work import Work
from orchestrator import history, moments, stamping, versions
from orchestrator.catalog import Catalog
from orchestrator.folding import Folding
from orchestrator.instance import SOURCE, Instance
from orchestrator.loading import Loading
from orchestrator.operations import abandoning
from orchestrator.remembered import Remembered
from orchestrator.replay.recorded import RecordedTransition
from orchestrator.saga.definition import Saga
from orchestrator.saga.inputs import Action, PersonActed
from orchestrator.saga.machine import Verdict
from orchestrator.saga.state import Status

FOR_EVER = timedelta.max
"""The patience with what is parked: a person's action gives nothing up."""
TRIES = 5
"""How often an action whose transaction collides with somebody else's is begun again."""


class Result(StrEnum):
    """What came of an action on one instance."""

    DONE = "done"
    POSSIBLE = "possible"
    """A dry run: it would be done."""
    REFUSED = "refused"
    """Nothing was changed, and `why` says why not."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One instance after an action, or as it would be: `transitions` are that of the action, and of what was parked
    and has become due with it.
    """

    id: UUID
    name: str
    version: int
    key: str
    result: Result
    was: str
    """Its status before."""
    status: str
    step: str
    revision: int
    why: str = ""
    transitions: tuple[RecordedTransition, ...] = ()

    @property
    def seen(self) -> int:
        """The revision that a person has seen who has been shown this."""
        return self.revision - len(self.transitions)


class Operator:
    """Acts on instances one by one.

    `accepted` are definitions ("name:version") that may differ from what the orchestrator has written down.
    """

    def __init__(self, database: Database, catalog: Catalog, clock: Clock, accepted: Collection[str] = ()) -> None:
        self._database = database
        self._catalog = catalog
        self._clock = clock
        self._accepted = accepted

    async def rehearse(self, identity: UUID, given: PersonActed) -> Outcome:
        """What `act` would do now: everything is computed and written, and then rolled back."""
        return await self._again(identity, given, None, rehearsal=True)

    async def act(self, identity: UUID, given: PersonActed, seen: int | None = None) -> Outcome:
        """Do it, at this moment whatever `given.at` says.

        With `seen`, only if it is still what a person has been shown and has agreed to (`Outcome.seen`). A refusal is
        an outcome; raises what a database raises that is away, and then nobody knows whether it was done.
        """
        return await self._again(identity, given, seen, rehearsal=False)

    async def _again(self, identity: UUID, given: PersonActed, seen: int | None, *, rehearsal: bool) -> Outcome:
        failures = 0
        while True:
            try:
                return await self._once(identity, given, seen, rehearsal=rehearsal)
            except (Conflict, DBAPIError) as error:
                failures += 1
                if not rolled_back(error):
                    raise
                if failures == TRIES:
                    return _undone(identity, f"somebody else kept moving it ({in_words(error)}); try again")
                await self._clock.sleep(0.05 * 2**failures)
            except history.CorruptHistory as error:
                return _undone(identity, str(error))

    async def _once(self, identity: UUID, given: PersonActed, seen: int | None, *, rehearsal: bool) -> Outcome:
        async with self._database.transaction() as connection:
            if await stamping.moving(connection):
                return _undone(identity, "it may be about to lie elsewhere: let `amends reshard` come to its end first")
            work = Work(connection, self._clock.now(), SOURCE, SOURCE)
            loading = Loading(self._catalog, work, Remembered(), {identity})
            await loading.read()
            folding = Folding(self._catalog, FOR_EVER, work, loading)
            instance = folding.instance(identity)
            if instance is None:
                return Outcome(identity, "", 0, "", Result.REFUSED, "", "", "", 0, "there is no such saga any more")
            if instance.saga is None and given.action is Action.ABANDON:
                return await self._abandon(connection, instance, given, seen, rehearsal=rehearsal)
            before = _outcome(instance, Result.REFUSED)
            refusal = await self._obstacle(connection, instance, given) or _moved_since(seen, instance)
            refusal = refusal or _too_early(instance, given, work.now)
            if refusal:
                return replace(before, why=refusal)
            transition = folding.person(instance, given)
            if transition.verdict is not Verdict.APPLIED:
                return replace(before, why=transition.note)
            await folding.write()
            await work.write(None, timedelta(0))
            if rehearsal:
                await connection.rollback()
        rows = tuple(RecordedTransition(*told) for _, *told in folding.history)
        after = _outcome(instance, Result.POSSIBLE if rehearsal else Result.DONE)
        return replace(after, was=before.was, transitions=rows)

    async def _abandon(
        self,
        connection: AsyncConnection,
        instance: Instance,
        given: PersonActed,
        seen: int | None,
        *,
        rehearsal: bool,
    ) -> Outcome:
        """Without its definition, or its row."""
        found = await abandoning.standing(connection, instance.id)
        now = moments.taken_up(self._clock.now(), found.moved_at)
        was = replace(_outcome(instance, Result.REFUSED), was=found.status, status=found.status, step=found.step)
        refusal = found.refusal or _moved_since(seen, instance)
        if refusal:
            return replace(was, why=refusal)
        entry = await abandoning.abandon(connection, instance.id, found, replace(given, at=now), now)
        moments.told(instance.name, instance.id, found.moved_at, now)
        if rehearsal:
            await connection.rollback()
        result = Result.POSSIBLE if rehearsal else Result.DONE
        return replace(was, result=result, status=Status.ABANDONED, step="", revision=entry.seq, transitions=(entry,))

    async def _obstacle(self, connection: AsyncConnection, instance: Instance, given: PersonActed) -> str:
        """Why this process may not decide about this instance: what it knows is not what the orchestrator runs."""
        saga = instance.saga
        if saga is None:
            what = f"{instance.name} v{instance.version}"
            if instance.unreadable:
                mend = f"deploy a definition of {what} that reads it and then retry, or abandon it"
                return f"{instance.unreadable_because}; {mend}"
            return f"no definition of {what} is loaded here; see AMENDS_SAGAS"
        if await versions.is_as_written(connection, saga) is False and not self._accepts(saga):
            return _changed(saga)
        if given.action is not Action.MIGRATE:
            return no_such_step(saga, given.step) if given.step is not None else ""
        if saga.version != given.from_version:
            return f"it is an instance of v{saga.version}, not of v{given.from_version}"
        target = self._catalog.get(instance.name, given.to_version or 0)
        if target is None:
            return f"no definition of {instance.name} v{given.to_version} is loaded here; see AMENDS_SAGAS"
        match await versions.is_as_written(connection, target, hold=True):
            case None:
                return f"no orchestrator has started with v{target.version} yet, so it would stand still; deploy first"
            case False if not self._accepts(target):
                return _changed(target)
        return ""

    def _accepts(self, saga: Saga[Any]) -> bool:
        return f"{saga.name}:{saga.version}" in self._accepted


def no_such_step(saga: Saga[Any], step: str) -> str:
    """That this saga has no such step, and which it has; empty where it has it."""
    if step in saga.stages:
        return ""
    return f"{saga.name} v{saga.version} has no step {step!r}; its steps are {', '.join(saga.stages)}"


def _undone(identity: UUID, why: str) -> Outcome:
    return Outcome(identity, "", 0, "", Result.REFUSED, "", "", "", 0, why)


def _outcome(instance: Instance, result: Result) -> Outcome:
    state = instance.state
    status = state.status.value if state is not None else ""
    return Outcome(
        instance.id,
        instance.name,
        instance.saga.version if instance.saga is not None else instance.version,
        instance.key,
        result,
        status,
        status,
        ", ".join(state.current) if state is not None else "",
        instance.revision,
    )


def _changed(saga: Saga[Any]) -> str:
    return (
        f"{saga.name} v{saga.version} is not the same here as where the orchestrator runs: "
        "act from a checkout that is, or with AMENDS_ACCEPT_CHANGED"
    )


def _moved_since(seen: int | None, instance: Instance) -> str:
    if seen is None or seen == instance.loaded_revision:
        return ""
    return "it has moved since it was shown; look at it again"


def _too_early(instance: Instance, given: PersonActed, now: datetime) -> str:
    """Why a deadline cannot lie where a person wants it: here the moment is still to come, to the instance it is past.

    A moment that is past here, too, means at once, whatever the instance makes of it.
    """
    if given.due is None or not now < given.due < moments.taken_up(now, instance.moved_at):
        return ""
    return (
        f"it last moved at {instance.moved_at}, by a clock that is ahead of the one here; "
        "a deadline can be put there or later, or into the past for now"
    )
