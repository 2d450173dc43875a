"""A connection's line to PostgreSQL: prepared statements handed to what speaks its protocol.

Round each statement asyncpg's connection calls some sixty functions, half of them to set a timer and take it back.
Where the statement is prepared already, nothing of that is needed but the bound on how long it may take.

Names that asyncpg does not promise, all here: a connection's `_protocol`, `_stmt_cache`, `_config` and
`_query_loggers`, the protocol's `bind_execute` and `_is_cancelling`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

from asyncpg.exceptions import InvalidCachedStatementError, OutdatedSchemaCacheError
from asyncpg.protocol import NO_TIMEOUT

from messaging.bound import Bound


class Line:
    """What prepared statements of one connection of asyncpg's are spoken on."""

    __slots__ = ("_bound", "_protocol", "_seconds", "_statements", "driver")

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self._protocol = driver._protocol  # noqa: SLF001
        self._statements = driver._stmt_cache  # noqa: SLF001
        self._seconds: float | None = driver._config.command_timeout  # noqa: SLF001
        self._bound = Bound(asyncio.get_running_loop())

    def prepared(self, words: str) -> Any | None:
        """The statement, if it is prepared and nothing stands in its way."""
        if self.driver._query_loggers or self._protocol._is_cancelling():  # noqa: SLF001
            return None
        return self._statements.get((words, self._protocol.get_record_class(), False))

    async def fetch(self, statement: Any, parameters: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """The rows of a prepared statement; raises what the driver raises."""

        def execute() -> Awaitable[Sequence[Sequence[Any]]]:
            answer: Awaitable[Sequence[Sequence[Any]]] = self._protocol.bind_execute(
                statement, parameters, "", 0, False, NO_TIMEOUT
            )
            return answer

        try:
            return await (execute() if self._seconds is None else self._bound.wait(execute, self._seconds))
        except (InvalidCachedStatementError, OutdatedSchemaCacheError):
            # A migration has changed what it returns, or a type. Everything is prepared anew then.
            await self.driver.reload_schema_state()
            raise
