"""A connection's line to PostgreSQL: prepared statements handed to what speaks its protocol, one timer for them all.

Round each statement asyncpg's connection calls some sixty functions, half of them to set a timer and take it back.
Where the statement is prepared already, nothing of that is needed but the bound on how long it may take.

Names that asyncpg does not promise, all here: a connection's `_protocol`, `_stmt_cache`, `_config` and
`_query_loggers`, the protocol's `bind_execute` and `_is_cancelling`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from asyncpg.exceptions import InvalidCachedStatementError, OutdatedSchemaCacheError
from asyncpg.protocol import NO_TIMEOUT


class Bound:
    """How long each of a connection's statements may take: a timer that is set anew once in so many seconds.

    It looks at the statement under way, and a task that has waited for one too long gets a TimeoutError.
    """

    __slots__ = ("_expired", "_loop", "_seconds", "_task", "_timer", "_until")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._until = 0.0
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._expired = False

    async def wait(self, answer: Callable[[], Any]) -> Any:
        """What `answer` is awaited for; raises TimeoutError where it does not come in time."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("no task waits for the answer")
        before = task.cancelling()
        self._until = self._loop.time() + self._seconds
        self._task, self._expired = task, False
        if self._timer is None:
            self._timer = self._loop.call_at(self._until, self._look)
        try:
            return await answer()
        except asyncio.CancelledError:
            if self._expired and task.uncancel() <= before:
                raise TimeoutError from None
            raise
        finally:
            self._task = None

    def _look(self) -> None:
        self._timer = None
        if self._task is None:
            return
        if self._loop.time() < self._until:
            self._timer = self._loop.call_at(self._until, self._look)
        else:
            self._expired = True
            self._task.cancel()


class Line:
    """What prepared statements of one connection of asyncpg's are spoken on."""

    __slots__ = ("_bound", "_protocol", "_statements", "driver")

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self._protocol = driver._protocol  # noqa: SLF001
        self._statements = driver._stmt_cache  # noqa: SLF001
        seconds = driver._config.command_timeout  # noqa: SLF001
        self._bound = None if seconds is None else Bound(asyncio.get_running_loop(), seconds)

    def prepared(self, words: str) -> Any | None:
        """The statement, if it is prepared and nothing stands in its way."""
        if self.driver._query_loggers or self._protocol._is_cancelling():  # noqa: SLF001
            return None
        return self._statements.get((words, self._protocol.get_record_class(), False))

    async def fetch(self, statement: Any, parameters: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """The rows of a prepared statement; raises what the driver raises."""

        def execute() -> Any:
            return self._protocol.bind_execute(statement, parameters, "", 0, False, NO_TIMEOUT)

        try:
            rows: Sequence[Sequence[Any]] = await (execute() if self._bound is None else self._bound.wait(execute))
        except (InvalidCachedStatementError, OutdatedSchemaCacheError):
            # A migration has changed what it returns, or a type. Everything is prepared anew then.
            await self.driver.reload_schema_state()
            raise
        return rows
