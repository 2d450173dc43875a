"""How many bytes go over a connection: a door to a server of this machine that counts what passes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

CHUNK = 1 << 16


class Meter:
    """Listens on a free port and passes everything on to `port`; `sent` are bytes to the server, `received` from it."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._to = port
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()
        self.sent = 0
        self.received = 0

    @property
    def port(self) -> int:
        """Where it listens. Raises RuntimeError before it does."""
        if self._server is None:
            raise RuntimeError("the meter does not listen yet")
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self._host, 0)
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
            server, asking = await asyncio.open_connection(self._host, self._to)
        except ConnectionError:
            answering.close()
            return
        for passing in (self._pass(client, asking, to_server=True), self._pass(server, answering, to_server=False)):
            task = asyncio.create_task(passing)
            self._passing.add(task)
            task.add_done_callback(self._passing.discard)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, to_server: bool) -> None:
        # A connection that is cut off at one end is cut off at the other, and that is all there is to it.
        with suppress(ConnectionError):
            while content := await source.read(CHUNK):
                if to_server:
                    self.sent += len(content)
                else:
                    self.received += len(content)
                target.write(content)
                await target.drain()
        target.close()
