"""The health check of a container, which has no shell and no curl."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from messaging import probe

READY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Somebody who gives this answer to the first who asks; his address, and what he was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/readyz", asked
        thread.join(10)


def test_ready_is_exit_code_0() -> None:
    """200 is all it wants to know; it asks for the path, as the host that it was given."""
    with answering(READY) as (url, asked):
        assert probe.main([url]) == 0
    assert asked[0].startswith(b"GET /readyz HTTP/1.0\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b'HTTP/1.1 503 Service Unavailable\r\n\r\n{"waiting_for":{"broker":"gone"}}', '503 {"waiting_for":{"broker"'),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "2000"),
        (b"220 mail.example.org ESMTP\r\n", "is no HTTP"),
        (b"", "is no HTTP"),
    ],
)
def test_anything_else_is_exit_code_1(answer: bytes, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says on stderr what it heard, so that `docker inspect` shows why."""
    with answering(answer) as (url, _):
        assert probe.main([url]) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith(url)
    assert said in complaint


def test_an_answer_without_an_end_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody who says a little now and then is given as long as everybody else."""
    monkeypatch.setattr(probe, "SECONDS", 0.2)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, suppress(ConnectionError):
                while not over.wait(0.05):
                    connection.sendall(b"H")

        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/readyz"
        try:
            assert probe.main([url]) == 1
        finally:
            over.set()
            thread.join(30)
    assert capsys.readouterr().err == f"{url}: timed out\n"


def test_nobody_there_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], deaf_port: int
) -> None:
    """Without a URL it asks at the port that the service itself is told."""
    monkeypatch.delenv("AMENDS_HEALTH_PORT", raising=False)
    monkeypatch.setenv("PORT", str(deaf_port))
    assert probe.main([]) == 1
    assert f"http://127.0.0.1:{deaf_port}/readyz: " in capsys.readouterr().err


def test_the_port_for_probes_goes_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where HTTP wants certificates that a probe has not; an empty variable is none."""
    with answering(READY) as (url, _):
        port = url.removeprefix("http://127.0.0.1:").removesuffix("/readyz")
        monkeypatch.setenv("PORT", "1")
        monkeypatch.setenv("AMENDS_HEALTH_PORT", port)
        assert probe.main([]) == 0
    with answering(READY) as (url, _):
        monkeypatch.setenv("PORT", url.removeprefix("http://127.0.0.1:").removesuffix("/readyz"))
        monkeypatch.setenv("AMENDS_HEALTH_PORT", "")
        assert probe.main([]) == 0


@pytest.mark.parametrize("url", ["", "readyz", "https://127.0.0.1:1/", "http://127.0.0.1/", "http://h:1/\r\nX: y"])
def test_what_is_no_address_is_exit_code_2(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what one looks like."""
    assert probe.main([url]) == 2
    assert "http://127.0.0.1:8000/readyz" in capsys.readouterr().err


def test_it_loads_next_to_nothing() -> None:
    """Neither HTTP libraries nor ours: a container asks every few seconds."""
    code = "import sys, messaging.probe; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"messaging", "messaging.probe"} == {each for each in loaded if each.startswith("messaging")}
    assert not {"asyncio", "email", "http.client", "pydantic", "ssl", "starlette", "typing"} & set(loaded)
