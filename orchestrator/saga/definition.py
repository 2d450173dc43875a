"""A saga: a literal tuple of steps. Nothing to build, one diff line a step, drawable.

What types cannot see is checked when the definition is made, at import (InvalidSaga).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic

from contracts.message import Command, Event, Message
from orchestrator.saga.attributes import check_search
from orchestrator.saga.checking import check
from orchestrator.saga.migration import Migration, check_migrations, other_keys
from orchestrator.saga.sealed import check_sealed, seals
from orchestrator.saga.steps import Cancel, D, Delay, Parallel, Stage, Start, Step, Wait
from orchestrator.saga.stored import may_change


class Saga(Generic[D]):
    """A saga definition. `version` changes whenever instances in flight would read the new one differently.

    `search` names the fields of the data (`total.currency` is one too) that `amends list --where` finds instances by;
    it is no part of how they behave, so it may change under the same version.

    Raises InvalidSaga, saying what is wrong and how to mend it.
    """

    def __init__(
        self,
        *,
        name: str,
        version: int,
        data: type[D],
        starts_on: Start[D],
        steps: tuple[Stage[D], ...],
        cancel_on: Cancel[D] | None = None,
        on_completed: Callable[[D], Event] | None = None,
        on_compensated: Callable[[D], Event] | None = None,
        migrations: tuple[Migration[Any, D], ...] = (),
        search: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.version = version
        self.data = data
        self.starts_on = starts_on
        self.steps = steps
        self.cancel_on = cancel_on
        self.on_completed = on_completed
        self.on_compensated = on_compensated
        checked = check(
            name=name,
            version=version,
            data=data,
            starts_on=starts_on,
            steps=steps,
            cancel_on=cancel_on,
            outcomes={"on_completed": on_completed, "on_compensated": on_compensated},
        )
        self.guarded = may_change(data)
        """Whether a function of it could change the data in place: each is then given a copy, and found out."""
        self.search = check_search(f"saga {name!r} v{version}", data, search)
        self.groups: tuple[tuple[Step[D] | Wait[D] | Delay[D], ...], ...] = tuple(
            stage.steps if isinstance(stage, Parallel) else (stage,) for stage in steps
        )
        """What runs one after another: the members of a Parallel together, everything else alone."""
        self.stages: dict[str, Step[D] | Wait[D] | Delay[D]] = checked.stages
        """Every step, wait and delay by its name, those inside a Parallel too."""
        self.commands: dict[str, type[Command[Any, Any]]] = checked.commands
        """The command class of each step's action, by the step's name."""
        self.compensations: dict[str, type[Command[Any, Any]]] = checked.compensations
        self.pivot: str | None = checked.pivot
        self.outcomes: tuple[type[Event], ...] = tuple(checked.outcomes)
        """The event classes that announce its end, as far as the functions that make them say which."""
        self.seals = seals(self.events())
        """Whether it may be told something that is sealed, and must pass it on where it opens."""
        if self.seals:
            check_sealed(
                f"saga {name!r} v{version}",
                data=data,
                starts_on=starts_on,
                stages=self.stages.values(),
                cancel_on=cancel_on,
                heard=self.events(),
                sent=(*self.commands.values(), *self.compensations.values(), *self.outcomes),
                search=self.search,
            )
        check_migrations(self, migrations)
        self.migrations = migrations
        """How instances of other versions come to this one. No part of the fingerprint: they change no instance."""
        self.other_keys = {each.old.version: other_keys(self, each) for each in migrations}
        """Waits that are found by another key than in the version an instance comes from, by that version.

        Known from here on, since telling it takes the source of the keys, and the machine reads no files.
        """

    def __repr__(self) -> str:
        return f"Saga({self.name!r}, version={self.version})"

    @property
    def waits(self) -> tuple[Wait[D], ...]:
        return tuple(stage for stage in self.stages.values() if isinstance(stage, Wait))

    def answers(self) -> tuple[type[Event], ...]:
        """Every event class that may answer a command of this saga."""
        commands = (*self.commands.values(), *self.compensations.values())
        return tuple(dict.fromkeys(event for command in commands for event in command.answers()))

    def messages(self) -> tuple[type[Message], ...]:
        """Every message class it hears or sends, outcomes too."""
        sent = (*self.commands.values(), *self.compensations.values(), *self.outcomes)
        return tuple(dict.fromkeys((*self.events(), *sent)))

    def events(self) -> tuple[type[Event], ...]:
        """Every event class this saga wants to hear of."""
        cancel = (self.cancel_on.event,) if self.cancel_on else ()
        heard = (self.starts_on.event, *self.answers(), *(wait.event for wait in self.waits), *cancel)
        return tuple(dict.fromkeys(heard))
