"""What every look at a finished run needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tests.simulation.plan import ORCHESTRATOR
from tests.simulation.world import World


class Looking:
    """A finished run, and the sagas in it; `placed` is what the customers were promised, by their own names for it."""

    def __init__(self, world: World, placed: Mapping[str, UUID]) -> None:
        self.world = world
        self.placed = placed
        self.sagas = {UUID(row["id"]): row for row in self.rows(ORCHESTRATOR, "SELECT * FROM saga")}

    def look(self) -> None:
        """Note whatever is wrong."""
        raise NotImplementedError

    def rows(self, service: str, statement: str) -> list[dict[str, Any]]:
        """Rows of a service's database."""
        return self.world.stores[service].rows(statement)

    def wrong(self, what: str) -> None:
        """Something that must not be."""
        self.world.problem(what)

    def same(self, what: str, expected: object, found: object) -> None:
        """Two things that must be equal."""
        if expected != found:
            self.wrong(f"{what}: expected {expected}, found {found}")
