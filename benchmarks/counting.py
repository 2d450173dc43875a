"""python -m benchmarks.counting: the orchestrator as it is, which also counts what it asks of its database.

At SIGUSR1 it writes the counts, as one JSON object, to the file that AMENDS_BENCH_COUNTS names. Counting costs a
microsecond a statement, and a statement is shared by a batch. Nobody listens to SQLAlchemy's statements for it: then
those that are spoken to the driver would take the longer way, and that would be what is measured.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import driver
from orchestrator.cli import main

FILE = "AMENDS_BENCH_COUNTS"


@dataclass(frozen=True, slots=True)
class Counts:
    """What was asked of the database.

    A round trip is a statement, a BEGIN, a COMMIT or a ROLLBACK. That is at most: BEGIN and a lone batch's
    COMMIT mostly go in one write with a statement. The first use of a statement on a connection, which prepares it,
    counts no more than any other.
    """

    statements: int
    commits: int
    round_trips: int

    def since(self, before: Counts) -> Counts:
        """What was asked between the two."""
        return Counts(
            self.statements - before.statements,
            self.commits - before.commits,
            self.round_trips - before.round_trips,
        )


def read(file: Path) -> Counts | None:
    """The counts that a process has written there; None where it has not yet."""
    return Counts(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def _count(file: Path) -> None:
    """Count from now on, whatever engine it is, and answer SIGUSR1."""
    seen: Counter[str] = Counter()

    def note(what: str) -> Any:
        def listener(*_: object) -> None:
            seen[what] += 1

        return listener

    spoken = driver.fetch

    async def fetch(
        connection: AsyncConnection, words: str, parameters: Sequence[Any], *, last: bool = False
    ) -> Sequence[Sequence[Any]]:
        seen["statements"] += 1
        return await spoken(connection, words, parameters, last=last)

    driver.fetch = fetch
    for what, name in (
        ("statements", "do_execute"),
        ("statements", "do_execute_no_params"),
        ("statements", "do_executemany"),
        ("begins", "begin"),
        ("commits", "commit"),
        ("rollbacks", "rollback"),
    ):
        event.listen(Engine, name, note(what))

    def answer(_number: int, _frame: FrameType | None) -> None:
        counts = Counts(seen["statements"], seen["commits"], sum(seen.values()))
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(asdict(counts)), encoding="utf-8")
        unfinished.replace(file)

    signal.signal(signal.SIGUSR1, answer)


if __name__ == "__main__":
    _count(Path(os.environ[FILE]))
    main(["run"])
