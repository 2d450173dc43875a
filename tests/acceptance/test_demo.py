"""`make demo`: every kind of order in one process, and an audit of the money."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.pages import ROOT, blocks
from tests.acceptance.programs import AMENDS, BOUND, environment, eventually, finished

DEMO = (sys.executable, "-m", "deploy", "demo")
ENDS = {
    "payment service silent": "2 payment_timeout",
    "out of stock": "4 out_of_stock",
    "declined at first, then paid": "4 completed",
    "card declined": "5 card_declined",
    "a gift: nothing to pay": "1 completed",
    "paid": "24 completed",
}
"""How forty orders end, by kind."""


def _ends(printed: str) -> dict[str, str]:
    """The rows of the last board that was printed."""
    rows = re.findall(r"^(\S.*?) +(\d+) +(\d+) +(\d+) +(.*?)\s*$", printed, re.MULTILINE)
    return {kind: how for kind, _placed, _under_way, _ended, how in rows}


class Demo:
    """A demo that has ended, and the folder it ran in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # A proxy that the environment names is not asked for what is on this machine.
        self.ended = finished(DEMO, folder, HTTP_PROXY="http://127.0.0.1:1", NO_PROXY="")
        self.printed = self.ended.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """One demo in a pipe, for every test that only reads what it left."""
    return Demo(tmp_path_factory.mktemp("demo"))


def test_the_demo_ends_with_every_cent_accounted_for(demo: Demo) -> None:
    """In a pipe the demo prints each order's end, how the six kinds ended and a sound audit, and exits with 0."""
    assert demo.ended.returncode == 0, demo.printed + demo.ended.stderr
    assert _ends(demo.printed) == ENDS
    assert "every cent is accounted for" in demo.printed
    assert re.search(r"completed orders +677\.67 USD\n +captured by payment +677\.67 USD\n", demo.printed)
    assert len(re.findall(r"^[0-9a-f]{8}-[0-9a-f-]{27}  ", demo.printed, re.MULTILINE)) == 40
    assert "\x1b[" not in demo.printed


def test_what_the_demo_says_to_look_at_can_be_looked_at(demo: Demo) -> None:
    """The commands that it prints at its end show the sagas it ran, and the log it names is there."""
    (url,) = re.findall(r"export DATABASE_URL=(\S+)", demo.printed)
    (wanted,) = re.findall(r"amends show (\S+)", demo.printed)
    (log,) = re.findall(r"less (\S+)", demo.printed)
    listed = finished((*AMENDS, "list"), demo.folder, DATABASE_URL=url)
    assert listed.returncode == 0, listed.stderr
    assert "11 compensated, 29 completed" in listed.stdout
    shown = finished((*AMENDS, "show", wanted), demo.folder, DATABASE_URL=url)
    assert shown.returncode == 0, shown.stderr
    assert "authorize_payment was sent 3 times and never answered" in shown.stdout
    assert (demo.folder / log).stat().st_size > 0


def test_the_readme_shows_what_the_demo_prints(demo: Demo) -> None:
    """The excerpt in the README is the demo's own board and audit, but for how long it took."""
    (shown,) = [block.text for block in blocks(ROOT / "README.md", "text") if "kind of order" in block.text]
    took = re.compile(r"ended, [0-9.]+ s")
    lines = [took.sub("ended, … s", line.rstrip()) for line in shown.splitlines()]
    printed = [took.sub("ended, … s", line.rstrip()) for line in demo.printed.splitlines()]
    first = printed.index(lines[0])
    assert sorted(printed[first : first + len(lines)]) == sorted(lines)


def test_on_a_terminal_the_demo_draws_one_table_that_moves(tmp_path: Path) -> None:
    """On a terminal the board is redrawn in place, no order is printed by itself, and the end is the same."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        DEMO,
        cwd=tmp_path,
        env=environment(TERM="xterm-256color", COLUMNS="120"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    printed = b""
    try:
        while True:
            try:
                read = os.read(ours, 65536)
            except OSError:
                # Linux says EIO when the program at the other end has ended.
                break
            if not read:
                break
            printed += read
        assert process.wait(BOUND) == 0, printed.decode(errors="replace")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)
    raw = printed.decode()
    assert "\x1b[1A" in raw, "nothing was ever redrawn"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw).replace("\r", "")
    assert _ends(plain) == ENDS
    assert "every cent is accounted for" in plain
    assert not re.search(r"^[0-9a-f]{8}-[0-9a-f-]{27}  ", plain, re.MULTILINE)


INTERRUPTED_AT = """
import os, runpy, signal, sys
wanted, name, *sys.argv = sys.argv[1:]
def hear(event, arguments):
    if event == wanted and str(arguments[0]).endswith(name):
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(hear)
runpy.run_module("deploy", run_name="__main__", alter_sys=True)
"""
"""The demo with a Ctrl-C at the very moment at which it is about to import or to open something."""


@pytest.mark.parametrize(
    "moment", [("import", "deploy.embedded"), ("import", "sqlalchemy.sql"), ("open", "services.log")]
)
def test_a_demo_interrupted_before_anything_is_open_ends_at_once(tmp_path: Path, moment: tuple[str, str]) -> None:
    """While Python imports and until the services are begun, Ctrl-C means exit code 130, one line, no traceback."""
    ended = finished((sys.executable, "-c", INTERRUPTED_AT, *moment, "deploy", "demo"), tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "Interrupted.\n")


@pytest.mark.parametrize("moment", ["listening", "Placing 40 orders"])
def test_an_interrupted_demo_finishes_what_was_begun(tmp_path: Path, moment: str) -> None:
    """While the services start and while orders are placed, the one line says that something takes a while to end."""
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(DEMO, cwd=tmp_path, env=environment(), stdout=said, stderr=said)

    def reached() -> bool:
        written = (tmp_path / "said").read_text(encoding="utf-8")
        log = tmp_path / ".amends" / "demo" / "services.log"
        return moment in written + (log.read_text(encoding="utf-8") if log.exists() else "")

    try:
        assert eventually(lambda: reached() or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "said").read_text(encoding="utf-8")
        process.send_signal(signal.SIGINT)
        assert process.wait(BOUND) == 130
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    lines = (tmp_path / "said").read_text(encoding="utf-8").splitlines()
    complaints = [line for line in lines if not line.startswith("Placing")]
    assert [line for line in complaints if not re.match(r"[0-9a-f-]{36}  ", line)] == [
        "Interrupted: finishing what was begun …"
    ]
