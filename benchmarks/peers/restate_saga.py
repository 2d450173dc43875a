"""python -m benchmarks.peers.restate_saga SERVER COUNT CONCURRENCY: the saga on a Restate server and its handlers.

SERVER is the path of the `restate-server` program. Both keep to the loopback interface and a directory that is removed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path

import httpx
import psutil

from benchmarks.peers.work import Outcome, findings

HOST = "127.0.0.1"
READY_SECONDS = 60.0
WARM = 50


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at the moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in sockets]


@contextmanager
def running(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program of ours, ended at the end; what it said is shown where it has ended by itself."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=output)
    try:
        yield process
    finally:
        if process.poll() is not None:
            sys.stderr.write(log.read_text(encoding="utf-8", errors="replace")[-2000:])
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def answers(client: httpx.AsyncClient, url: str) -> None:
    """Wait until somebody does there. Raises TimeoutError."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            try:
                if (await client.get(url)).status_code < 500:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.2)


class Ingress:
    """One kept-alive connection to the server, spoken by hand: a client library would cost more than the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def call(self, number: int) -> dict[str, int | str]:
        """Run one saga to its end. Raises RuntimeError for any answer but 200."""
        body = json.dumps(number).encode()
        self._writer.write(
            b"POST /FulfillOrder/run HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].split()[0])
        answer = await self._reader.readexactly(length)
        if head.split()[1] != "200":
            raise RuntimeError(f"{head.splitlines()[0]}: {answer.decode(errors='replace')[:300]}")
        found: dict[str, int | str] = json.loads(answer)
        return found

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def sagas(port: int, count: int, concurrency: int) -> list[dict[str, int | str]]:
    """So many sagas, so many at a time."""
    numbers = iter(range(count))
    results: list[dict[str, int | str]] = []

    async def some() -> None:
        ingress = Ingress(*await asyncio.open_connection(HOST, port))
        results.extend([await ingress.call(number) for number in numbers])
        ingress.close()

    await asyncio.gather(*(some() for _ in range(concurrency)))
    return results


def used(processes: dict[str, subprocess.Popen[bytes]]) -> dict[str, float]:
    """CPU seconds of each, with its children."""
    found = {}
    for name, process in processes.items():
        each = psutil.Process(process.pid)
        times = [each.cpu_times(), *(child.cpu_times() for child in each.children(recursive=True))]
        found[name] = sum(time.user + time.system for time in times)
    return found


async def register(client: httpx.AsyncClient, admin: int, handlers: int) -> None:
    """Tell the server where the handlers are, as soon as they answer. Raises TimeoutError."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            answer = await client.post(f"http://{HOST}:{admin}/deployments", json={"uri": f"http://{HOST}:{handlers}"})
            if answer.is_success:
                return
            await asyncio.sleep(0.3)


async def ready(ingress: int, admin: int, handlers: int) -> None:
    """Return when the server takes sagas. Raises TimeoutError."""
    async with httpx.AsyncClient(timeout=READY_SECONDS, trust_env=False) as client:
        await answers(client, f"http://{HOST}:{admin}/health")
        await answers(client, f"http://{HOST}:{ingress}/restate/health")
        await register(client, admin, handlers)


def main(server: str, count: int, concurrency: int) -> None:
    """Start the server and the handlers, measure, print, end both."""
    ingress, admin, node, handlers = free_ports(4)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="restate-")))
        settings = {
            "RESTATE_BASE_DIR": str(folder / "data"),
            "RESTATE_NODE_NAME": "bench",
            "RESTATE_BIND_IP": HOST,
            "RESTATE_BIND_PORT": str(node),
            "RESTATE_INGRESS__BIND_PORT": str(ingress),
            "RESTATE_ADMIN__BIND_PORT": str(admin),
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_LOG_FILTER": "restate=warn",
        }
        hypercorn = [
            sys.executable,
            "-m",
            "hypercorn",
            "--bind",
            f"{HOST}:{handlers}",
            "benchmarks.peers.restate_service:app",
        ]
        processes = {
            "restate-server": stack.enter_context(running([server, "--no-logo"], folder / "server.log", settings)),
            "handlers": stack.enter_context(running(hypercorn, folder / "handlers.log", {})),
        }
        asyncio.run(ready(ingress, admin, handlers))
        asyncio.run(sagas(ingress, WARM, concurrency))
        before, began = used(processes), time.monotonic()
        results = asyncio.run(sagas(ingress, count, concurrency))
        speed = count / (time.monotonic() - began)
        cpu = {name: seconds - before[name] for name, seconds in used(processes).items()}
        said = {
            "restate-server": server_version(server),
            "restate-sdk": version("restate-sdk"),
            "requests at a time": str(concurrency),
            "else": "its defaults",
        }
        Outcome(speed, cpu, findings(results, count), said).say()


def server_version(server: str) -> str:
    """As the server says it."""
    words = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout.split()
    return words[1]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
