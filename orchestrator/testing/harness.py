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
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from sqlalchemy.ext.asyncio import AsyncSession

from contracts.message import Command, Message
from contracts.registry import InvalidMessage, UnknownMessage
from messaging.bus import Outgoing
from messaging.envelope import CONTENT_TYPE, Envelope, decode_stored, encode
from messaging.participant import Participant
from messaging.service import Service
from messaging.topology import COMMANDS, EVENTS
from orchestrator.catalog import Catalog
from orchestrator.saga.definition import Saga
from orchestrator.saga.steps import D
from orchestrator.testing import looking
from orchestrator.testing.activity import Activity, calls_outside
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
from orchestrator.testing.telling import told
from orchestrator.testing.virtual_clock import SeededEntropy, VirtualClock
from orchestrator.testing.wire import Carried, Wire
from orchestrator.times import exact

M = TypeVar("M", bound=Message)

ORCHESTRATOR = "orchestrator"
OUTSIDE = "test"
"""The service in whose name a test publishes."""


class NotSettled(AssertionError):
    """Something still moved after as long as a test is prepared to wait; says what."""


class Harness:
    """Sagas and participants that really run. Use it as an asynchronous context manager, in one event loop.

    `tables` are a participant's own, by its name: SQLAlchemy metadata, or an async function of a connection. `seed`
    decides ids and jitters; the same seed, the same run. `messages` are classes that your code emits and that no saga
    and no handler names; `published` must know them. `clock` is one that the test has made, to give to handlers too.

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
        clock: VirtualClock | None = None,
        batch_size: int = 100,
    ) -> None:
        tables = tables or {}
        named = by_name(participants, tables)
        self.clock = clock or VirtualClock()
        self._began = self.clock.now()
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
        self._activity = Activity(central, self._services, self._wire, self.clock)
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
            for calls in calls_outside(service):
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
            self._activity.let_retries_pass()
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
        while not await self._activity.settled():
            self._raise_what_died()
            if loop.time() > bound:
                moving = "\n".join(f"  {each}" for each in await self._activity.moving())
                raise NotSettled(f"still moving after {within:g} s:\n{moving}\n{self.timeline}")
            # Let the others have their turn: all of them run in this loop, and nothing here takes real time.
            await asyncio.sleep(0)
        self._raise_what_died()

    async def advance(self, duration: timedelta) -> None:
        """Let time pass: whatever comes due on the way happens at its own moment, and settles before time goes on."""
        if duration < timedelta(0):
            raise ValueError(f"{duration} is no time that can pass; time goes forward")
        end = self.clock.now() + duration
        await self.settle()
        while (moment := await self._activity.next_moment()) is not None and moment <= end:
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
            f"  +{exact(each.message.timestamp - self._began)}  {each.service} -> {self._told(each)}"
            for each in self._wire.said
        ]
        now = f"  +{exact(self.clock.now() - self._began)}  now"
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
        except (LookupError, InvalidMessage):
            return carried.message.type

    def _raise_what_died(self) -> None:
        for task in self._watching:
            if task.done() and not task.cancelled():
                task.result()
