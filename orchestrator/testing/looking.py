"""What a test sees of sagas that run: an instance with its data and history, and what was buried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic

from sqlalchemy import select

from messaging.database import Database
from messaging.schema import dead_letter
from messaging.service import Service
from orchestrator.catalog import Catalog
from orchestrator.history import load_state
from orchestrator.replay.reading import recorded
from orchestrator.replay.recorded import Recorded
from orchestrator.saga.definition import Saga
from orchestrator.saga.state import saga_id
from orchestrator.saga.steps import D
from orchestrator.schema import saga as saga_table


@dataclass(frozen=True, slots=True)
class Seen(Generic[D]):
    """An instance as it lies in the orchestrator's database."""

    status: str
    reason: str
    """Why it goes back or is stuck."""
    data: D
    steps: Mapping[str, str]
    """What became of each step, wait and delay that was reached."""
    deadline: datetime | None
    recorded: Recorded
    """Its whole history."""


@dataclass(frozen=True, slots=True)
class Buried:
    """A message that a service could not handle."""

    service: str
    type: str
    reason: str
    """A word for programs; `error` says it for people."""
    error: str


async def saga(database: Database, catalog: Catalog, key: object, of: Saga[Any] | None) -> Seen[Any]:
    """The instance of this key. Raises LookupError where there is none, or it is not clear of which saga."""
    name = of.name if of is not None else _only(catalog)
    async with database.reading() as connection:
        row = (await connection.execute(select(saga_table).where(saga_table.c.id == saga_id(name, key)))).first()
        if row is None:
            keys = (await connection.execute(select(saga_table.c.key).where(saga_table.c.name == name))).scalars().all()
            raise LookupError(f"no instance of {name} has the key {key}; there are {', '.join(keys) or 'none'}")
        found = await recorded(connection, row)
    definition = catalog.get(row.name, row.version)
    if definition is None:
        raise LookupError(f"{row.name} v{row.version} is not among the sagas of this harness")
    state = load_state(definition, status=row.status, reason=row.reason, data=row.data, progress=row.progress)
    return Seen(
        status=row.status,
        reason=row.reason,
        data=state.data,
        steps={name: step.status.value for name, step in state.steps.items()},
        deadline=row.deadline,
        recorded=found,
    )


async def dead_letters(service: Service) -> list[Buried]:
    """What this service has buried."""
    async with service.database.reading() as connection:
        rows = (await connection.execute(select(dead_letter).order_by(dead_letter.c.id))).all()
    return [Buried(row.service, row.type or "", row.reason, row.error) for row in rows]


def _only(catalog: Catalog) -> str:
    names = catalog.names()
    if len(names) != 1:
        raise LookupError(f"this harness runs {', '.join(names) or 'no saga'}: say which one, saga(key, of=SAGA)")
    return names[0]
