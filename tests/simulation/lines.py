"""All connections of one run to a real PostgreSQL, and the waiting for its answers, which takes no virtual time.

What is asked is awaited before anything else happens, so that the order of events is the event loop's and not that of
who answers faster. A statement that waits for another transaction's lock cannot be awaited: it is known by the server's
own table of locks, and waits on while the others go on. When nothing else moves, virtual time does.
"""

from __future__ import annotations

import asyncio
import random
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tests.simulation.life import life_of_this_task
from tests.simulation.stores import Sky
from tests.simulation.virtual import VirtualLoop
from tests.simulation.wire import Disk, Wire

PATIENCE = 30.0
"""Real seconds in which the server has to answer, or to be seen waiting."""
LOOK_AFTER = 0.003
DEADLOCK = 0.002
"""Real seconds after which the server looks whether a wait is a deadlock: before we believe in the wait."""


class Address(Protocol):
    """A run's server, and what it says of itself."""

    def reach(self) -> socket.socket:
        """A connection to it, to be spoken on."""

    def blocked(self, backends: Sequence[int]) -> dict[int, list[int]]:
        """Which of these wait for a lock, and for whom."""

    def finish(self, backend: int) -> None:
        """End a backend, and return when it is gone."""


class Reachable(Disk, Protocol):
    """A database that can be away."""

    def failing(self) -> bool:
        """Whether nobody gets through to it."""


class Lines:
    """The connections of one run.

    One request at a time is sent, and the next one when it is answered or waits for a lock: what the server does at the
    same time for two, it does in an order of its own.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        address: Address,
        stores: Mapping[str, Reachable],
        chance: random.Random,
        sky: Sky,
    ) -> None:
        self.tally: Counter[str] = Counter()
        """How often what was seen on the wires."""
        self.chance = chance
        self._loop = loop
        self._address = address
        self._stores = stores
        self._sky = sky
        self._wires: dict[Wire, None] = {}
        self._hung_up: list[Wire] = []
        self._speaking: deque[Wire] = deque()
        self._moves = 0
        """Answers, and ends of connections: whatever may let go of a lock."""

    async def connect(self, factory: Callable[[], Any], *_: Any) -> tuple[Wire, Any]:
        """Stands in for the loop's `create_connection`. Raises Killed, ConnectionRefusedError."""
        life = life_of_this_task()
        assert life is not None, "only services speak to the database"
        life.reached("connect")
        await life.pause()
        store = self._stores[life.service]
        if store.failing():
            raise ConnectionRefusedError("the simulation has taken this database away")
        driver = factory()
        sock = self._address.reach()
        wire = Wire(self, sock, driver, life, store, self._loop)
        self._wires[wire] = None
        # A socket's transport has told its protocol before anybody gets it.
        await asyncio.sleep(0)
        return wire, driver

    # -- faults ----------------------------------------------------------------------------------------------

    def breaks(self) -> bool:
        """Whether a connection is lost with this request."""
        return self._sky.stormy and self.chance.random() < self._sky.plan.broken_lines

    def hang_up(self, name: str, *, all_of_them: bool) -> None:
        """The server ends backends of a service's, as an administrator's command or a restart does."""
        found = [wire for wire in self._wires if wire.life.service == name and wire.backend is not None]
        for wire in found if all_of_them else found[:1]:
            assert wire.backend is not None
            self.tally["ended by the server"] += 1
            self.settle()
            self._address.finish(wire.backend)
            self._hung_up.append(wire)

    def end(self, wire: Wire) -> None:
        """This connection is closed: what was open on it is undone by the server before anything else happens."""
        self._wires.pop(wire, None)
        self._moves += 1
        if wire.backend is not None and not wire.idle:
            self._address.finish(wire.backend)

    def close(self) -> None:
        """Nobody is left: the server undoes what was open."""
        for wire in list(self._wires):
            wire.hang_up()

    def speak(self, wire: Wire) -> None:
        """It is this one's turn to send what it has to say, behind all who came before."""
        self._speaking.append(wire)

    # -- waiting ---------------------------------------------------------------------------------------------

    def settle(self) -> bool:
        """Wait for real until whatever was asked is answered or stands behind a lock; returns whether news came of it.

        Raises AssertionError where a statement has neither in half a minute.
        """
        self._wait()
        news = False
        for wire in list(self._wires):
            # In the order in which they were opened, whoever was answered first.
            news = (wire in self._wires and wire.take()) or news
        return news

    def _wait(self) -> None:
        for wire in self._hung_up:
            while not wire.closed and not wire.over:
                select.select([wire.sock], (), ())
                wire.receive()
        self._hung_up.clear()
        until, wait, seen = time.monotonic() + PATIENCE, LOOK_AFTER, dict[Wire, int]()
        while True:
            asked = [wire for wire in self._wires if wire.awaited]
            waiting = [wire for wire in asked if wire.behind != self._moves]
            if not waiting and not self._speaking:
                return
            if not waiting:
                self._speaking.popleft().send_next()
                until, wait = time.monotonic() + PATIENCE, LOOK_AFTER
                continue
            ready, _, _ = select.select([wire.sock for wire in asked], (), (), wait)
            if not ready:
                assert time.monotonic() < until, f"the server neither answers nor waits: {waiting}"
                self._look_at_locks(waiting, seen)
                wait = min(wait * 2, 0.05)
                continue
            for wire in asked:
                if wire.sock in ready:
                    wire.receive()
                    self._moves += not wire.awaited
            wait = LOOK_AFTER

    def _look_at_locks(self, waiting: Sequence[Wire], seen: dict[Wire, int]) -> None:
        """Believe that a statement waits when that was seen twice: were it a deadlock, that would be told by then."""
        ours = {wire.backend: wire for wire in self._wires if wire.backend is not None}
        found = self._address.blocked([wire.backend for wire in waiting if wire.backend is not None])
        for wire in waiting:
            holders = [] if wire.backend is None else found.get(wire.backend, [])
            if not any(each in ours for each in holders):
                seen.pop(wire, None)
            elif seen.get(wire) == self._moves:
                wire.behind = self._moves
                self.tally["waits for a lock"] += 1
            else:
                seen[wire] = self._moves


class ServedLoop(VirtualLoop):
    """A loop of virtual time whose tasks can speak to a real server."""

    lines: Lines

    async def create_connection(self, protocol_factory: Callable[[], Any], *where: Any, **_: Any) -> Any:
        """A connection of the process that asks for it."""
        return await self.lines.connect(protocol_factory, *where)

    def select(self, timeout: float | None) -> Sequence[Any]:
        """Let the server answer, and time pass if then there is nothing to do."""
        return super().select(0 if self.lines.settle() else timeout)
