"""A door to PostgreSQL that counts how often whoever goes through it has to wait for an answer."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from types import TracebackType
from typing import Self

from sqlalchemy.engine import URL, make_url

CHUNK = 1 << 16
_ALONG = re.compile(rb"B.{4}\0COMMIT \d+\0", re.DOTALL)


class Door:
    """Listens on a free port and passes everything on to the server that `url` names.

    `trips` says of each transaction that was committed, in order, how many round trips it took, COMMIT's included.
    What was rolled back (the looks of a poller, which come by the clock) is left out.
    """

    def __init__(self, url: str) -> None:
        self._behind = make_url(url)
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()
        self.trips: list[int] = []
        self.cutting = False
        """Whether who commits next loses the connection when the server has answered, and never hears of it."""

    @property
    def url(self) -> URL:
        """The same database, through the door. Raises RuntimeError before it is open."""
        if self._server is None:
            raise RuntimeError("the door is not open yet")
        host, port = self._server.sockets[0].getsockname()[:2]
        return self._behind.set(host=host, port=port)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _accept(self, client: asyncio.StreamReader, answering: asyncio.StreamWriter) -> None:
        try:
            server, asking = await asyncio.open_connection(self._behind.host, self._behind.port or 5432)
        except OSError:
            answering.close()
            return
        passing = _Conversation(self)
        for each in (passing.ask(client, asking), passing.answer(server, answering)):
            task = asyncio.create_task(each)
            self._passing.add(task)
            task.add_done_callback(self._passing.discard)


class _Conversation:
    """One connection's."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._trips = door.trips
        self._cut = False
        self._taken = 0
        self._answered = True

    async def ask(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        # A connection that is cut off at one end is cut off at the other, and that is all there is to it.
        with suppress(ConnectionError):
            while content := await source.read(CHUNK):
                self._taken += self._answered
                self._answered = False
                # Alone it is a query of its own; otherwise it is bound by its name, behind a statement.
                if b"COMMIT" in content and (content.startswith(b"Q") or _ALONG.search(content)):
                    self._trips.append(self._taken)
                    self._taken = 0
                    self._cut, self._door.cutting = self._door.cutting, False
                elif content.startswith(b"Q") and b"ROLLBACK" in content:
                    self._taken = 0
                target.write(content)
                await target.drain()
        target.close()

    async def answer(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while (content := await source.read(CHUNK)) and not self._cut:
                self._answered = True
                target.write(content)
                await target.drain()
        target.close()
