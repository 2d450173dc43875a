"""How programs end that are interrupted, or whose output goes nowhere."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from messaging.database import Database
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


def _interrupted(folder: Path, words: tuple[str, ...], reached: Callable[[str], bool], **given: str) -> tuple[int, str]:
    """Exit code and complaints of a program that a Ctrl-C hit, as a terminal sends it: to its children, too."""
    log = folder / "said"
    with log.open("wb") as said:
        # -X importtime says on stderr when each module has been imported.
        process = subprocess.Popen(
            (sys.executable, "-X", "importtime", *words),
            cwd=folder,
            env=environment(**given),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        assert eventually(lambda: reached(log.read_text("utf-8")) or process.poll() is not None)
        assert process.poll() is None, log.read_text("utf-8")
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(BOUND)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    # Nobody of its group is left to say anything later.
    assert eventually(lambda: not _alive(process.pid))
    return code, "".join(
        line for line in log.read_text("utf-8").splitlines(keepends=True) if not line.startswith("import time:")
    )


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("program", "moment"),
    [
        ((*AMENDS, "list"), " messaging.interrupts\n"),
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
    assert _interrupted(tmp_path, program, lambda said: moment in said) == (130, "Interrupted.\n")


@pytest.mark.parametrize("loaded", [2, 3])
async def test_processes_that_replay_do_not_hear_of_an_interrupt(tmp_path: Path, sqlite_url: str, loaded: int) -> None:
    """One or both of them still load what they need: only the command itself ends, with 130, and they with it."""
    database = Database(sqlite_url)
    await make_tables(database)
    await store(database, *(read(path) for path in golden()))
    await database.close()
    program = ("-c", SWEEP.format(url=sqlite_url, modules=tuple(MODULES)))
    code, said = _interrupted(tmp_path, program, lambda said: said.count("sqlalchemy.sql.visitors") >= loaded)
    assert (code, said) == (130, "")


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
