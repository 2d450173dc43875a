"""A program beside ours, in turns with it and on the same servers: what the parts cost by themselves.

It finds AMQP_URL, DATABASE_URL, BROKER_PID and POSTGRES_PID in its environment and prints its figures, in any order
and among whatever else: `N sagas/s`, and where it measures them `NAME_us=N` (CPU microseconds a saga) and
`p50=Nms p99=Nms` (which nobody asks for where NOLAT is set). In its command {count}, {batch} and {queue} stand for how
many sagas, the most messages in a batch, and q or c for the type of the queues.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.system import NotMeasurable
from benchmarks.usage import listener_on
from messaging.topology import QueueType

BATCH = 100
"""Most messages in one of its batches, where not the size of batches is what is measured."""
_SPEED = re.compile(r"(\d+(?:\.\d+)?) sagas/s")
_CPU = re.compile(r"\b([a-z]+)_us=(\d+(?:\.\d+)?)")
_LATENCY = re.compile(r"\bp(50|99)=(\d+(?:\.\d+)?)ms")


@dataclass(frozen=True, slots=True)
class Floor:
    """What it printed. CPU milliseconds a saga by its own names; latency in seconds, None where it says none."""

    sagas_per_second: float
    cpu_ms: Mapping[str, float] = field(default_factory=dict)
    p50: float | None = None
    p99: float | None = None


def read(text: str) -> Floor | None:
    """The figures in what a program printed; None where it does not say how many sagas a second."""
    speed = _SPEED.search(text)
    if speed is None:
        return None
    latency = {name: float(value) / 1000 for name, value in _LATENCY.findall(text)}
    return Floor(
        float(speed.group(1)),
        {name: float(value) / 1000 for name, value in _CPU.findall(text)},
        latency.get("50"),
        latency.get("99"),
    )


def command(template: str, queue: QueueType, batch: int, count: int) -> str:
    """The command for this type of queue, this size of batches and so many sagas."""
    places = {"{queue}": queue.value[0], "{batch}": str(batch), "{count}": str(count)}
    for place, value in places.items():
        template = template.replace(place, value)
    return template


async def run(command: str, amqp_url: str, database_url: str, *, latency: bool = True) -> Floor:
    """Run it and return what it printed. Raises NotMeasurable where it fails or prints no figure."""
    output = await output_of(command, amqp_url, database_url, **({} if latency else {"NOLAT": "1"}))
    found = read(output)
    if found is None:
        raise NotMeasurable(f"--floor {command!r} printed no `N sagas/s`, but {output[-300:]!r}")
    return found


async def figure_of(command: str, amqp_url: str, database_url: str, printing: re.Pattern[str]) -> float:
    """The one figure that `printing` finds as its first group. Raises NotMeasurable where there is none."""
    output = await output_of(command, amqp_url, database_url)
    found = printing.search(output)
    if found is None:
        raise NotMeasurable(f"--floor {command!r} printed no figure of this measurement, but {output[-300:]!r}")
    return float(found.group(1))


async def output_of(command: str, amqp_url: str, database_url: str, **given: str) -> str:
    """What it printed, with these variables in its environment. Raises NotMeasurable where it fails."""
    environment = {**os.environ, "AMQP_URL": amqp_url, "DATABASE_URL": database_url, **given}
    for name, url in (("BROKER_PID", amqp_url), ("POSTGRES_PID", database_url)):
        pid = listener_on(url)
        if pid is not None:
            environment[name] = str(pid)
    process = await asyncio.create_subprocess_exec(*shlex.split(command), stdout=PIPE, env=environment)
    output, _ = await process.communicate()
    if process.returncode:
        raise NotMeasurable(f"--floor {command!r} ended with {process.returncode} and printed {output[-300:]!r}")
    return output.decode(errors="replace")
