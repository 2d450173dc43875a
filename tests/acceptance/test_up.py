"""`make up`: three processes on a broker and a database of their own."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.up import Backends, CannotStart, Service, commands, environment
from tests.acceptance.programs import AMENDS, finished

BOUND = 180.0
UP = (sys.executable, "-m", "deploy.up")


class Up:
    """A running `python -m deploy.up`, and what it has printed."""

    def __init__(self) -> None:
        named = ("AMQP_URL", "DATABASE_URL")
        self.process = subprocess.Popen(
            UP,
            env={name: value for name, value in os.environ.items() if name not in named},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.printed: list[str] = []

    def read_until(self, words: str) -> str:
        """The line with these words; fails when the program ends without printing them."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed.append(line)
            if words in line:
                return line
        pytest.fail(f"{words!r} was not printed:\n{''.join(self.printed)}")

    def end(self) -> int:
        """Read to the end; the exit code."""
        assert self.process.stdout is not None
        if not self.process.stdout.closed:
            with self.process.stdout as printed:
                self.printed.extend(printed)
        return self.process.wait(BOUND)

    def child(self, module: str) -> psutil.Process:
        """The process that runs `python -m module`."""
        (found,) = [
            each for each in psutil.Process(self.process.pid).children() if each.cmdline()[1:3] == ["-m", module]
        ]
        return found


@pytest.fixture
def up() -> Iterator[Up]:
    """Three services that are being started; ended afterwards."""
    running = Up()
    yield running
    if running.process.poll() is None:
        running.process.terminate()
    running.end()


def _eventually(holds: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + BOUND
    while not holds():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--help",), 0, "AMQP_URL and DATABASE_URL name the servers"),
        (("payment",), 2, "unexpected extra argument(s) (payment)"),
        (("--port", "0"), 2, "No such option: --port"),
    ],
    ids=str,
)
def test_words_it_does_not_know_start_nothing(tmp_path: Path, words: tuple[str, ...], code: int, said: str) -> None:
    """`--help` is answered, anything else is usage, exit code 2, and neither starts a server."""
    ended = finished((*UP, *words), tmp_path)
    assert ended.returncode == code, ended.stderr
    assert said in ended.stdout + ended.stderr
    assert "Starting" not in ended.stdout


def _try_the_printed_commands(up: Up, folder: Path) -> None:
    """The lines for another terminal list the one saga, and place a file of orders."""
    up.read_until("Ctrl-C stops everything")
    said = "".join(up.printed)
    given = dict(re.findall(r"^  export (\w+)=(\S+)$", said, re.MULTILINE))
    assert set(given) == {"DATABASE_URL", "AMQP_URL"}
    assert "  .venv/bin/amends list\n" in said
    listed = finished((*AMENDS, "list"), folder, **given)
    assert "1 completed" in listed.stdout, listed.stderr
    ((address, words),) = re.findall(r"^  ORDER_URL=(\S+) \.venv/bin/python (.*)$", said, re.MULTILINE)
    (folder / "orders.csv").write_text("order_ref,customer_id,quantity,amount\nA1,ada,1,14.99\n", encoding="utf-8")
    placed = finished((sys.executable, *words.split()), folder, ORDER_URL=address)
    assert placed.returncode == 0, placed.stderr


def test_the_password_of_a_server_that_was_named_is_not_printed() -> None:
    """The lines for another terminal show stars and say whose password belongs there."""
    environment = {"DATABASE_URL": "postgresql://me:secret@db/postgres", "AMQP_URL": "amqp://me:secret@broker/shop"}
    wanted = (Service("order", "services.order", 8001, "amends_order"),)
    found = Backends(environment["AMQP_URL"], {"orchestrator": "postgresql://me:secret@db/amends_orchestrator"})
    assert commands(found, wanted, environment) == (
        "  export DATABASE_URL=postgresql://me:***@db/amends_orchestrator\n"
        "  # with your password for ***\n"
        "  export AMQP_URL=amqp://me:***@broker/shop\n"
        "  # with your password for ***\n"
        "  .venv/bin/amends list\n"
        "  ORDER_URL=http://127.0.0.1:8001 .venv/bin/python -m services.order place orders.csv\n\n"
    )


def test_the_printed_order_is_fulfilled(up: Up, tmp_path: Path) -> None:
    """The curl line it prints places an order that ends completed, so do its other commands what they should, and
    Ctrl-C ends everything with exit code 0.
    """
    first = up.read_until("curl -i")
    words = shlex.split(first.rstrip().rstrip("\\") + up.read_until("-d "))
    address, body = words[2], words[-1]
    placed = httpx.post(
        address, content=body, headers={"Content-Type": "application/json"}, trust_env=False, timeout=BOUND
    )
    assert placed.status_code == 201, placed.text
    order = str(httpx.URL(address).join(placed.headers["Location"]))

    def told() -> httpx.Response:
        return httpx.get(order, trust_env=False, timeout=BOUND)

    assert _eventually(lambda: told().json()["status"] == "completed"), told().text
    _try_the_printed_commands(up, tmp_path)
    children = psutil.Process(up.process.pid).children(recursive=True)
    up.process.send_signal(signal.SIGINT)
    assert up.end() == 0, "".join(up.printed)
    assert psutil.wait_procs(children, timeout=BOUND)[1] == []


def test_a_service_that_dies_takes_the_rest_down(up: Up) -> None:
    """When one service is killed the others drain and end, the exit code is not 0, and its name is said."""
    up.read_until("Ctrl-C stops everything")
    children = psutil.Process(up.process.pid).children(recursive=True)
    up.child("services.payment").kill()
    assert up.end() == 1
    assert re.search(r"amends: payment .*by signal 9", "".join(up.printed))
    assert psutil.wait_procs(children, timeout=BOUND)[1] == []


def test_addresses_may_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """AMQP_URL_FILE and DATABASE_URL_FILE stand for what the files say; of the two the variable itself wins."""
    (tmp_path / "broker").write_text("amqp://from-a-file/\n")
    monkeypatch.setenv("AMQP_URL_FILE", str(tmp_path / "broker"))
    monkeypatch.delenv("AMQP_URL", raising=False)
    monkeypatch.setenv("DATABASE_URL", "postgresql://given/")
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "none"))
    found = environment()
    assert (found["AMQP_URL"], found["DATABASE_URL"]) == ("amqp://from-a-file/", "postgresql://given/")

    monkeypatch.delenv("DATABASE_URL")
    with pytest.raises(CannotStart, match=r"DATABASE_URL_FILE=.* cannot be read: No such file or directory") as refused:
        environment()
    assert refused.value.code == 78
