"""The real thing in memory: engine, workers, relays and the user's participants on a virtual clock, without a server.

    async with Harness(sagas=[BOOK_TRIP], participants=[travel], tables={"travel": Table.metadata}) as harness:
        await harness.publish(TripRequested(...))
        await harness.settle()
        assert (await harness.saga(TRIP)).status == "completed"

Each service has an SQLite database of its own in memory; they meet at the in-process bus. Everything runs in the event
loop's own thread and nothing waits for real time, so a test takes milliseconds and goes the same way each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from sqlalchemy.ext.asyncio import AsyncSession

from contracts.message import Command, Message
from contracts.registry import UnknownMessage
from messaging.bus import Outgoing
from messaging.envelope import CONTENT_TYPE, Envelope, decode_stored, encode
from messaging.outside import OutsideCalls
from messaging.participant import Participant
from messaging.service import Service
from messaging.topology import COMMANDS, EVENTS
from messaging.worker import LONGEST_RETRY
from orchestrator.catalog import Catalog
from orchestrator.saga.definition import Saga
from orchestrator.saga.steps import D
from orchestrator.testing import looking
from orchestrator.testing.crew import (
    EVERYTHING,
    Surroundings,
    Tables,
    by_name,
    known_messages,
    run_participant,
    run_sagas,
)
from orchestrator.testing.faults import Faults
from orchestrator.testing.looking import Buried, Seen
from orchestrator.testing.memory_database import MemoryDatabase
from orchestrator.testing.pending import Pending, pending
from orchestrator.testing.playing import START
from orchestrator.testing.telling import told
from orchestrator.testing.virtual_clock import SeededEntropy, VirtualClock
from orchestrator.testing.wire import Carried, Wire

M = TypeVar("M", bound=Message)

ORCHESTRATOR = "orchestrator"
OUTSIDE = "test"
"""The service in whose name a test publishes."""
_LONGEST_RETRY = timedelta(seconds=1.5 * LONGEST_RETRY)
"""Until when a worker that tries again in memory has done so, its jitter included."""


class NotSettled(AssertionError):
    """Something still moved after as long as a test is prepared to wait; says what."""


class Harness:
    """Sagas and participants that really run. Use it as an asynchronous context manager, in one event loop.

    `tables` are a participant's own, by its name: SQLAlchemy metadata, or an async function of a connection. `seed`
    decides ids and jitters; the same seed, the same run. `at` is what the clock shows at the beginning. `messages` are
    classes that your code emits and that no saga and no handler names; `published` must know them.

    A command that no participant here handles waits for ever, as if its service were down.
    Raises ValueError for two services of one name, TypeError for two messages of one type, InvalidSaga.
    """

    def __init__(
        self,
        *,
        sagas: Iterable[Saga[Any]],
        participants: Iterable[Participant] = (),
        tables: Mapping[str, Tables] | None = None,
        seed: int = 0,
        messages: Iterable[type[Message]] = (),
        at: datetime = START,
        batch_size: int = 100,
    ) -> None:
        tables = tables or {}
        named = by_name(participants, tables)
        self.clock = VirtualClock(at)
        self._began = at
        self._wire = Wire()
        self._faults = Faults()
        around = Surroundings(self._wire, self.clock, self._faults, seed, batch_size)
        central, catalog = run_sagas(sagas, around)
        self._catalog: Catalog = catalog
        self._registry = known_messages(catalog, named.values(), messages)
        self._services: dict[str, Service] = {ORCHESTRATOR: central}
        for name, participant in named.items():
            self._services[name] = run_participant(participant, tables.get(name), around)
        self._participants = named
        self._entropy = SeededEntropy(f"{OUTSIDE} {seed}")
        self._bus = self._wire.bus(OUTSIDE)
        self._watching: list[asyncio.Task[None]] = []

    # -- life ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self._close()

    async def _start(self) -> None:
        await self._bus.start()
        await self._bus.declare(EVERYTHING)
        for service in self._services.values():
            # Before any of them starts: what the first one sends must have a queue to go to.
            self._wire.broker.declare(service.topology)
        for service in self._services.values():
            await service.start()
            self._watching.append(asyncio.create_task(service.failed(), name=f"{service.name} watched"))
        await self.settle()

    async def _close(self) -> None:
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        for service in self._services.values():
            for calls in _calls(service):
                await calls.close()
            await service.close()
        await self._bus.close()

    # -- what a test does ------------------------------------------------------------------------------------

    async def publish(self, message: Message) -> None:
        """Say something as if from another service, and return when whoever hears it has committed it.

        Raises LookupError where nobody listens for it.
        """
        listened = {
            *self._catalog.event_types(),
            *(name for each in self._participants.values() for name in each.handlers),
        }
        if message.wire_type not in listened:
            raise LookupError(
                f"nobody here listens for {message.wire_type}: no saga and no participant of this harness"
            )
        envelope = Envelope(
            id=self._entropy.message_id(self.clock.now()),
            type=message.wire_type,
            version=message.wire_version,
            source=message.wire_type.partition(".")[0],
            time=self.clock.now(),
            key=message.ordering_key,
        )
        outgoing = Outgoing(
            exchange=COMMANDS if isinstance(message, Command) else EVENTS,
            routing_key=message.wire_type,
            message_id=str(envelope.id),
            body=encode(envelope, message).encode(),
            type=message.wire_type,
            timestamp=envelope.time,
            app_id=envelope.source,
            content_type=CONTENT_TYPE,
        )
        sending = asyncio.create_task(self._bus.publish([outgoing]), name=f"publish {message.wire_type}")
        while not sending.done():
            self._raise_what_died()
            self._let_retries_pass()
            await asyncio.sleep(0)

    @asynccontextmanager
    async def session(self, service: str) -> AsyncIterator[AsyncSession]:
        """A session in a participant's database, in which `emit` works; commits when the block ends well.

        To lay out rows, to look at them, and to run domain code that emits. Settle after it, not within it.
        """
        found = self._service(service)
        async with found.database.session(**found.info) as session:
            yield session

    async def settle(self, *, within: float = 10.0) -> None:
        """Return when nothing moves any more at this moment of the clock.

        Raises NotSettled, saying what still moves, after so many real seconds; and what a service has died of.
        """
        loop = asyncio.get_running_loop()
        bound = loop.time() + within
        while True:
            self._raise_what_died()
            self._let_retries_pass()
            if not self._in_hand():
                due = [each for each in await self._pending() if each.at <= self.clock.now()]
                if not due and not self._in_hand():
                    return
                for name in dict.fromkeys(each.service for each in due if each.sweep):
                    await self._services[name].relay.sweep()
            if loop.time() > bound:
                await self._give_up(within)
            # Let the others have their turn: all of them run in this loop, and nothing here takes real time.
            await asyncio.sleep(0)

    async def advance(self, duration: timedelta) -> None:
        """Let time pass: whatever comes due on the way happens at its own moment, and settles before time goes on."""
        if duration < timedelta(0):
            raise ValueError(f"{duration} is no time that can pass; time goes forward")
        end = self.clock.now() + duration
        await self.settle()
        while (moment := await self._next_moment()) is not None and moment <= end:
            self.clock.move_to(moment)
            await self.settle()
        self.clock.move_to(end)
        await self.settle()

    # -- faults ----------------------------------------------------------------------------------------------

    def silence(self, service: str) -> None:
        """The service hears nothing from now on: what is sent to it waits in its queues, as while it is down."""
        self._wire.silent.add(self._service(service).name)

    def restore(self, service: str) -> None:
        """The service listens again and gets, in order, what has come meanwhile."""
        self._wire.restore(self._service(service).name)

    def fail_next(self, message: type[Message], error: Exception) -> None:
        """The handler of the next such message raises this error: RetryLater and OSError put it off, others bury it."""
        if not any(message.wire_type in each.handlers for each in self._participants.values()):
            raise LookupError(f"no participant of this harness handles {message.__name__}")
        self._faults.arm(message, error)

    def duplicate_everything(self) -> None:
        """From now on each message is delivered again once it has been handled, as a broker may."""
        self._wire.doubling = True

    # -- what can be seen ------------------------------------------------------------------------------------

    @overload
    async def saga(self, key: object) -> Seen[Any]: ...
    @overload
    async def saga(self, key: object, of: Saga[D]) -> Seen[D]: ...
    async def saga(self, key: object, of: Saga[Any] | None = None) -> Seen[Any]:
        """The instance with this key, as it is in the database; `of` says of which saga, where there are several.

        Raises LookupError where there is none.
        """
        central = self._services[ORCHESTRATOR]
        return await looking.saga(central.database, self._catalog, key, of)

    @property
    def published(self) -> Sequence[Message]:
        """Every event and command that left a service, and what the test has published, in order.

        Raises LookupError for one whose class this harness does not know.
        """
        return tuple(self._parsed(each) for each in self._wire.said)

    def published_of(self, kind: type[M]) -> Sequence[M]:
        """Those of one class."""
        return tuple(each for each in self.published if isinstance(each, kind))

    async def dead_letters(self) -> Sequence[Buried]:
        """What a service could not handle, over all services."""
        return tuple([letter for each in self._services.values() for letter in await looking.dead_letters(each)])

    @property
    def timeline(self) -> str:
        """What was said so far, by whom and when."""
        lines = [
            f"  +{(each.message.timestamp - self._began).total_seconds():g}s  {each.service} -> {self._told(each)}"
            for each in self._wire.said
        ]
        now = f"  +{(self.clock.now() - self._began).total_seconds():g}s  now"
        return "\n".join((f"harness of {', '.join(self._services)}", *lines, now))

    # -- working ---------------------------------------------------------------------------------------------

    def _service(self, name: str) -> Service:
        if name not in self._services:
            raise LookupError(f"there is no service {name!r} here; there are {', '.join(self._services)}")
        return self._services[name]

    def _parsed(self, carried: Carried) -> Message:
        envelope, data = decode_stored(carried.message.body.decode())
        try:
            return self._registry.parse(envelope.type, envelope.version, data)
        except UnknownMessage as error:
            raise LookupError(
                f"{carried.service} has published {envelope.type}, which no saga and no handler here names: "
                "give its class to the harness, messages=[...]"
            ) from error

    def _told(self, carried: Carried) -> str:
        try:
            return told(self._parsed(carried))
        except LookupError:
            return carried.message.type

    def _in_hand(self) -> list[str]:
        """What is being done in this very moment, without a look at any table."""
        found = []
        for service in self._services.values():
            if _busy(service):
                found.append(f"{service.name} is in a transaction (or a session of the test is open)")
            if service.relay.on_their_way:
                found.append(f"{service.name} has {len(service.relay.on_their_way)} messages on their way")
            if any(len(calls) for calls in _calls(service)):
                found.append(f"{service.name} waits for a call outside")
        if self._wire.publishing:
            found.append(f"{self._wire.publishing} publications wait for their consumers to commit")
        if self._wire.in_hand:
            found.append(f"{self._wire.in_hand} messages kept for a silent service are being handled")
        return found

    async def _pending(self) -> list[Pending]:
        now = self.clock.now()
        found = []
        for name, service in self._services.items():
            found += await pending(service, now, sagas=name == ORCHESTRATOR)
        return found

    async def _next_moment(self) -> datetime | None:
        moments = [each.at for each in await self._pending()]
        waking = self.clock.next_waking
        return min((*moments, waking) if waking is not None else moments, default=None)

    def _let_retries_pass(self) -> None:
        """A worker that tries the same batch again in a moment (a database that was locked) must get its moment."""
        waking = self.clock.next_waking
        if waking is None or waking - self.clock.now() > _LONGEST_RETRY:
            return
        for service in self._services.values():
            resting = any(worker.waiting_for for worker in service.workers) and not _busy(service)
            if resting:
                self.clock.move_to(waking)
                return

    async def _give_up(self, within: float) -> None:
        moving = self._in_hand()
        if not any(_busy(each) for each in self._services.values()):
            now = self.clock.now()
            moving += [f"{each.service} has {each.what}" for each in await self._pending() if each.at <= now]
        waits = [(each.name, worker.waiting_for) for each in self._services.values() for worker in each.workers]
        moving += [f"{name} cannot go on: {why}" for name, why in waits if why is not None]
        raise NotSettled(
            "\n".join((f"still moving after {within:g} s:", *(f"  {each}" for each in moving), self.timeline))
        )

    def _raise_what_died(self) -> None:
        for task in self._watching:
            if task.done() and not task.cancelled():
                task.result()


def _busy(service: Service) -> bool:
    return isinstance(service.database, MemoryDatabase) and service.database.busy


def _calls(service: Service) -> list[OutsideCalls]:
    found = [getattr(role.consumer, "calls", None) for role in service.roles]
    return [calls for calls in found if isinstance(calls, OutsideCalls)]
