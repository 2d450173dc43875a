"""A database that is waited for: at start until it answers, later for an answer why it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta

import structlog
import tenacity

from messaging.clock import Clock, Entropy
from messaging.database import (
    DATABASE_ERRORS,
    Database,
    does_not_answer,
    in_words,
    is_transient,
    no_database,
    shown,
)
from messaging.privileges import NotGranted

LOOK_SECONDS = 2
"""How long a look at the tables may take before the database counts as away."""


class DatabaseUnavailable(Exception):
    """The database cannot be reached; says which one and why."""


class WrongDatabase(Exception):
    """DATABASE_URL, or another such variable, names a file that is no database; says which, and how to mend it."""


async def reach(
    database: Database, patience: timedelta, clock: Clock, entropy: Entropy, variable: str = "DATABASE_URL"
) -> None:
    """Return when it answers; `variable` says where it is.

    Raises DatabaseUnavailable after `patience`, or at once where waiting does not help; WrongDatabase.
    """
    give_up = clock.monotonic() + patience.total_seconds()
    log = structlog.get_logger()

    def say(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning("waiting_for_database", database=shown(database.url), error=in_words(error) if error else "")

    try:
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(is_transient),
            # Tenacity's own would read the machine's time and chance, which a simulation cannot repeat.
            stop=lambda _: clock.monotonic() >= give_up,
            wait=lambda state: min(0.1 * 2**state.attempt_number, 5) * (0.5 + entropy.jitter() / 2),
            before_sleep=say,
            sleep=clock.sleep,
            reraise=True,
        ):
            with attempt:
                await database.ping()
    except DATABASE_ERRORS as error:
        if (mend := no_database(database.url, error, variable)) is not None:
            raise WrongDatabase(mend) from error
        raise DatabaseUnavailable(does_not_answer(database.url, error, variable)) from error


async def obstacles(database: str, tables: str, look: Awaitable[str | None]) -> dict[str, str]:
    """What a look says is in the way, under the name of the tables; why it cannot be taken, under the database's."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            behind = await look
    except NotGranted as error:
        return {database: str(error)}
    except DATABASE_ERRORS as error:
        return {database: in_words(error)}
    return {} if behind is None else {tables: behind}
