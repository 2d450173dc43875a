"""One run of a seed: three services, their broker, databases and customers, and what befalls them."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections import Counter
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from messaging.bus import BusUnavailable, Outgoing
from messaging.database import is_transient
from messaging.reached import DatabaseUnavailable
from messaging.service import Service
from tests.simulation.issuer import Issuer
from tests.simulation.keys import SimKeys
from tests.simulation.life import TWIN, Doom, Killed, Life, adopting
from tests.simulation.network import CALM, Broker, SimBus
from tests.simulation.plan import Crash, Plan, Spell
from tests.simulation.stores import Ground
from tests.simulation.virtual import EPOCH, SeededEntropy, SimClock
from tests.simulation.wiring import build

LOOK_EVERY = 2.0


class World:
    """Everything of one run."""

    def __init__(self, plan: Plan, ground: Ground) -> None:
        self.plan = plan
        self._ground = ground
        self.loop = ground.loop()
        self.loop.set_task_factory(adopting)  # type: ignore[arg-type]  # typeshed's protocol knows no keywords
        self.loop.set_exception_handler(self._unhandled)
        self.trace: list[tuple[float, str, str]] = []
        self.problems: list[str] = []
        self.stormy = True
        self.chance = random.Random(f"world {plan.seed}")
        self.stores = ground.lay_out(self, EPOCH)
        self.processes = (*plan.services, *(f"{name}{TWIN}" for name in plan.twins if ground.several))
        self.broker = Broker(self.loop, random.Random(f"network {plan.seed}"), self.note)
        self.broker.weather = plan.weather
        self.issuer = Issuer(self.loop, random.Random(f"issuer {plan.seed}"), plan.accounts)
        self.issuer.unclear = plan.gateway_unclear
        chance = random.Random(f"keys {plan.seed}")
        self._keys = SimKeys(self.loop, chance, plan.keyless) if plan.sealed else None
        self.running: dict[str, tuple[Life, Service]] = {}
        self._buses: dict[str, SimBus] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._births = 0
        self._told_to_stop: Counter[str] = Counter()
        self._sought: str | None = None
        self._living: asyncio.Task[None] | None = None
        self._ending = False
        self._down: dict[str, float] = {}

    def note(self, who: str, what: str) -> None:
        """A line of the trace."""
        self.trace.append((self.loop.time(), who, what))

    def problem(self, what: str) -> None:
        """Something that must not be."""
        self.note("PROBLEM", what)
        self.problems.append(what)
        if self._sought is not None and self._sought in what and self._living is not None:
            self._living.cancel()

    def end_with(self, words: str | None, living: asyncio.Task[None]) -> None:
        """End a run when a problem has these words in it."""
        self._sought, self._living = words, living

    # -- services --------------------------------------------------------------------------------------------

    def begin(self, name: str) -> None:
        """Start a service, whatever was left of an earlier life of it."""
        self._births += 1
        plan = self.plan
        chance = random.Random(f"life {plan.seed} {self._births}")
        life = Life(name, self._births, self.loop, chance, self.note)
        life.latency = plan.latency if self.stormy else 0.0
        set_anew = random.Random(f"clock {plan.seed} {self._births}").uniform(-plan.unsteady, plan.unsteady)
        clock = SimClock(self.loop, plan.skew[life.service] + timedelta(seconds=set_anew))
        bus = SimBus(self.broker, life, self._sending)
        database = self._ground.database(name, life)
        service = build(
            life.service,
            plan,
            bus,
            clock=clock,
            entropy=SeededEntropy(chance),
            database=database,
            checkpoint=life.reached,
            gateway=self.issuer,
            keys=self._keys,
        )
        self._buses[name] = bus
        self.note(repr(life), "starts")
        self._spawn(self._live(life, service))

    async def _live(self, life: Life, service: Service) -> None:
        task = life.spawn(self._run(life, service), f"main {life!r}")
        await asyncio.wait([task, life.gone], return_when=asyncio.FIRST_COMPLETED)
        if not life.gone.done() and not task.cancelled() and (error := task.exception()) is not None:
            starting = life.name not in self.running or self.running[life.name][0] is not life
            if not isinstance(error, Killed) and not (starting and _passes(error)):
                self.problem(f"{life!r} died of {type(error).__name__}: {error}")
                self.note(repr(life), _told(error))
            life.kill(f"{type(error).__name__}: {error}")
        # Nobody else touches its database before the last of it is gone.
        left = await life.gone
        if left:
            self.problem(f"{life!r} is dead, but these tasks go on: {left}")
        if self.running.get(life.name, (None,))[0] is life:
            del self.running[life.name]
        await asyncio.sleep(self._down.pop(life.name, 0.5))
        if not self._ending:
            self.begin(life.name)

    async def _run(self, life: Life, service: Service) -> None:
        structlog.contextvars.bind_contextvars(life=repr(life))
        await service.start()
        self.running[life.name] = (life, service)
        self.note(repr(life), "is up")
        await service.failed()

    # -- faults ----------------------------------------------------------------------------------------------

    async def _crash(self, crash: Crash) -> None:
        await asyncio.sleep(crash.at)
        found = self.running.get(crash.service)
        if found is None:
            return
        life, service = found
        self._down[crash.service] = crash.down
        if crash.orderly:
            await self.stop(life, service)
        elif crash.times == 1 and not crash.place:
            life.kill("a random moment")
        else:
            life.doom = Doom(crash.place, crash.times)

    async def stop(self, life: Life, service: Service) -> None:
        """What SIGTERM does; ends the life whatever the service makes of it."""
        self.note(repr(life), "is asked to stop")
        self._told_to_stop[repr(life)] += 1
        before = self.loop.time()
        pool = service.database.engine.sync_engine.pool
        task = life.spawn(service.drain(), f"drain {life!r}")
        await asyncio.wait([task, life.gone], return_when=asyncio.FIRST_COMPLETED)
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, Killed):
                self.problem(f"{life!r} failed to drain: {type(error).__name__}: {error}")
                self.note(repr(life), _told(error))
        elif not life.dead and self.loop.time() - before > service.settings.drain_timeout.total_seconds() + 5:
            self.problem(f"{life!r} took {self.loop.time() - before:.0f} s to drain")
        elif not life.dead and isinstance(pool, QueuePool) and (out := self._kept_back(life, pool)):
            self.problem(f"{life!r} has drained, but {out} of its connections were never given back")
        life.kill("the end of its drain")

    def _kept_back(self, life: Life, pool: QueuePool) -> int:
        """How many connections a pool has not got back; less than none is one that came after it was closed."""
        out = pool.checkedout()
        # Who is told twice closes its pool for the second time while the first is still ending.
        return 0 if out < 0 and self._told_to_stop[repr(life)] > 1 else out

    async def _disconnect(self, spell: Spell) -> None:
        await asyncio.sleep(spell.at)
        bus = self._buses.get(spell.what)
        if bus is not None and bus.connected:
            self.note("network", f"cuts off {spell.what} for {spell.length:.2f} s")
            bus.disconnect()
            await asyncio.sleep(spell.length)
            bus.reconnect()

    async def _unbind(self, spell: Spell) -> None:
        await asyncio.sleep(spell.at)
        self.note("network", f"nothing is bound to {spell.what} for {spell.length:.2f} s")
        self.broker.unbound.add(spell.what)
        await asyncio.sleep(spell.length)
        self.broker.unbound.discard(spell.what)

    async def _outage(self, spell: Spell) -> None:
        await asyncio.sleep(spell.at)
        store = self.stores[spell.what]
        self.note("disk", f"of {spell.what} fails for {spell.length:.2f} s")
        store.go_away()
        await asyncio.sleep(spell.length)
        store.come_back()

    async def _hang_up(self, spell: Spell) -> None:
        await asyncio.sleep(spell.at)
        self.stores[spell.what].hang_up(all_of_them=spell.length > 0.5)

    async def _calm(self) -> None:
        await asyncio.sleep(self.plan.calm_after)
        self.note("world", "nothing goes wrong from here on")
        self.stormy = False
        self.broker.weather = CALM
        self.issuer.unclear = 0.0
        for life, _ in self.running.values():
            life.doom = None
            life.latency = 0.0

    def befall(self) -> None:
        """Let the plan's faults run beside whatever else happens."""
        for crash in self.plan.crashes:
            self._spawn(self._crash(crash))
        for spell in self.plan.disconnects:
            self._spawn(self._disconnect(spell))
        for spell in self.plan.unbound:
            self._spawn(self._unbind(spell))
        for spell in self.plan.outages:
            self._spawn(self._outage(spell))
        for spell in self.plan.hang_ups:
            self._spawn(self._hang_up(spell))
        self._spawn(self._calm())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        # asyncio itself keeps no task alive.
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- watching --------------------------------------------------------------------------------------------

    def _sending(self, sender: str, messages: Sequence[Outgoing]) -> None:
        """Called with what a service is about to publish: it must be committed, and no older row of its key left."""
        store = self.stores[sender]
        rows = store.outbox()
        confirmed = self.broker.confirmed_to.get(sender, {})
        number = {message_id: (identity, key) for identity, key, message_id in reversed(rows)}
        for message in messages:
            plain = message.message_id.replace("-", "")
            if plain not in store.promised:
                self.problem(f"{sender} published {message.type} {message.message_id}, which is not committed")
            if plain not in number:
                continue
            identity, key = number[plain]
            for other, other_key, other_id in rows:
                older = other < identity and key is not None and other_key == key and other_id != plain
                told = str(UUID(other_id))
                answered = store.answered_rows_stay and told in self.broker.handed_out
                if older and told not in confirmed and not answered:
                    self.problem(
                        f"{sender} published {message.type} {message.message_id} before the older row {other} "
                        f"({other_id}) of its key"
                    )

    @property
    def quiet(self) -> bool:
        """Whether there is nothing left to do anywhere."""
        if self.stormy or len(self.running) < len(self.processes) or not self.broker.quiet:
            return False
        if any(
            store.count("SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM deferred)")
            for store in self.stores.values()
        ):
            return False
        return not self.stores["orchestrator"].count(
            "SELECT (SELECT count(*) FROM saga WHERE status IN ('running', 'compensating')) "
            "+ (SELECT count(*) FROM parked_event)"
        )

    async def settle(self) -> None:
        """Wait until everything is quiet, and say so where it never is."""
        end = self.plan.calm_after + self.plan.patience
        while not self.quiet:
            if self.loop.time() > end:
                self.problem(f"not quiet {self.plan.patience:.0f} s after the last fault")
                return
            await asyncio.sleep(LOOK_EVERY)
        self.note("world", "is quiet")

    async def end(self) -> None:
        """Stop every service in order, for good."""
        self._ending = True
        for life, service in list(self.running.values()):
            await self.stop(life, service)

    def close(self) -> None:
        """Let go of everything."""
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))
        for store in self.stores.values():
            store.close()
        self.loop.close()

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Killed):
            self.problem(f"nobody handled {context.get('message')}: {error!r} ({context.get('task')!r})")


def _told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _passes(error: BaseException) -> bool:
    """Whether a process that dies of this while it starts is simply started again."""
    return isinstance(error, (DatabaseUnavailable, BusUnavailable)) or (
        isinstance(error, (DBAPIError, OSError)) and is_transient(error)
    )
