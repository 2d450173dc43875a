"""A connection's line to PostgreSQL: prepared statements handed to what speaks its protocol.

Round each statement asyncpg's connection calls some sixty functions, half of them to set a timer and take it back.
Where the statement is prepared already, nothing of that is needed but the bound on how long it may take.

Names that asyncpg does not promise, all here: a connection's `_protocol`, `_stmt_cache`, `_config` and
`_query_loggers`, the protocol's `bind_execute` and `_is_cancelling`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from asyncpg.exceptions import InvalidCachedStatementError, OutdatedSchemaCacheError
from asyncpg.protocol import NO_TIMEOUT

from messaging.bound import Bound


def message(kind: bytes, content: bytes) -> bytes:
    """A message to PostgreSQL: its kind, its length, what it says."""
    return kind + (len(content) + 4).to_bytes(4, "big") + content


def executed(name: bytes, values: Sequence[str] = ()) -> bytes:
    """What executes a statement that the server knows by a name: Bind, with all values as text, and Execute."""
    given = [len(each).to_bytes(4, "big") + each for each in map(str.encode, values)]
    bound = b"\0" + name + b"\0" + bytes(2) + len(given).to_bytes(2, "big") + b"".join(given) + bytes(2)
    return message(b"B", bound) + message(b"E", bytes(5))


def _nothing_new() -> None:
    """It is known already."""


class Line:
    """What prepared statements of one connection of asyncpg's are spoken on."""

    __slots__ = ("_bound", "_names", "_numbered", "_protocol", "_seconds", "_statements", "driver")

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self._protocol = driver._protocol  # noqa: SLF001
        self._statements = driver._stmt_cache  # noqa: SLF001
        self._seconds: float | None = driver._config.command_timeout  # noqa: SLF001
        self._bound = Bound(asyncio.get_running_loop())
        self._names: dict[str, tuple[bytes, bytes]] = {}
        """By what name the server knows what was sent beside a statement, and what executes it without values."""
        self._numbered = 0

    def beside(self, words: str, *values: str) -> tuple[bytes, Callable[[], None]]:
        """What executes a statement, without reading its rows, before somebody else's Sync; `values` are $1, $2.

        The server parses it the first time. Call what is returned with it when all of that write has gone well: of one
        that has not, nobody knows whether it was parsed, and the next time it is, by another name.
        """
        known = self._names.get(words)
        if known is not None:
            return executed(known[0], values) if values else known[1], _nothing_new
        self._numbered += 1
        named = f"{words.partition(' ')[0]} {self._numbered}".encode()
        parsed = message(b"P", named + b"\0" + words.encode() + b"\0" + bytes(2))
        return parsed + executed(named, values), partial(self._names.__setitem__, words, (named, executed(named)))

    def prepared(self, words: str) -> Any | None:
        """The statement, if it is prepared and nothing stands in its way."""
        if self.driver._query_loggers or self._protocol._is_cancelling():  # noqa: SLF001
            return None
        return self._statements.get((words, self._protocol.get_record_class(), False))

    async def fetch(self, statement: Any, parameters: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """The rows of a prepared statement; raises what the driver raises."""
        execute: Callable[[], Awaitable[Sequence[Sequence[Any]]]] = partial(
            self._protocol.bind_execute, statement, parameters, "", 0, False, NO_TIMEOUT
        )
        try:
            return await (execute() if self._seconds is None else self._bound.wait(execute, self._seconds))
        except (InvalidCachedStatementError, OutdatedSchemaCacheError):
            # A migration has changed what it returns, or a type. Everything is prepared anew then.
            await self.driver.reload_schema_state()
            raise
