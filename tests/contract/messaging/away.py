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
