"""A recorded instance: its history exactly as it was stored, wherever it was read from (a database, a bundle)."""

from __future__ import annotations

import json
from datetime import datetime
from uuid import UUID

from contracts.value import value


@value
class RecordedTransition:
    """One row of a history. `input`, `facts` and `commands` are the JSON texts as `orchestrator.history` wrote them."""

    seq: int
    at: datetime
    input: str
    facts: str
    commands: str

    @property
    def migration(self) -> tuple[int, int] | None:
        """From which version of the saga to which, where it is a person's migration.

        Decided by the definition of the second, in the state that the first had led to. None also for what cannot be
        read: `orchestrator.history.load_input` says what is wrong with it.
        """
        if '"migrate"' not in self.input:  # nearly always, and reading JSON is what a replay can least afford
            return None
        try:
            given = json.loads(self.input)
            if given["kind"] != "person" or given["action"] != "migrate":
                return None
            return int(given["from_version"]), int(given["to_version"])
        except (ValueError, KeyError, TypeError):
            return None


@value
class Recorded:
    """One instance and its whole history, oldest transition first.

    `version` is the definition's version that the instance has now; `status`, `data` and `progress` are those of its
    row (`orchestrator.history.load_state` reads them), for whoever wants to compare them with the fold.
    """

    id: UUID
    name: str
    version: int
    key: str
    status: str
    step: str
    reason: str
    data: str
    progress: str
    started_at: datetime
    updated_at: datetime
    deadline: datetime | None
    transitions: tuple[RecordedTransition, ...]

    @property
    def started_version(self) -> int:
        """The version that the instance was started with: another than `version` where it has been migrated since."""
        return next((moved[0] for each in self.transitions if (moved := each.migration)), self.version)

    def versions(self) -> tuple[int, ...]:
        """For each transition the version that decided it, and whose data its facts hold."""
        migrations = [each.migration for each in self.transitions]
        version = next((moved[0] for moved in migrations if moved), self.version)
        found = []
        for moved in migrations:
            version = moved[1] if moved else version
            found.append(version)
        return tuple(found)
