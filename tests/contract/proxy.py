"""A TCP proxy in front of the broker, to break the connection in the ways networks do."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from yarl import URL


class Proxy:
    """Forwards to the broker of `url`; `url` of the proxy leads through it."""

    def __init__(self, url: str) -> None:
        self._target = URL(url)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._links: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._cuts = 0
        self.accepted = 0

    @property
    def url(self) -> str:
        """The broker's URL, through this proxy."""
        return str(self._target.with_host("127.0.0.1").with_port(self._port))

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def listen(self) -> None:
        """Accept connections, on the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Cut every connection and accept no more: the broker is away."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.reset()

    def reset(self) -> None:
        """Cut every connection; the next attempt succeeds."""
        self._cuts += 1
        for pair in self._links:
            for writer in pair:
                writer.transport.abort()

    def blackhole(self) -> None:
        """Keep every connection, and let nothing through: the peer is gone and nobody said so."""
        self._open.clear()

    def let_through(self) -> None:
        """End the blackhole."""
        self._open.set()

    def stop_reading(self) -> None:
        """Let what the clients say pile up."""
        for client, _broker in self._links:
            if not client.is_closing():
                client.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport can

    def half_close(self) -> None:
        """Say good-bye to every client without closing the connection."""
        for client, _broker in self._links:
            if not client.is_closing():
                client.write_eof()

    def tell_clients(self, frame: bytes) -> None:
        """Slip a frame into what the broker says; only between its frames, so when the broker is silent."""
        for client, _broker in self._links:
            if not client.is_closing():
                client.write(frame)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        cuts = self._cuts
        try:
            broker_reader, broker_writer = await asyncio.open_connection(self._target.host, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, broker_writer)
        if self._server is None or self._cuts > cuts:
            # Cut before it was one: nobody is to get through to a broker that is away.
            for each in pair:
                each.transport.abort()
            return
        self._links.add(pair)
        for source, sink in ((reader, broker_writer), (broker_reader, writer)):
            task = asyncio.create_task(self._forward(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while chunk := await source.read(65_536):
                await self._open.wait()
                sink.write(chunk)
                await sink.drain()
        except (ConnectionError, RuntimeError):
            # Cut by us or by one of the ends; a RuntimeError means that we have said good-bye there.
            return
        finally:
            sink.close()
