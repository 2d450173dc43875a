"""python -m benchmarks.posting URL COUNT: place orders over HTTP, in a process of its own.

Prints one JSON object a line: the order's id and when its request was sent, on the clock of `time.monotonic`, which
all processes of a machine share. HTTP is spoken by hand on kept-alive connections, because a client library
would take more CPU from the machine than the service it calls.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio import StreamReader, StreamWriter
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

import typer

from benchmarks.orders import AMOUNT, CURRENCY, customer_of, sku_of

IDLE_SECONDS = 3.0
"""Less than the five after which the service closes a connection that says nothing."""


class Refused(Exception):
    """The service did not take an order; says what it answered."""


class Connection:
    """One kept-alive connection that places an order at a time."""

    def __init__(self, host: str, reader: StreamReader, writer: StreamWriter) -> None:
        self._host = host
        self._reader = reader
        self._writer = writer
        self._used = time.monotonic()

    @property
    def fresh(self) -> bool:
        """Whether the service has surely not closed it yet."""
        return time.monotonic() - self._used < IDLE_SECONDS and not self._reader.at_eof()

    async def place(self, number: int) -> UUID:
        """Place an order; raises Refused for any answer but 201."""
        body = json.dumps(
            {
                "customer_id": customer_of(number),
                "currency": CURRENCY,
                "lines": [{"sku": sku_of(number), "quantity": 1, "amount": AMOUNT}],
            }
        ).encode()
        self._writer.write(
            b"POST /orders HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (self._host.encode(), len(body), body)
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        status, _, fields = head.partition("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in fields.splitlines() if line)
        }
        answer = await self._reader.readexactly(int(headers["content-length"]))
        if status.split()[1] != "201":
            raise Refused(f"{status}: {answer.decode(errors='replace')[:500]}")
        self._used = time.monotonic()
        return UUID(json.loads(answer)["id"])

    def close(self) -> None:
        self._writer.close()


async def connect(url: str) -> Connection:
    """A connection to the order service."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    return Connection(parts.netloc, reader, writer)


async def all_at_once(url: str, count: int, concurrency: int) -> list[tuple[UUID, float]]:
    """As fast as the service takes them, so many at a time."""
    numbers = iter(range(count))
    placed: list[tuple[UUID, float]] = []

    async def place_some() -> None:
        connection = await connect(url)
        for number in numbers:
            sent = time.monotonic()
            placed.append((await connection.place(number), sent))
        connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(place_some())
    return placed


async def at_a_rate(url: str, count: int, rate: float) -> list[tuple[UUID, float]]:
    """So many a second, whether or not the earlier ones have been answered; timed from when each was due.

    A service that is slow to answer does not make the load lighter.
    """
    idle: list[Connection] = []
    placed: list[tuple[UUID, float]] = []
    began = time.monotonic()

    async def place(number: int, due: float) -> None:
        # The last one back goes first; what is stale lies below what is fresh, and is closed at the end.
        connection = idle.pop() if idle and idle[-1].fresh else await connect(url)
        placed.append((await connection.place(number), due))
        idle.append(connection)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(place(number, due))
    for connection in idle:
        connection.close()
    return placed


def main(
    url: str,
    count: int,
    rate: Annotated[float, typer.Option(help="Orders a second; 0: as fast as they are taken.")] = 0.0,
    concurrency: Annotated[int, typer.Option(help="Requests at a time, where no rate is given.")] = 32,
) -> None:
    """Place orders, then print their ids and when each was sent."""
    work = at_a_rate(url, count, rate) if rate else all_at_once(url, count, concurrency)
    for identity, sent in asyncio.run(work):
        sys.stdout.write(json.dumps({"order_id": str(identity), "sent": sent}) + "\n")


if __name__ == "__main__":
    typer.run(main)
