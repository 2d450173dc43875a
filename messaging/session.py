"""The session that a batch's handlers get: joined to the batch's connection once, and then it knows which that is.

SQLAlchemy goes through a greenlet each time a session is asked for its connection, because to find one may have to
wait. A batch's session has one from the beginning: a handler that asks three times spends a tenth of its way there.

Names that are not promised are used of SQLAlchemy's session: `_transaction`, `_autobegin_t`, `_close_impl`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Connection, RootTransaction
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction, SessionTransactionOrigin

from messaging.outbox import only_we_hear_of_beginnings


class ReadySession(Session):
    """A session whose transaction may be made before it begins.

    It has not begun by that: until something is asked of it, it is in no transaction, and rolling it back undoes
    nothing.
    """

    _ready: tuple[SessionTransaction, Connection, RootTransaction] | None = None
    """What was made, and what that has joined."""

    def make_ready(self, within: Connection) -> SessionTransaction | None:
        """Make what it would begin with, on this connection, which it is bound to.

        Not where somebody listens: whoever is told that a session has begun may send a statement there and then.
        """
        joined = within.get_transaction()
        if joined is None or self._transaction is not None or not self._would_join(within, joined):
            return None
        self.connection()
        made = self.get_transaction()
        self._transaction = None
        self._ready = None if made is None else (made, within, joined)
        return made

    def _would_join(self, within: Connection, joined: RootTransaction) -> bool:
        same = within.get_transaction() is joined and joined.is_active and not within.in_nested_transaction()
        return same and not within.invalidated and only_we_hear_of_beginnings(self)

    def begin_ready(self) -> SessionTransaction | None:
        """Begin with what was made; None where that is nothing, or no longer what it would begin with."""
        ready, self._ready = self._ready, None
        if ready is None or not self._would_join(*ready[1:]):
            return None
        self._transaction = ready[0]
        return ready[0]

    def _autobegin_t(self, begin: bool = False) -> SessionTransaction:
        found = None if self._transaction is not None else self.begin_ready()
        if found is None:
            return super()._autobegin_t(begin)
        if begin:
            found.origin = SessionTransactionOrigin.BEGIN
        return found

    def _close_impl(self, invalidate: bool, is_reset: bool = False) -> None:
        self._ready = None
        super()._close_impl(invalidate, is_reset)


class BatchSession(AsyncSession):
    """A session on a connection whose transaction somebody else ends; to everybody else an AsyncSession."""

    sync_session_class = ReadySession
    sync_session: ReadySession

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
        """Make ready to join the connection's transaction, which is done with the first thing that is asked of it."""
        within = self._batch.sync_connection
        if within is not None and not within.invalidated:
            self._joined = self.sync_session.make_ready(within)

    async def connection(self, *given: Any, **how: Any) -> AsyncConnection:
        """As AsyncSession's; what has been joined is known without a greenlet in which to wait for it."""
        plain = self.sync_session
        # A savepoint is the server's business, and an option may be.
        if given or how or plain.in_nested_transaction():
            return await super().connection(*given, **how)
        begun = plain.get_transaction() or plain.begin_ready()
        if begun is not None and begun is self._joined:
            _ = plain.connection()  # which refuses where the transaction can no longer be used
            return self._batch
        found = await super().connection()
        if found is self._batch:
            self._joined = plain.get_transaction()
        return found
