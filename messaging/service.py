"""A service put together: its database, its bus, its relay, its workers, its HTTP face; started and drained in
order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog
from starlette.types import ASGIApp

from messaging import deferred, migrate, reached
from messaging.balancing import Balance
from messaging.bus import Bus
from messaging.clock import Checkpoint, Clock, Entropy, SystemClock, SystemEntropy, no_checkpoint
from messaging.database import DATABASE_ERRORS, Database, in_words, is_transient, shown
from messaging.health import with_health
from messaging.outbox import INFO, Emitting
from messaging.outside import OutsideCalls
from messaging.participant import Participant
from messaging.relay import Relay
from messaging.role import Role, participant_role
from messaging.serving import ParticipantConsumer
from messaging.settings import ServiceSettings
from messaging.subject_keys import Keys
from messaging.telemetry.serving import Telemetry
from messaging.topology import Queue, Spread, Topology, dead_letter_queue
from messaging.worker import Worker

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from messaging.sealing import Sealing
    from messaging.subjects.store import SubjectStore

CONNECTIONS = 4
"""Kept open beside the lanes': the relay's, its sweeper's, the poller's, the API's; as many more come and go."""
FLUSH_SECONDS = 5.0
"""How long the last messages may take to leave; what does not lies in the outbox for the next start."""


AppFactory = Callable[[Database, Mapping[str, Any]], ASGIApp]
"""Makes the service's API from its database and the `info` its sessions need for `emit`."""


def participant_service(
    participant: Participant,
    settings: ServiceSettings,
    bus: Bus,
    *,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    **options: Any,
) -> Service:
    """A participant as a service of its own; `options` are those of `Service` (migrations, app, …).

    It seals with the keys in AMENDS_SUBJECT_KEYS, unless `keys` are given. Raises UnusableKey.
    """
    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
    if settings.subject_keys is not None and "keys" not in options:
        # Where nobody seals, nobody loads what it takes.
        from messaging.subjects.store import store_of

        options["store"] = store_of(settings, clock)
    role = participant_role(participant, settings.queue_type, clock, entropy, settings)
    return Service(settings, bus, name=participant.name, roles=[role], clock=clock, entropy=entropy, **options)


class Service:
    """Everything one service runs. `start`, wait for `failed` or a reason to stop, then `quiesce` and `close`.

    Its spans go to `tracer_provider`, by default to the process's, where that has one. With `keys`, or those of a
    `store` that it then opens and closes, what its contracts mark as sensitive is sealed where it says something, and
    opened for its handlers.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        bus: Bus,
        *,
        name: str,
        roles: Sequence[Role] = (),
        migrations: Sequence[str] = (),
        app: AppFactory | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        database: Database | None = None,
        checkpoint: Checkpoint = no_checkpoint,
        interval: float = 0.5,
        held_open: Sequence[AbstractAsyncContextManager[Any]] = (),
        prepare: Callable[[Database], Awaitable[None]] | None = None,
        tracer_provider: TracerProvider | None = None,
        keys: Keys | None = None,
        store: SubjectStore | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self.bus = bus
        self.roles = tuple(roles)
        self.migrations = (migrate.MESSAGING, *migrations)
        self.clock = clock or SystemClock()
        self.entropy = entropy or SystemEntropy()
        self.database = database or Database(settings.database, pool_size=CONNECTIONS + settings.lanes, by_index=True)
        self.telemetry = Telemetry(
            name,
            database=self.database,
            bus=bus,
            clock=self.clock,
            system="memory" if settings.in_memory else "rabbitmq",
            consumers=[role.consumer.name for role in self.roles],
            meters=[meter for role in self.roles for meter in role.meters],
            looks=[look for role in self.roles for look in role.looks],
            queues=self._queues,
            obstacles=self._here,
            provider=tracer_provider,
        )
        self.relay = Relay(
            self.database, self.telemetry.observed_bus(bus), self.clock, interval=interval, checkpoint=checkpoint
        )
        self._store = store
        self.keys = keys or store
        emitting = Emitting(self.clock, self.entropy, name, self.relay, settings.outbox_grace, sealing=self._sealing())
        self.info: dict[str, Any] = {INFO: emitting}
        self.workers = [self._worker(role, checkpoint, interval) for role in self.roles]
        self._api = None if app is None else self.telemetry.traced(app(self.database, self.info))
        self._held_open = tuple(held_open)
        self._prepare = prepare
        self._resources = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._balancing: list[asyncio.Task[None]] = []
        self._draining = False
        self._drained_by = 0.0
        self._started = False

    @property
    def http(self) -> ASGIApp:
        """The service's ASGI application: `/healthz`, `/readyz`, `/metrics` and its own API."""
        return with_health(self.name, self.obstacles, self.telemetry.page, self._api)

    @property
    def health(self) -> ASGIApp:
        """The same without its own API, for a port of its own."""
        return with_health(self.name, self.obstacles, self.telemetry.page)

    @property
    def topology(self) -> Topology:
        """What this service needs on the broker."""
        topology = Topology()
        for role in self.roles:
            topology = replace(topology, spreads=(*topology.spreads, *role.spreads)).with_all(role.also)
            for queue in role.queues:
                if queue not in topology.queues:
                    topology = topology.with_queue(queue)
        return topology.with_queue(dead_letter_queue(self.settings.queue_type))

    def _sealing(self) -> Sealing | None:
        """What seals and opens here, for the API and for handlers alike; None where this service has no keys."""
        if self.keys is None:
            return None
        from messaging.sealing import Sealing

        sealing = Sealing(self.keys)
        for role in self.roles:
            if isinstance(role.consumer, ParticipantConsumer):
                role.consumer.seal_with(sealing)
        return sealing

    def _worker(self, role: Role, checkpoint: Checkpoint, interval: float) -> Worker:
        consumer, meter = self.telemetry.observed(role.consumer)
        meter.worker = worker = Worker(
            consumer,
            service=self.name,
            queues=[queue.name for queue in role.queues],
            database=self.database,
            bus=self.bus,
            relay=self.relay,
            clock=self.clock,
            entropy=self.entropy,
            batch_size=self.settings.batch_size,
            lanes=role.lanes,
            finishes=role.finishes,
            grace=self.settings.outbox_grace,
            interval=interval,
            checkpoint=checkpoint,
        )
        calls = getattr(role.consumer, "calls", None)
        if isinstance(calls, OutsideCalls):
            calls.connect(worker.submit)
        return worker

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Reach the database and the broker, bring or check the tables, declare the topology, begin to work.

        Raises DatabaseUnavailable or BusUnavailable after `start_timeout`, WrongDatabase, MigrationsPending,
        NotGranted, UnusableKey, TopologyMismatch.
        """
        patience = self.settings.start_timeout
        await reached.reach(self.database, patience, self.clock, self.entropy)
        if self.settings.migrates:
            await migrate.upgrade(self.database, self.migrations)
        else:
            await self._check_migrations()
        if self._store is not None:
            await reached.reach(self._store.database, patience, self.clock, self.entropy, "AMENDS_SUBJECT_KEYS")
            await self._store.start(migrates=self.settings.migrates_subject_keys)
        if self._prepare is not None:
            await self._prepare(self.database)
        await self.bus.start()
        await self.bus.declare(replace(self.topology, retired=await self._left_over()))
        for resource in self._held_open:
            await self._resources.enter_async_context(resource)
        self._tasks.append(asyncio.create_task(self.relay.run(), name=f"{self.name} relay"))
        for worker in self.workers:
            self._tasks.append(asyncio.create_task(worker.run(), name=f"{self.name} worker"))
        self._balancing = [asyncio.create_task(each.run(), name=f"{self.name} balance") for each in self._balances()]
        self._started = True
        structlog.get_logger().info("started", name=self.name, queues=[queue.name for queue in self.topology.queues])

    async def _left_over(self) -> tuple[Queue | Spread, ...]:
        """What earlier configurations have left; the workers read its queues, too."""
        found: list[Queue | Spread] = []
        for role, worker in zip(self.roles, self.workers, strict=True):
            for each in () if role.left_over is None else await role.left_over(self.bus):
                found.append(each)
                if isinstance(each, Queue):
                    worker.read_also(each.name)
        if found:
            structlog.get_logger().warning(
                "left_over", name=self.name, what=[each.name for each in found], mend="delete what is empty"
            )
        return tuple(found)

    def _balances(self) -> list[Balance]:
        """One for each worker that shares partitions with other processes."""
        return [
            Balance(worker, self.bus, self.clock, shared, role.common)
            for role, worker in zip(self.roles, self.workers, strict=True)
            if role.common is not None
            and len(shared := [queue.name for queue in role.queues if queue.single_active]) > 1
        ]

    async def failed(self) -> None:
        """Return never, or raise what one of the service's tasks has died of."""
        tasks = (*self._tasks, *self._balancing)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        if not self._draining:
            raise RuntimeError(f"a task of {self.name} ended by itself")

    async def quiesce(self) -> None:
        """`finish` and `flush`. Bounded by `drain_timeout`, both together."""
        await self.finish()
        await self.flush()

    async def finish(self) -> None:
        """Take nothing new from the broker and finish what was begun. Bounded by `drain_timeout`."""
        self._draining = True
        self._drained_by = asyncio.get_running_loop().time() + self.settings.drain_timeout.total_seconds()
        structlog.get_logger().info("draining", name=self.name)
        for task in self._balancing:
            task.cancel()
        async with self._bounded_drain():
            for worker in self.workers:
                await worker.stop()
            await asyncio.gather(*self._tasks[1:], return_exceptions=True)
            for role in self.roles:
                calls = getattr(role.consumer, "calls", None)
                if isinstance(calls, OutsideCalls) and (given_up := await calls.close()):
                    # Somebody else calls again at once, instead of when ours would have ended.
                    async with self.database.transaction() as connection:
                        await deferred.hasten(connection, role.consumer.name, given_up, self.clock.now())

    async def flush(self) -> None:
        """Publish what was committed, once every service of this process has finished. Bounded, as `finish` is."""
        if not self._started:
            return
        async with self._bounded_drain():
            if self.settings.in_memory:
                # Only a consumer's commit confirms a message there, and they have all ended: waiting is in vain.
                await self.relay.forget_confirmed()
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self.relay.flush()

    @asynccontextmanager
    async def _bounded_drain(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(self._drained_by):
                yield
        except TimeoutError:
            structlog.get_logger().warning(
                "drain_cut_short", name=self.name, why="what is left stays in the outbox and on the queues"
            )
        except DATABASE_ERRORS as error:
            if not is_transient(error):
                raise
            structlog.get_logger().warning("drain_without_database", name=self.name, error=in_words(error))

    async def drain(self) -> None:
        """`quiesce` and `close`, for a service without an HTTP face."""
        await self.quiesce()
        await self.close()

    async def close(self) -> None:
        """Let go of everything at once; what was not acknowledged comes again, what is in the outbox leaves later.

        Everything is closed, and only then is raised what a task has died of, or what would not close.
        """
        self.relay.stop()
        for task in (*self._tasks, *self._balancing):
            task.cancel()
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self.database.close)
            if self._store is not None:
                closing.push_async_callback(self._store.close)
            closing.push_async_callback(self.bus.close)
            closing.push_async_callback(self.telemetry.close)
            closing.push_async_callback(self._resources.aclose)
            ended = await asyncio.gather(*self._tasks, *self._balancing, return_exceptions=True)
        structlog.get_logger().info("stopped", name=self.name)
        for error in ended:
            if error is not None and not isinstance(error, asyncio.CancelledError):
                raise error

    # -- readiness -------------------------------------------------------------------------------------------

    async def obstacles(self) -> dict[str, str]:
        """What keeps this service from its work, by name; empty when it is ready."""
        found: dict[str, str] = {}
        if self._draining:
            found["draining"] = "the process is shutting down"
        if not self._started:
            found["starting"] = "not started yet"
            return found
        if not self.bus.connected:
            found["broker"] = "not connected; trying again"
        for worker in self.workers:
            if not worker.attached:
                found["consumers"] = "not every queue is being consumed"
            if not worker.moving:
                found["worker"] = f"a batch waits: {worker.waiting_for}"
        found |= await reached.obstacles("database", "migrations", self._behind())
        if self._store is not None:
            found |= await reached.obstacles("subject_keys", "subject_keys", self._store.behind())
        return found

    def _here(self) -> dict[str, bool]:
        """Of the obstacles those that this process knows of without asking anybody, and a master key that is missing.

        That is no reason not to be ready: it holds up the batches and requests that need it, and nobody else's.
        """
        return {
            "draining": self._draining,
            "starting": not self._started,
            "broker": self._started and not self.bus.connected,
            "consumers": self._started and not all(worker.attached for worker in self.workers),
            "worker": not all(worker.moving for worker in self.workers),
            **({} if self._store is None else {"master_key": self._store.lacks is not None}),
        }

    def _queues(self) -> list[str]:
        """Queues whose length and readers are worth knowing: those read here, and those this service depends on."""
        return [
            *(queue for worker in self.workers for queue in worker.queues),
            *(queue for role in self.roles for queue in role.watched),
        ]

    async def _check_migrations(self) -> None:
        if behind := await self._behind():
            raise migrate.MigrationsPending(f"{shown(self.database.url)}: {behind}")

    async def _behind(self) -> str | None:
        """What is to be done where the tables are not at head."""
        behind = await migrate.pending(self.database, self.migrations)
        return self._run_migrate(behind) if behind else None

    def _run_migrate(self, behind: Mapping[str, str]) -> str:
        histories = ", ".join(f"{name} is at {found}" for name, found in behind.items())
        package = self.migrations[-1].partition(":")[0]
        program = "amends" if package == "orchestrator" else f"python -m {package}"
        return f"the tables are not at head ({histories}); run `{program} migrate` first"
