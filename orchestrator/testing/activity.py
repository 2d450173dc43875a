"""Whether anything moves in a harness: what is in somebody's hand, what is due, and when the next thing will be."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from messaging.lane import LONGEST_RETRY
from messaging.outside import OutsideCalls
from messaging.service import Service
from orchestrator.testing.memory_database import MemoryDatabase
from orchestrator.testing.pending import Pending, pending
from orchestrator.testing.virtual_clock import VirtualClock
from orchestrator.testing.wire import Wire

_LONGEST_RETRY = timedelta(seconds=1.5 * LONGEST_RETRY)
"""Until when a worker that tries again in memory has done so, its jitter included."""


class Activity:
    """The services of a harness, looked at from outside: their tables, their relays, the wire between them."""

    def __init__(self, orchestrator: Service, services: Mapping[str, Service], wire: Wire, clock: VirtualClock) -> None:
        self._orchestrator = orchestrator
        self._services = services
        self._wire = wire
        self._clock = clock

    async def settled(self) -> bool:
        """Whether nothing moves at this moment; sweeps what only a sweep will send."""
        self.let_retries_pass()
        if self._in_hand():
            return False
        due = await self._due()
        if not due and not self._in_hand():
            return True
        for name in dict.fromkeys(each.service for each in due if each.sweep):
            await self._services[name].relay.sweep()
        return False

    async def moving(self) -> list[str]:
        """What still moves, in words."""
        found = self._in_hand()
        if not any(_busy(each) for each in self._services.values()):
            found += [f"{each.service} has {each.what}" for each in await self._due()]
        waits = [(each.name, worker.waiting_for) for each in self._services.values() for worker in each.workers]
        return found + [f"{name} cannot go on: {why}" for name, why in waits if why is not None]

    async def next_moment(self) -> datetime | None:
        """When something happens next by itself; None where nothing ever will."""
        moments = [each.at for each in await self._pending()]
        waking = self._clock.next_waking
        return min((*moments, waking) if waking is not None else moments, default=None)

    def let_retries_pass(self) -> None:
        """A worker that tries the same batch again in a moment (a database that was locked) must get its moment."""
        waking = self._clock.next_waking
        if waking is None or waking - self._clock.now() > _LONGEST_RETRY:
            return
        for service in self._services.values():
            if not _busy(service) and any(worker.waiting_for for worker in service.workers):
                self._clock.move_to(waking)
                return

    def _in_hand(self) -> list[str]:
        """What is being done in this very moment, without a look at any table."""
        found = []
        for service in self._services.values():
            if _busy(service):
                found.append(f"{service.name} is in a transaction (or a session of the test is open)")
            if service.relay.on_their_way:
                found.append(f"{service.name} has {len(service.relay.on_their_way)} messages on their way")
            if any(len(calls) for calls in calls_outside(service)):
                found.append(f"{service.name} waits for a call outside")
        if self._wire.publishing:
            found.append(f"{self._wire.publishing} publications wait for their consumers to commit")
        if self._wire.in_hand:
            found.append(f"{self._wire.in_hand} messages kept for a silent service are being handled")
        return found

    async def _due(self) -> list[Pending]:
        return [each for each in await self._pending() if each.at <= self._clock.now()]

    async def _pending(self) -> list[Pending]:
        found = []
        for service in self._services.values():
            found += await pending(service, self._clock.now(), sagas=service is self._orchestrator)
        return found


def calls_outside(service: Service) -> list[OutsideCalls]:
    """The calls that handlers of this service make to the outside world."""
    found = [getattr(role.consumer, "calls", None) for role in service.roles]
    return [calls for calls in found if isinstance(calls, OutsideCalls)]


def _busy(service: Service) -> bool:
    return isinstance(service.database, MemoryDatabase) and service.database.busy
