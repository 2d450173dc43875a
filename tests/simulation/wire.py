"""A driver's connection to a real PostgreSQL, in which time is virtual and whatever may befall a connection does.

The driver is asyncpg as it is; what stands in for the socket's transport is ours. What it writes goes to the server at
once or after a virtual while, and the answer is awaited for real while the virtual clock stands (`messaging` never
notices how long the server took). An answer is handed over as a whole, at once or after a virtual while.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from tests.simulation import frames
from tests.simulation.frames import Request
from tests.simulation.life import Killed, Life

LONGEST_PAUSE = 0.2
LONGEST_UNNOTICED = 1.5
"""Virtual seconds for which a process may not have read that the server has closed its connection."""


class Server(Protocol):
    """What the wires of a run have in common."""

    tally: Counter[str]
    chance: random.Random

    def breaks(self) -> bool:
        """Whether a connection is lost with this request."""

    def speak(self, wire: Wire) -> None:
        """It is this one's turn to send what it has to say, behind all who came before."""

    def settle(self) -> object:
        """Wait for real until whatever was asked is answered or stands behind a lock."""

    def end(self, wire: Wire) -> None:
        """This connection is closed: wait for real until the server has undone what was not committed on it."""


class Disk(Protocol):
    """The faults of one database, and who wants to know of its commits."""

    def uncertain(self) -> bool:
        """Whether the connection is lost before this commit's answer has come."""

    def committed(self) -> None:
        """A transaction that may have written has just committed."""


class Wire(asyncio.Transport):
    """One connection of one process."""

    def __init__(
        self, server: Server, sock: socket.socket, driver: Any, life: Life, disk: Disk, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__()
        self.sock = sock
        self.life = life
        self.backend: int | None = None
        """The number of the server's process."""
        self.awaited: deque[str] = deque()
        """What will end the answers that the server has still to give."""
        self.behind: int | None = None
        """The server's move at which what was asked last was seen to wait for a lock."""
        self.idle = True
        """Whether no transaction is open, by what the server said last."""
        self.over = False
        """Whether the server has closed its end."""
        self.closed = False
        """Whether we have closed ours."""
        self._server = server
        self._driver = driver
        self._disk = disk
        self._loop = loop
        self._logging_in = True
        self._known: dict[bytes, bytes] = {}
        """What was parsed here, by the names that it has since then."""
        self._asking = False
        """Whether the process waits for an answer."""
        self._lost = False
        self._unsent: deque[bytes] = deque()
        self._partial = bytearray()
        self._answer = bytearray()
        self._committed = False
        self._unread: deque[bytes | None] = deque()
        """What the process has not read yet: answers, and at last the connection's end (None)."""
        self._told = False
        life.hold(self)
        loop.call_soon(driver.connection_made, self)

    def __repr__(self) -> str:
        return f"<wire of {self.life!r}, backend {self.backend}>"

    # -- what asyncio's transports do ------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.sock if name == "socket" else default

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: Any) -> None:
        """Send, perhaps after a while, unless the process dies of it or the connection is lost. Raises Killed."""
        self.life.reached("connection")
        if self.closed:
            return
        said = bytes(data)
        asked = frames.request(said, self._known, logging_in=self._logging_in)
        assert asked.awaits, f"the driver says what the simulation does not know: {said[:40]!r}"
        if not self._logging_in:
            self.life.reached("before commit" if asked.commits else "statement")
        self._asking = True
        self._count(asked)
        if not self._logging_in and self._server.breaks():
            self._break(said, "commit" if asked.commits else "statement")
            return
        self._unsent.append(said)
        self._after(self._pause(), partial(self._server.speak, self))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        """Close, whatever is under way."""
        if not self.closed:
            self.life.release(self)
            self.hang_up()
            self._loop.call_soon(self._tell_end, None)

    def pause_reading(self) -> None:
        """Nothing is read that was not asked for."""

    def resume_reading(self) -> None:
        """Nothing was paused."""

    # -- what befalls them -----------------------------------------------------------------------------------

    def sever(self) -> None:
        """The process is dead: the operating system closes what it held."""
        if not self.closed:
            self.hang_up()
            # Once its tasks have been told that they end.
            self._loop.call_later(0.001, self._tell_end, None)

    def lose(self) -> None:
        """The network gives up on it; what is under way at the server is undone."""
        if not self.closed:
            self.life.release(self)
            self.hang_up()
            self._loop.call_soon(self._tell_end, ConnectionResetError("the simulation has cut this connection"))

    def _break(self, said: bytes, what: str) -> None:
        """Lose the connection before a request, in the middle of it, or before its answer."""
        when = self._server.chance.choice(("before", "within", "after"))
        self._server.tally[f"lost {when} a {what}"] += 1
        self._lost = True
        if when == "within":
            self._transmit(said[: self._server.chance.randrange(1, len(said))])
            self.sock.shutdown(socket.SHUT_WR)
            self.awaited.append(frames.GONE)
        elif when == "after":
            self._send(said)
        self._server.settle()
        self._disk.committed()  # which part of it the server has understood is the server's affair
        self.lose()

    def _pause(self) -> float:
        latency = self.life.latency
        if latency and self._server.chance.random() < latency / 2:
            return self._server.chance.random() ** 3 * LONGEST_PAUSE
        return 0.0

    def hang_up(self) -> None:
        """Close it, and tell nobody."""
        self.closed = self._lost = True
        self._unsent.clear()
        self._unread.clear()
        self.awaited.clear()
        self.sock.close()
        self._server.end(self)

    # -- what goes to the server -----------------------------------------------------------------------------

    def _count(self, asked: Request) -> None:
        tally = self._server.tally
        if asked.commits:
            tally["commit goes along" if asked.executes else "commit goes alone"] += 1
        if asked.begins and asked.executes:
            tally["begin goes along"] += 1

    def send_next(self) -> None:
        """Send what was written first and is still here."""
        if self._unsent and not self.closed:
            self._send(self._unsent.popleft())

    def _send(self, said: bytes) -> None:
        if self.over:
            # Nobody will answer: it finds out now what it has not read yet.
            self._server.tally["asked of a server that had hung up"] += 1
            while self._unread:
                self._read_next()
            return
        self.awaited.extend(frames.request(said, self._known, logging_in=self._logging_in).awaits)
        self.behind = None
        self._transmit(said)

    def _transmit(self, said: bytes) -> None:
        self.idle = False
        # A server that has hung up meanwhile is found by `receive`.
        with suppress(OSError):
            self.sock.sendall(said)

    # -- what comes from the server --------------------------------------------------------------------------

    def receive(self) -> None:
        """Take what the server has said."""
        try:
            found = self.sock.recv(1 << 18, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            found = b""
        if not found:
            self.over = True
            self.awaited.clear()
            return
        self._partial += found
        for kind, content in list(frames.messages(bytes(self._partial))):
            self._answer += self._partial[: len(content) + 5]
            del self._partial[: len(content) + 5]
            self._note(kind, content)
            if self.awaited and frames.ends(self.awaited[0], kind, content):
                self.awaited.popleft()

    def _note(self, kind: str, content: bytes) -> None:
        match kind:
            case "K":
                self.backend = frames.backend_of(content)
            case "Z":
                self._logging_in = False
                self.idle = content == b"I"
            case "C" if content == b"COMMIT\0":
                self._committed = True
                self._disk.committed()
            case "E":
                self._server.tally[frames.state_of(content)] += 1
            case _:
                pass

    def take(self) -> bool:
        """Let the process have what the server has said; returns whether there was anything."""
        if self._lost or not (self._answer or (self.over and None not in self._unread)):
            return False
        answer = bytes(self._answer)
        self._answer.clear()
        if self._committed:
            self._committed = False
            try:
                self.life.reached("after commit")
            except Killed:
                return True
            if self._disk.uncertain():
                self._server.tally["lost after a commit"] += 1
                self.lose()
                return True
        # An idle process reads that its server has gone when it comes to it, one that waits for an answer at once.
        unnoticed = self.over and not self._asking
        wait = self._server.chance.random() * LONGEST_UNNOTICED if unnoticed else self._pause()
        self._asking = False
        if answer:
            self._unread.append(answer)
            self._after(wait, self._read_next)
        if self.over:
            self._unread.append(None)
            self._after(wait, self._read_next)
        return True

    def _read_next(self) -> None:
        if self.closed or not self._unread:
            return
        answer = self._unread.popleft()
        if answer is not None:
            self._driver.data_received(answer)
            return
        self.life.release(self)
        self.hang_up()
        self._tell_end(None)

    def _tell_end(self, error: Exception | None) -> None:
        if not self._told:
            self._told = True
            self._driver.connection_lost(error)

    def _after(self, wait: float, act: Callable[[], None]) -> None:
        if wait > 0:
            self._loop.call_later(wait, act)
        else:
            self._loop.call_soon(act)
