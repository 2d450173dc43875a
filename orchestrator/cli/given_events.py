"""The event that --with gives, made for the definition that an instance has, and sealed where there are keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from contracts.message import Event
from contracts.registry import InvalidMessage
from orchestrator.catalog import Catalog
from orchestrator.cli.carrying_out import Opened
from orchestrator.cli.opening import fail, json_given
from orchestrator.cli.sealing import sealed, seals, warn_of_plain
from orchestrator.operations.action import no_such_step
from orchestrator.operations.choice import Chosen
from orchestrator.saga.definition import Saga
from orchestrator.saga.steps import Wait


class GivenEvents:
    """One text, and an event of each definition that it is given to; `wanted` says of which type."""

    def __init__(self, opened: Opened, text: str | None, wanted: Callable[[Saga[Any]], type[Event]]) -> None:
        self._settings = opened.settings
        self._catalog = opened.catalog
        self._given = text is not None
        self._content = json_given(text) if text is not None else None
        self._wanted = wanted
        self._read: dict[tuple[str, int], Event] = {}
        self._sealed: dict[tuple[str, int, bool], Event] = {}

    def of(self, chosen: Chosen, *, for_show: bool) -> Event | None:
        """For this instance; ends the command with 1 where the data does not fit.

        What is only shown is not kept, so no key is made for whom it is about.
        """
        if not self._given:
            return None
        name, version = chosen.name, chosen.version
        if (name, version) not in self._read:
            self._read[name, version] = self._event(chosen)
        event = self._read[name, version]
        if not seals(self._settings, event):
            return event
        if (name, version, for_show) not in self._sealed:
            self._sealed[name, version, for_show] = self._seal(event, for_show=for_show)
        return self._sealed[name, version, for_show]

    def _event(self, chosen: Chosen) -> Event:
        kind = self._wanted(definition(self._catalog, chosen.name, chosen.version))
        try:
            event = self._catalog.registry.parse(kind.wire_type, kind.wire_version, self._content)
        except InvalidMessage as error:
            fail(f"--with does not fit its contract: {error}", 1)
        if not isinstance(event, Event):
            fail(f"--with: {kind.wire_type} is no event", 1)
        warn_of_plain(self._settings, event)
        return event

    def _seal(self, event: Event, *, for_show: bool) -> Event:
        data = sealed(self._settings, event, for_show=for_show)
        # Of the version that it is by now, as an upcaster has left it.
        token = self._catalog.registry.parse(event.wire_type, event.wire_version, data)
        return cast("Event", token)


def answer_of(saga: Saga[Any], step: str) -> type[Event]:
    """The event that this step goes on with; ends the command with 1 where there is none."""
    stage = saga.stages.get(step)
    if stage is None:
        fail(no_such_step(saga, step), 1)
    command = saga.commands.get(step)
    kind = stage.event if isinstance(stage, Wait) else command.success_type if command is not None else None
    if kind is None:
        fail(f"{step} takes no answer; leave --with out", 1)
    return kind


def cancellation_of(saga: Saga[Any]) -> type[Event]:
    """The event that cancels this saga; ends the command with 1 where there is none."""
    if saga.cancel_on is None:
        fail(f"{saga.name} v{saga.version} knows no cancellation (it has no cancel_on); compensate turns it back", 1)
    return saga.cancel_on.event


def definition(catalog: Catalog, name: str, version: int) -> Saga[Any]:
    """A definition that must be loaded here; ends the command with 1 where it is not."""
    found = catalog.get(name, version)
    if found is None:
        here = ", ".join(f"{each.name} v{each.version}" for each in catalog)
        fail(f"no definition of {name} v{version} is loaded; AMENDS_SAGAS loads {here}", 1)
    return found
