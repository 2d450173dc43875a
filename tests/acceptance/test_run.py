"""`make run`: the embedded mode, left running."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.acceptance.pages import ROOT, blocks
from tests.acceptance.programs import AMENDS, BOUND, answers, eventually, finished, running

RUN = (sys.executable, "-m", "deploy", "run", "--port", "0")


class House:
    """The running embedded mode, as its own words describe it."""

    def __init__(self, process: subprocess.Popen[bytes], said: Callable[[], str]) -> None:
        self.process = process
        self.said = said
        assert eventually(lambda: "Ctrl-C stops them" in said() or process.poll() is not None), said()
        self.urls = dict(re.findall(r"^  (orchestrator|order|payment) +(http://[^/\s]+)/", said(), re.MULTILINE))

    @property
    def database(self) -> str:
        """The DATABASE_URL that it says to use."""
        (found,) = re.findall(r"DATABASE_URL=(\S+)", self.said())
        return str(found)


@contextmanager
def house(folder: Path) -> Iterator[House]:
    """The embedded mode in this folder for as long as the block."""
    log = folder / "run.log"
    with running(RUN, folder, log) as process:
        yield House(process, lambda: log.read_text(encoding="utf-8", errors="replace"))


def _printed_order(said: str) -> tuple[str, bytes]:
    """The address and the body of the curl line that it prints."""
    (line,) = re.findall(r"^  (curl -i .*? -d \\\n.*)$", said, re.MULTILINE)
    words = shlex.split(line.replace("\\\n", " "))
    return words[2], words[-1].encode()


def test_the_printed_order_is_fulfilled_and_can_be_looked_at(tmp_path: Path) -> None:
    """The three are ready, the printed curl line's order completes, `amends list` and `show` tell of it, and Ctrl-C
    ends with 130.
    """
    with house(tmp_path) as here:
        assert all(answers(f"{url}/readyz") for url in here.urls.values()), here.said()
        assert sorted(here.urls) == ["orchestrator", "order", "payment"]
        assert answers(f"{here.urls['order']}/docs")
        assert answers(f"{here.urls['payment']}/audit")
        address, body = _printed_order(here.said())
        placed = httpx.post(
            address, content=body, headers={"Content-Type": "application/json"}, trust_env=False, timeout=BOUND
        )
        assert placed.status_code == 201, placed.text
        order = str(httpx.URL(address).join(placed.headers["Location"]))
        assert eventually(lambda: _order(order)["status"] == "completed"), _order(order)
        assert _order(order)["captured"] == _order(order)["total"]
        listed = finished((*AMENDS, "list", "--output", "json"), tmp_path, DATABASE_URL=here.database)
        assert [each["key"] for each in json.loads(listed.stdout)] == [placed.json()["id"]]
        shown = finished((*AMENDS, "show", placed.json()["id"]), tmp_path, DATABASE_URL=here.database)
        assert "payment.captured" in shown.stdout, shown.stderr
        here.process.send_signal(signal.SIGINT)
        assert here.process.wait(60) == 130, here.said()


def test_the_order_of_the_readme_fails_and_is_told_as_it_says(tmp_path: Path) -> None:
    """Its curl line's order is refused and undone, its `list` finds it, and `show` prints its table, times aside."""
    (commands,) = [each.text for each in blocks(ROOT / "README.md", "sh") if "curl" in each.text]
    (printed,) = [each.text for each in blocks(ROOT / "README.md", "text") if "order.rejected" in each.text]
    order, setting, *looks = commands.replace("\\\n", " ").splitlines()
    with house(tmp_path) as here:
        assert setting == f"export DATABASE_URL={here.database}"
        words = shlex.split(order)
        address = str(httpx.URL(words[1]).copy_with(port=httpx.URL(here.urls["order"]).port))
        placed = httpx.post(
            address,
            content=words[-1].encode(),
            headers={"Content-Type": "application/json"},
            trust_env=False,
            timeout=BOUND,
        )
        assert placed.status_code == 201, placed.text
        key = placed.json()["id"]
        assert eventually(lambda: _order(f"{address}/{key}")["status"] == "canceled"), _order(f"{address}/{key}")
        environment = {"DATABASE_URL": here.database, "COLUMNS": "120"}

        def ended() -> bool:
            return key in finished((*AMENDS, *shlex.split(looks[0])[1:]), tmp_path, **environment).stdout

        assert eventually(ended)
        assert shlex.split(looks[1])[:2] == [".venv/bin/amends", "show"]
        shown = finished((*AMENDS, "show", key), tmp_path, **environment).stdout
    assert _timeless(shown[shown.index("#  after") :]) == _timeless(printed)


def _timeless(table: str) -> list[str]:
    return re.sub(r"\d+\.\d+s", "0s", table).split()


def test_ports_that_are_taken_are_told_with_what_helps(tmp_path: Path) -> None:
    """A busy port is exit code 78 and a line that names PORT, and with PORT=0 all three listen."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        refused = finished(RUN[:4], tmp_path, PORT=str(port))
        assert refused.returncode == 78, refused.stderr
        assert f"orchestrator cannot listen on 127.0.0.1:{port}" in refused.stderr
        assert "PORT to the first of three ports that are free (PORT=0 picks some)" in refused.stderr
    log = tmp_path / "run.log"
    with running(RUN[:4], tmp_path, log, {"PORT": "0"}):
        assert eventually(lambda: "Ctrl-C stops them" in log.read_text("utf-8")), log.read_text("utf-8")
        assert ":8000/" not in log.read_text("utf-8")


def test_the_next_run_goes_on_where_this_one_was_killed(tmp_path: Path) -> None:
    """An order that was accepted before a `kill -9` is completed by the next run on the same files."""
    with house(tmp_path) as here:
        address, body = _printed_order(here.said())
        placed = httpx.post(
            address, content=body, headers={"Content-Type": "application/json"}, trust_env=False, timeout=BOUND
        )
        here.process.kill()
        here.process.wait()
    assert placed.status_code == 201, placed.text
    with house(tmp_path) as here:
        order = f"{here.urls['order']}/orders/{placed.json()['id']}"
        assert eventually(lambda: _order(order)["status"] == "completed"), _order(order)
        audit = httpx.get(f"{here.urls['payment']}/audit", trust_env=False, timeout=BOUND).json()
        assert audit["captured"] == {"USD": placed.json()["total"]}
        assert audit["findings"] == []


def _order(url: str) -> dict[str, object]:
    found: dict[str, object] = httpx.get(url, trust_env=False, timeout=BOUND).json()
    return found
