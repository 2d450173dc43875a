"""A small card gateway that misbehaves on demand, for the tests of whoever calls one.

It speaks what `services/payment/http_gateway.py` expects, keeps the first answer for each idempotency key,
and charges again for every new key: a caller that loses its key is seen in `charges`. With a journal file it
remembers across restarts what it charged, so that it may die at the worst moment:

    python tests/gateway_server.py --journal FILE [--fault charge_then_exit]

prints its port on the first line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any

EXIT_CODE = 86


class Fault(StrEnum):
    """What happens to one request; each is used once, in the order given."""

    NONE = "none"
    DECLINE = "decline"
    STALL = "stall"
    DROP = "drop"
    ERROR = "error"
    BUSY = "busy"
    GARBAGE = "garbage"
    NOT_FOUND = "not_found"
    CHARGE_THEN_DROP = "charge_then_drop"
    CHARGE_THEN_ERROR = "charge_then_error"
    CHARGE_THEN_STALL = "charge_then_stall"
    CHARGE_THEN_EXIT = "charge_then_exit"


_INSTEAD = {
    Fault.ERROR: (500, b"{}"),
    Fault.BUSY: (429, b"{}"),
    Fault.NOT_FOUND: (404, b"there is no such page"),
    Fault.GARBAGE: (200, b"<html>welcome</html>"),
    Fault.DECLINE: (402, b'{"reason": "card_declined", "detail": "the issuer says no"}'),
}


class Cut(Exception):
    """The connection ends here, without an answer."""


@dataclass
class Payment:
    """What the gateway knows of one merchant reference."""

    charges: list[int] = field(default_factory=list)
    currency: str = "XXX"
    captured: int = 0
    refunded: int = 0
    voided: bool = False

    @property
    def held(self) -> int:
        return 0 if self.voided else sum(self.charges) - self.captured


@dataclass(frozen=True)
class Answer:
    """What a key was answered, for ever."""

    status: int
    body: dict[str, Any]


class GatewayServer:
    """The gateway's state and its HTTP face. `faults` may be added to at any time."""

    def __init__(self, faults: Iterable[Fault] = (), journal: Path | None = None) -> None:
        self.faults = deque(faults)
        self.calls: Counter[str] = Counter()
        self.answers: dict[str, Answer] = {}
        self.payments: dict[str, Payment] = {}
        self.url = ""
        self._journal = journal
        self._released = asyncio.Event()
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        if journal is not None and journal.exists():
            for line in journal.read_text().splitlines():
                key, reference, action, body = json.loads(line)
                self._act(key, reference, action, body)

    def charges(self, reference: object) -> list[int]:
        """Every amount that was ever authorized for this reference, one for each key."""
        payment = self.payments.get(str(reference))
        return [] if payment is None else payment.charges

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[GatewayServer]:
        """Listen on loopback; `url` says where."""
        server = await asyncio.start_server(self._converse, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            self._released.set()
            server.close()
            connections = dict(self._connections)
            for connection in connections:
                connection.close()
            await asyncio.gather(*filter(None, connections.values()))
            await server.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections[writer] = asyncio.current_task()
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                status, content = await self._answer(head[0].split(" ")[1], headers, body)
                reason = HTTPStatus(status).phrase
                writer.write(
                    f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\n"
                    f"content-length: {len(content)}\r\n\r\n".encode()
                    + content
                )
                await writer.drain()
        except (Cut, asyncio.IncompleteReadError, ConnectionError):
            writer.close()
        finally:
            del self._connections[writer]

    async def _answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        _, _, _, reference, action = path.split("/")
        key = headers["idempotency-key"]
        self.calls[key] += 1
        fault = self.faults.popleft() if self.faults else Fault.NONE
        if fault in _INSTEAD:
            return _INSTEAD[fault]
        if fault not in (Fault.DROP, Fault.STALL):
            answer = self._once(key, reference, action, json.loads(body))
        match fault:
            case Fault.STALL | Fault.CHARGE_THEN_STALL:
                await self._released.wait()
                raise Cut
            case Fault.DROP | Fault.CHARGE_THEN_DROP:
                raise Cut
            case Fault.CHARGE_THEN_ERROR:
                return 500, b"{}"
            case Fault.CHARGE_THEN_EXIT:
                os._exit(EXIT_CODE)
            case _:
                return answer.status, json.dumps(answer.body).encode()

    def _once(self, key: str, reference: str, action: str, body: dict[str, Any]) -> Answer:
        if key in self.answers:
            return self.answers[key]
        if self._journal is not None:
            with self._journal.open("a") as journal:
                journal.write(json.dumps([key, reference, action, body]) + "\n")
                journal.flush()
                os.fsync(journal.fileno())
        return self._act(key, reference, action, body)

    def _act(self, key: str, reference: str, action: str, body: dict[str, Any]) -> Answer:
        payment = self.payments.setdefault(reference, Payment())
        match action:
            case "authorize":
                answer = self._authorize(payment, reference, body)
            case "capture":
                answer = self._capture(payment, body)
            case "void" if payment.captured:
                answer = Answer(409, {"code": "captured", "detail": "refund it instead"})
            case "void":
                payment.voided = True
                answer = Answer(200, {})
            case "refund":
                payment.refunded = payment.captured
                answer = Answer(200, {"amount": payment.refunded, "currency": payment.currency})
            case _:
                answer = Answer(404, {})
        self.answers[key] = answer
        return answer

    def _authorize(self, payment: Payment, reference: str, body: dict[str, Any]) -> Answer:
        if payment.voided:
            return Answer(402, {"reason": "voided", "detail": "this reference was voided"})
        payment.charges.append(body["amount"])
        payment.currency = body["currency"]
        return Answer(201, {"authorization_id": f"card-{reference}"})

    def _capture(self, payment: Payment, body: dict[str, Any]) -> Answer:
        if payment.voided or body["amount"] > payment.held:
            return Answer(422, {"code": "nothing_held", "detail": f"{payment.held} is held"})
        payment.captured += body["amount"]
        return Answer(200, {})


async def _run(port: int, journal: Path | None, faults: list[Fault]) -> None:
    async with GatewayServer(faults, journal).serving(port) as server:
        sys.stdout.write(server.url.rpartition(":")[2] + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A card gateway that misbehaves on demand.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--fault", type=Fault, action="append", default=[])
    options = parser.parse_args()
    asyncio.run(_run(options.port, options.journal, options.fault))
