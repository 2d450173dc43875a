"""The session that a batch's handlers get: joined to the batch's connection once, and then it knows which that is.

SQLAlchemy goes through a greenlet each time a session is asked for its connection, because to find one may have to
wait. A batch's session has one from the beginning: a handler that asks three times spends a tenth of its way there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import SessionTransaction

from messaging.outbox import only_we_hear_of_beginnings


class BatchSession(AsyncSession):
    """A session on a connection whose transaction somebody else ends; to everybody else an AsyncSession."""

    def __init__(self, connection: AsyncConnection, info: Mapping[str, Any]) -> None:
        super().__init__(
            connection,
            info=dict(info),
            join_transaction_mode="rollback_only",
            expire_on_commit=False,
            # The connection is another batch's afterwards: who has kept the session can do nothing with it.
            close_resets_only=False,
        )
        self._batch = connection
        self._joined: SessionTransaction | None = None
        """Its own transaction that has the connection."""

    def join(self) -> None:
        """Join the connection's transaction now, and not with the first thing that is asked of it.

        Not where somebody listens: whoever is told that a session has begun may send a statement there and then.
        """
        within, plain = self._batch.sync_connection, self.sync_session
        if within is None or within.invalidated or not within.in_transaction() or not only_we_hear_of_beginnings(plain):
            return
        if plain.connection() is within:
            self._joined = plain.get_transaction()

    async def connection(self, *given: Any, **how: Any) -> AsyncConnection:
        """As AsyncSession's; what has been joined is known without a greenlet in which to wait for it."""
        plain = self.sync_session
        # A savepoint is the server's business, and an option may be.
        if given or how or plain.in_nested_transaction():
            return await super().connection(*given, **how)
        if self._joined is not None and plain.get_transaction() is self._joined:
            _ = plain.connection()  # which refuses where the transaction can no longer be used
            return self._batch
        found = await super().connection()
        if found is self._batch:
            self._joined = plain.get_transaction()
        return found
