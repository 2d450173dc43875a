"""A database that is away for as long as a test wants."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from tests.contract.messaging.bench import Bench


class Away:
    """Makes the database say that it is away, at every statement, until told otherwise."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.refused = 0
        self.away = True
        event.listen(bench.database.engine.sync_engine, "before_cursor_execute", self._refuse)

    def _refuse(self, *_: Any) -> None:
        if self.away:
            self.refused += 1
            raise OperationalError("SELECT 1", {}, ConnectionError("database is locked"))


class Dragging:
    """Lets no statement on one table end in time, until told otherwise."""

    def __init__(self, bench: Bench, table: str) -> None:
        self.table = table
        self.refused = 0
        self.slow = True
        event.listen(bench.database.engine.sync_engine, "before_cursor_execute", self._refuse)

    def _refuse(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if self.slow and self.table in statement:
            self.refused += 1
            raise TimeoutError
