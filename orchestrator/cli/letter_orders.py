"""A command that changes something about dead letters: which, by whom, why; and the database they lie in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import typer

from messaging.clock import SystemClock
from messaging.database import Database
from messaging.process import EX_CONFIG, load
from orchestrator import queries
from orchestrator.cli import letter_pictures
from orchestrator.cli.choosing import Choice
from orchestrator.cli.opening import Output, fail, login, with_database
from orchestrator.cli.shards import collecting
from orchestrator.letters import Decision, NoLetters, NoSuchLetter, State
from orchestrator.settings import OrchestratorSettings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LetterOrder:
    """A command that changes something: about which letters, by whom, why, and how sure he is."""

    name: str
    chosen: Choice
    everything: bool
    reason: str | None
    who: str | None
    dry_run: bool
    yes: bool
    output: Output

    def decision(self, state: State) -> Decision:
        """What is kept with the letters; ends the command with 2 where it is not said why."""
        if not self.reason and not self.dry_run:
            fail('say why: --reason "the handler is mended"', 2)
        return Decision(state, self.who or login(), self.reason or "", SystemClock().now())

    def confirm(self) -> None:
        """Ask, where something is changed and --yes does not say so; ends the command with 1 at a no."""
        if not self.dry_run and not self.yes and not typer.confirm("go on?", err=True):
            raise typer.Exit(1)

    def telling(self, state: State) -> letter_pictures.Telling:
        """What tells what became of the letters."""
        return letter_pictures.Telling(self.output, state.value, dry_run=self.dry_run)


def with_letters(act: Callable[[Database], Awaitable[T]]) -> T:
    """Do something with the database's letters; ends the command with one line where that cannot be."""
    settings = collecting(load(OrchestratorSettings))
    try:
        return with_database(settings, act)
    except (NoSuchLetter, queries.NoSuchSaga) as error:
        fail(str(error), 1)
    except NoLetters as error:
        fail(f"{error}; run `amends migrate` first, or set DATABASE_URL", EX_CONFIG)
