"""Golden histories as files: the rows of one instance, texts and all, as its database held them."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from uuid import UUID

from messaging.database import Database
from orchestrator.catalog import Catalog, load
from orchestrator.instance import COLUMNS
from orchestrator.replay.recorded import Recorded, RecordedTransition
from orchestrator.schema import saga, saga_history

FOLDER = Path(__file__).parent
MODULES = ("orchestrator.sagas.fulfill_order", "docs.examples.trip.saga", "tests.golden.moving")


def golden() -> list[Path]:
    """Every recorded history there is."""
    return sorted(FOLDER.glob("*_v*/*.json"))


def catalog() -> Catalog:
    """The definitions they are replayed with."""
    return load(MODULES)


def write(recorded: Recorded, path: Path) -> None:
    """Keep a history; raises FileExistsError, for what was recorded once is never recorded again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = asdict(recorded)
    with path.open("x", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=1, default=_text) + "\n")


def read(path: Path) -> Recorded:
    """A history as it was."""
    content = json.loads(path.read_text(encoding="utf-8"))
    lines = [each | {"at": datetime.fromisoformat(each["at"])} for each in content.pop("transitions")]
    deadline = content["deadline"]
    return Recorded(
        **content
        | {
            "id": UUID(content["id"]),
            "started_at": datetime.fromisoformat(content["started_at"]),
            "updated_at": datetime.fromisoformat(content["updated_at"]),
            "deadline": None if deadline is None else datetime.fromisoformat(deadline),
            "transitions": tuple(RecordedTransition(**each) for each in lines),
        }
    )


async def store(database: Database, *histories: Recorded) -> None:
    """Put them into a database as an orchestrator had left them."""
    rows = [
        {name: getattr(each, name) for name in COLUMNS if name not in {"revision", "traceparent"}}
        | {"revision": len(each.transitions), "traceparent": None}
        for each in histories
    ]
    lines = [
        {"saga_id": each.id, "seq": line.seq, "at": line.at}
        | {"input": line.input, "facts": line.facts, "commands": line.commands}
        for each in histories
        for line in each.transitions
    ]
    async with database.transaction() as connection:
        await connection.execute(saga.insert(), rows)
        await connection.execute(saga_history.insert(), lines)


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
