"""How programs end that are interrupted, or whose output goes nowhere."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from messaging.database import Database
from tests.acceptance.pages import ROOT
from tests.acceptance.programs import BOUND, environment, eventually
from tests.contract.orchestrator.conftest import make_tables
from tests.golden.files import MODULES, golden, read, store

AMENDS = ("-c", "from orchestrator.cli import script; script()")
SWEEP = """
from messaging import interrupts

interrupts.end_at_once()
from messaging.program import run
from orchestrator.replay.sweeping import Selection, sweep

run("amends", lambda: sweep({url!r}, {modules!r}, Selection(), instances=9000, processes=2, progress=print))
"""
ASKS = """
import sys
from messaging.program import run

def asks():
    for letter in "ab":
        print(letter, end="")
        sys.stdin.readline()

run("amends", asks)
"""


INTERRUPTED_AT = """
import os, runpy, signal, sys
wanted, option, program, *words = sys.argv[1:]
def hear(event, arguments):
    if event == "import" and arguments[0] == wanted:
        os.killpg(0, signal.SIGINT)
sys.addaudithook(hear)
sys.argv = [option, *words]
if option == "-c":
    exec(program)
else:
    runpy.run_module(program, run_name="__main__", alter_sys=True)
"""
"""A program with a Ctrl-C, as a terminal sends it, at the very moment at which it is about to import something."""

STILL_LOADS = """
import os, sys, time
def hear(event, arguments):
    if event != "import" or arguments[0] != "sqlalchemy.sql.visitors":
        return
    for number in range(int(os.environ["LOADING"])):
        try:
            os.close(os.open(f"loading-{number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        parent = os.getppid()
        while os.getppid() == parent:
            time.sleep(0.02)
        return
if "--multiprocessing-fork" in sys.orig_argv:
    sys.addaudithook(hear)
"""
"""As `sitecustomize` of processes that are started to share work: so many of them load until their parent has ended."""


def _interrupted(folder: Path, program: str, loading: int) -> tuple[int, str]:
    """Exit code and complaints of a program that a Ctrl-C hits while so many that it has started still load."""
    (folder / "sitecustomize.py").write_text(STILL_LOADS)
    log = folder / "said"
    with log.open("wb") as said:
        process = subprocess.Popen(
            (sys.executable, "-c", program),
            cwd=folder,
            env=environment(PYTHONPATH=f"{folder}{os.pathsep}{ROOT}", LOADING=str(loading)),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        there = [folder / f"loading-{number}" for number in range(loading)]
        assert eventually(lambda: all(each.exists() for each in there) or process.poll() is not None)
        assert process.poll() is None, log.read_text("utf-8")
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(BOUND)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    # Nobody of its group is left to say anything later.
    assert eventually(lambda: not _alive(process.pid))
    return code, log.read_text("utf-8")


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("program", "moment"),
    [
        # The first thing that is loaded once Ctrl-C is heeded.
        ((*AMENDS, "list"), "messaging.program"),
        ((*AMENDS, "list"), "sqlalchemy.sql"),
        (("-m", "orchestrator"), "sqlalchemy.sql"),
        (("-m", "services.order"), "sqlalchemy.sql"),
        (("-m", "services.payment"), "sqlalchemy.sql"),
        (("-m", "messaging", "migrate"), "sqlalchemy.sql"),
    ],
    ids=str,
)
def test_a_program_interrupted_while_it_loads_says_one_line(
    tmp_path: Path, program: tuple[str, ...], moment: str
) -> None:
    """Ctrl-C in the first second is exit code 130, one line, no traceback."""
    ended = subprocess.run(
        (sys.executable, "-c", INTERRUPTED_AT, moment, *program),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND,
        start_new_session=True,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "Interrupted.\n")


@pytest.mark.parametrize("loading", [1, 2])
async def test_processes_that_replay_do_not_hear_of_an_interrupt(tmp_path: Path, sqlite_url: str, loading: int) -> None:
    """One or both of them still load what they need: only the command itself ends, with 130, and they with it."""
    database = Database(sqlite_url)
    await make_tables(database)
    await store(database, *(read(path) for path in golden()))
    await database.close()
    program = SWEEP.format(url=sqlite_url, modules=tuple(MODULES))
    assert await asyncio.to_thread(_interrupted, tmp_path, program, loading) == (130, "")


@pytest.mark.parametrize(
    "program", [(*AMENDS, "--help"), (*AMENDS, "config", "show"), ("-m", "services.order", "config")], ids=" ".join
)
def test_an_output_that_cannot_be_written(tmp_path: Path, program: tuple[str, ...]) -> None:
    """A full disk is one line and exit code 1; a reader who has gone ends it quietly by SIGPIPE, as other programs."""
    command = (sys.executable, *program)
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            command, cwd=tmp_path, env=environment(), stdout=full, stderr=subprocess.PIPE, check=False, timeout=BOUND
        )
    name = "python -m services.order" if "services.order" in program else "amends"
    complaint = f"{name}: cannot write the output: No space left on device\n"
    assert (ended.returncode, ended.stderr.decode()) == (1, complaint)

    gone, output = os.pipe()
    os.close(gone)
    piped = subprocess.run(
        command, cwd=tmp_path, env=environment(), stdout=output, stderr=subprocess.PIPE, check=False, timeout=BOUND
    )
    os.close(output)
    assert (piped.returncode, piped.stderr) == (-signal.SIGPIPE, b"")
    closed = subprocess.run(
        ("sh", "-c", f'{sys.executable} "$@" >&-', "sh", *program), cwd=tmp_path, env=environment(), check=False
    )
    assert closed.returncode == 0


@pytest.mark.parametrize("how", ["PYTHONUNBUFFERED", "-u"])
def test_an_unbuffered_output_keeps_nothing_back(tmp_path: Path, how: str) -> None:
    """What a function of the user's prints is read while it goes on, without an end of a line."""
    command = (sys.executable, *(("-u",) if how == "-u" else ()), "-c", ASKS)
    given = {"PYTHONUNBUFFERED": "1"} if how == "PYTHONUNBUFFERED" else {}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(**given), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for printed in (b"a", b"b"):
                readable, _, _ = select.select((process.stdout,), (), (), BOUND)
                assert readable, "it is kept back until the end"
                assert os.read(process.stdout.fileno(), 9) == printed
                process.stdin.write(b"\n")
                process.stdin.flush()
        finally:
            process.stdin.close()
    assert process.returncode == 0


def test_the_orchestrator_refuses_words_it_does_not_know(tmp_path: Path) -> None:
    """`python -m orchestrator WORDS` is usage, exit code 2; --help is answered; neither starts anything."""

    def said(*words: str) -> tuple[int, str]:
        ended = subprocess.run(
            (sys.executable, "-m", "orchestrator", *words),
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=BOUND,
        )
        return ended.returncode, ended.stdout + ended.stderr

    assert said("list")[0] == 2
    assert "unexpected extra argument(s) (list)" in said("list")[1]
    code, told = said("--help")
    assert code == 0
    assert "Run the orchestrator until SIGTERM or Ctrl-C." in told
