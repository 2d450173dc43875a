"""The sagas this process knows: every version side by side, and which of them an event concerns.

A team's own sagas live in its own packages; AMENDS_SAGAS names the modules to load. Nothing is edited here.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from contracts.message import Event
from contracts.registry import Registry
from contracts.value import value
from messaging.envelope import Envelope, text_of, uuid_of
from orchestrator.saga.definition import Saga
from orchestrator.saga.state import saga_id
from orchestrator.saga.steps import InvalidSaga

DEFAULT_MODULE = "orchestrator.sagas.fulfill_order"


@value
class Target:
    """An instance that an event concerns; `key` where the event names it by key."""

    saga_id: UUID
    name: str
    key: str | None
    starts: bool = False
    certain: bool = True
    """False where the event may as well answer somebody else, and only an instance that exists is meant."""


class Catalog:
    """All definitions, by name and version. Raises InvalidSaga where two claim one name and version."""

    def __init__(self, sagas: Iterable[Saga[Any]]) -> None:
        self._sagas: dict[tuple[str, int], Saga[Any]] = {}
        self._newest: dict[str, Saga[Any]] = {}
        self.registry = Registry()
        for saga in sagas:
            self._add(saga)
        self._keyed: dict[str, list[tuple[Saga[Any], Any, bool]]] = {}
        self._answers: set[str] = set()
        for saga in self._newest.values():
            self._listen(saga.starts_on.event, saga, saga.starts_on.key, starts=True)
        for saga in self._sagas.values():
            for wait in saga.waits:
                self._listen(wait.event, saga, wait.key)
            if saga.cancel_on is not None:
                self._listen(saga.cancel_on.event, saga, saga.cancel_on.key)
            self._answers.update(event.wire_type for event in saga.answers())

    def _add(self, saga: Saga[Any]) -> None:
        known = self._sagas.setdefault((saga.name, saga.version), saga)
        if known is not saga:
            raise InvalidSaga(f"two definitions are called {saga.name!r} v{saga.version}; give one another version")
        newest = self._newest.get(saga.name)
        if newest is None or newest.version < saga.version:
            self._newest[saga.name] = saga
        for message in saga.messages():
            self.registry.add(message)

    def _listen(self, event: type[Event], saga: Saga[Any], key: Any, *, starts: bool = False) -> None:
        listeners = self._keyed.setdefault(event.wire_type, [])
        # Versions of one saga share its instances' ids: one of them speaks for all.
        if not any(known.name == saga.name for known, _, _ in listeners):
            listeners.append((saga, key, starts))

    def __iter__(self) -> Any:
        return iter(self._sagas.values())

    def get(self, name: str, version: int) -> Saga[Any] | None:
        """The definition an instance was started with, if this process has it."""
        return self._sagas.get((name, version))

    def newest(self, name: str) -> Saga[Any] | None:
        """The definition new instances start with."""
        return self._newest.get(name)

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._newest))

    def event_types(self) -> tuple[str, ...]:
        """Wire types of every event some saga wants to hear of."""
        return tuple(sorted({event.wire_type for saga in self for event in saga.events()}))

    def participants(self) -> tuple[str, ...]:
        """Queues of those who are given commands, where they are called as participants are by default."""
        names = {
            command.wire_type.partition(".")[0]
            for saga in self
            for command in (*saga.commands.values(), *saga.compensations.values())
        }
        return tuple(f"{name}.commands" for name in sorted(names))

    def targets(self, envelope: Envelope, event: Event) -> list[Target]:
        """The instances an event concerns: the one it answers, and those that its key names.

        One saga's answer may start another saga. Raises whatever a definition's `key` function raises.
        """
        keyed = self.named(event)
        if envelope.type not in self._answers or not envelope.causation_id or not envelope.correlation_id:
            return keyed
        try:
            answered = uuid_of(envelope.correlation_id)
        except ValueError:
            return keyed
        if any(target.saga_id == answered for target in keyed):
            return keyed
        return [Target(answered, "", None, certain=not keyed), *keyed]

    def named(self, event: Event) -> list[Target]:
        """The instances that an event's key names. Raises whatever a definition's `key` function raises."""
        return [
            Target(saga_id(saga.name, named), saga.name, named, starts)
            for saga, key, starts in self._keyed.get(event.wire_type, ())
            for named in (text_of(key(event)),)
        ]


def load(modules: Sequence[str]) -> Catalog:
    """The sagas found in these modules, as module-level values.

    Raises InvalidSaga where a module cannot be imported or holds no saga.
    """
    found: dict[int, Saga[Any]] = {}
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise InvalidSaga(
                f"AMENDS_SAGAS names {name!r}, but {error}; install the package or mend the name"
            ) from error
        except InvalidSaga:
            raise
        except (Exception, SystemExit) as error:
            raise InvalidSaga(f"AMENDS_SAGAS names {name!r}, which cannot be imported: {_told(error)}") from error
        here = [each for each in vars(module).values() if isinstance(each, Saga)]
        if not here:
            raise InvalidSaga(f"AMENDS_SAGAS names {name!r}, which holds no Saga at module level")
        found.update((id(saga), saga) for saga in here)
    return Catalog(found.values())


def _told(error: BaseException) -> str:
    """What an import raised, and where: a mistake in the syntax has its own place, any other its last line."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    place = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split())
    return f"{type(error).__name__}{f': {said}' if said else ''} ({place.filename}:{place.lineno})"
