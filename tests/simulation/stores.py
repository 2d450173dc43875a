"""Where the services of a run keep their rows, and what a run wants of that, whatever kind of database it is."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from messaging.database import Database
from tests.simulation.life import Life
from tests.simulation.plan import Plan
from tests.simulation.virtual import VirtualLoop


class Sky(Protocol):
    """What decides for a store whether something goes wrong now."""

    plan: Plan
    stormy: bool
    chance: random.Random


class Store:
    """One service's database: its faults, and what is committed in its outbox."""

    answered_rows_stay = False
    """Whether a row whose message was answered may be deleted only with the next message's, unless it was confirmed."""

    def __init__(self, sky: Sky) -> None:
        self.away = 0
        self.promised: set[str] = set()
        """Message ids that were ever committed to the outbox."""
        self._sky = sky

    def failing(self) -> bool:
        """Whether a transaction cannot begin now."""
        return self.away > 0

    def uncertain(self) -> bool:
        """Whether this commit, though it succeeds, is reported as failed."""
        return self._sky.stormy and self._sky.chance.random() < self._sky.plan.uncertain_commits

    def committed(self) -> None:
        """A transaction that may have written has just committed."""
        self.promised.update(message_id for (message_id,) in self.ask("SELECT message_id FROM outbox")[1])

    def outbox(self) -> list[tuple[int, str | None, str]]:
        """Row number, key and message id of every committed row."""
        found = self.ask("SELECT id, key, message_id FROM outbox ORDER BY id")[1]
        return [(number, key, message_id) for number, key, message_id in found]

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """What a query finds, as it is committed now."""
        names, rows = self.ask(statement)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def count(self, statement: str) -> int:
        """The one number a query gives."""
        found: int = self.ask(statement)[1][0][0]
        return found

    def hang_up(self, *, all_of_them: bool) -> None:
        """Its server, where it has one, ends a connection, or all."""

    def ask(self, statement: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The names of a query's columns, and its rows, in which ids are 32 digits, as in SQLite."""
        raise NotImplementedError

    def go_away(self) -> None:
        """Nobody can use it until it `comes_back`."""
        self.away += 1

    def come_back(self) -> None:
        """One reason less why nobody can."""
        self.away -= 1

    def close(self) -> None:
        """Stop looking."""


class Ground(Protocol):
    """Databases of one kind for run after run, one run at a time."""

    several: bool
    """Whether several processes of a service may use one."""

    @property
    def seen(self) -> Mapping[str, int]:
        """How often what was seen on the way to the databases of this run."""

    def loop(self) -> VirtualLoop:
        """The loop of a run that begins."""

    def lay_out(self, sky: Sky, start: datetime) -> Mapping[str, Store]:
        """The databases of a run that begins: a store for each of the plan's services, with its first rows in it."""

    def database(self, name: str, life: Life) -> Database:
        """The database of this life of a service."""

    def close(self) -> None:
        """No run will follow."""

    def drop(self) -> None:
        """Remove what would be left behind, whoever uses it at the moment."""
