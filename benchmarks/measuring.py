"""The measurements: what is timed from when to when, and what it cost."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from benchmarks import orders
from benchmarks.endings import Endings
from benchmarks.system import NotMeasurable, System
from benchmarks.usage import Usage, Watched, listener_on
from deploy.inspection import Inspection, inspect, opened, work_left
from messaging.database import Database
from messaging.rabbitmq import RabbitBus

PATIENCE = 180.0
"""Seconds until sagas that have not ended are given up."""
_FLOOR_FIGURE = re.compile(r"(\d+(?:\.\d+)?) sagas/s")


@dataclass(frozen=True, slots=True)
class Throughput:
    """Sagas a second, and the CPU milliseconds that one saga cost each process."""

    sagas_per_second: float
    cpu_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from the request to the end of the saga."""

    rate: float
    samples: int
    p50: float
    p99: float


class Bench:
    """Measures one running system."""

    def __init__(self, system: System, endings: Endings, bus: RabbitBus, database: Database) -> None:
        self._system = system
        self._endings = endings
        self._bus = bus
        self._database = database
        self._watched: Watched = system.watched()
        self.placed = 0
        self.failing = 0

    async def from_events(self, count: int) -> Throughput:
        """From the first order.created that is published to the last saga's last event."""
        events = await orders.write_orders(self._database, count)
        self._expect(count)
        before = self._watched.usage()
        began = time.monotonic()
        await orders.announce(self._bus, events)
        await self._ended(count)
        return self._throughput(count, before, began)

    async def from_requests(self, count: int) -> Throughput:
        """From the first POST /orders to the last saga's last event."""
        self._expect(count)
        before = self._watched.usage()
        sent = await self._post(count)
        await self._ended(count)
        return self._throughput(count, before, min(sent.values()))

    async def latency(self, rate: float, seconds: float) -> Latency:
        """From each POST /orders to the end of its saga, at a steady rate."""
        count = max(1, round(rate * seconds))
        self._expect(count)
        sent = await self._post(count, "--rate", str(rate))
        await self._ended(count)
        waits = sorted(self._endings.at[identity] - moment for identity, moment in sent.items())
        return Latency(rate, count, _quantile(waits, 0.5), _quantile(waits, 0.99))

    def memory(self) -> Mapping[str, int]:
        """Resident bytes of every process now."""
        return self._watched.usage().rss

    def _expect(self, count: int) -> None:
        self._endings.forget()
        self.placed += count
        self.failing += orders.expected_failures(count)

    async def _ended(self, count: int) -> None:
        if not await self._endings.reached(count, PATIENCE):
            self._system.check()
            raise NotMeasurable(f"only {len(self._endings.at)} of {count} sagas have ended after {PATIENCE:g} s")

    def _throughput(self, count: int, before: Usage, began: float) -> Throughput:
        ended = max(self._endings.at.values())
        used = self._watched.usage().since(before)
        return Throughput(count / (ended - began), {name: spent / count * 1000 for name, spent in used.items()})

    async def _post(self, count: int, *options: str) -> dict[UUID, float]:
        command = (sys.executable, "-m", "benchmarks.posting", self._system.order_url, str(count), *options)
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        output, _ = await process.communicate()
        if process.returncode:
            raise NotMeasurable(f"posting orders ended with exit code {process.returncode}; its words are above")
        lines = [json.loads(line) for line in output.splitlines()]
        return {UUID(line["order_id"]): line["sent"] for line in lines}


async def floor_of(command: str, amqp_url: str, database_url: str, printing: re.Pattern[str] = _FLOOR_FIGURE) -> float:
    """Sagas a second of another program beside ours, which prints `N sagas/s` and gets the servers in its environment.

    `printing` finds another figure than that, as its first group. Raises NotMeasurable where it fails or prints none.
    """
    environment = {**os.environ, "AMQP_URL": amqp_url, "DATABASE_URL": database_url}
    for name, url in (("BROKER_PID", amqp_url), ("POSTGRES_PID", database_url)):
        pid = listener_on(url)
        if pid is not None:
            environment[name] = str(pid)
    process = await asyncio.create_subprocess_exec(*shlex.split(command), stdout=PIPE, env=environment)
    output, _ = await process.communicate()
    figure = printing.search(output.decode())
    if process.returncode or figure is None:
        raise NotMeasurable(f"--floor {command!r} ended with {process.returncode} and printed {output[-300:]!r}")
    return float(figure.group(1))


async def settled(urls: Mapping[str, str]) -> None:
    """Return when nothing is left to do anywhere. Raises NotMeasurable."""
    async with opened(_ours(urls)) as databases:
        give_up = time.monotonic() + PATIENCE
        while left := await work_left(databases):
            if time.monotonic() > give_up:
                raise NotMeasurable(f"this is left to do after {PATIENCE:g} s: {left}")
            await asyncio.sleep(0.2)


async def result_of(urls: Mapping[str, str]) -> Inspection:
    """What the databases say of everything that was done."""
    async with opened(_ours(urls)) as databases:
        return await inspect(databases, default_stock=0, stocked=orders.STOCKED)


def _ours(urls: Mapping[str, str]) -> dict[str, str]:
    return {name: urls[name] for name in ("orchestrator", "order", "payment")}


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
