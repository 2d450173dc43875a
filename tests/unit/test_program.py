"""Commands called from a process that is somebody else's: a test, a notebook, a script of a user's own."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest
import structlog
import typer

from messaging import interrupts
from messaging.program import run
from orchestrator.cli import main
from orchestrator.cli.opening import screen
from tests.acceptance.pages import ROOT


def _mine(_number: int, _frame: object) -> None:
    """A handler of the caller's."""


@pytest.fixture
def handled() -> Iterator[None]:
    """Ctrl-C is the caller's own to handle."""
    before = signal.signal(signal.SIGINT, _mine)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_output_that_is_no_file_is_written_to() -> None:
    """A StringIO in the place of standard output holds what a command prints."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        run("amends", lambda: typer.echo("12 sagas"))
    assert printed.getvalue() == "12 sagas\n"


class Notebook(io.StringIO):
    """Shows what is written to it, and names the file of its server's log when it is asked for one, as IPython does."""

    def fileno(self) -> int:
        return sys.__stdout__.fileno() if sys.__stdout__ is not None else 1


def test_a_notebook_shows_what_is_printed() -> None:
    """Though its output has a number of a file: that is another one's."""
    shown = Notebook()
    with redirect_stdout(shown):
        run("amends", lambda: typer.echo("12 sagas"))
    assert shown.getvalue() == "12 sagas\n"


def test_where_standard_output_is_closed_a_table_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As other output does: what the command has done is done."""
    monkeypatch.setattr(sys, "stdout", None)
    told: list[str] = []

    def command() -> None:
        screen().print("12 sagas")
        told.append("done")

    run("amends", command)
    assert (told, sys.stdout) == (["done"], None)


def test_what_an_output_cannot_show_is_named() -> None:
    """Where the locale has an encoding of another age: a command that has done something must be able to say so."""
    program = "from messaging.program import run; run('amends', lambda: print('3 \u2026'))"
    ended = subprocess.run(
        (sys.executable, "-c", program),
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"3 \\u2026\n", b"")


def test_a_test_of_a_users_captures_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """`main` under pytest's capsys answers, and ends with SystemExit as a command line does."""
    with pytest.raises(SystemExit) as ended:
        main(["list", "--help"])
    assert ended.value.code == 0
    assert "Usage: amends list" in capsys.readouterr().out


def _ends(error: BaseException | None) -> Callable[[], None]:
    def command() -> None:
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if error is not None:
            raise error

    return command


@pytest.mark.parametrize("error", [None, SystemExit(1), ValueError("a bug"), KeyboardInterrupt()], ids=repr)
@pytest.mark.usefixtures("handled")
def test_ctrl_c_is_the_callers_again_however_a_command_has_ended(error: BaseException | None) -> None:
    """Returned, ended, failed or interrupted."""
    with suppress(SystemExit, ValueError):
        run("amends", _ends(error))
    assert signal.getsignal(signal.SIGINT) is _mine


@pytest.mark.usefixtures("handled")
def test_the_amends_command_leaves_its_caller_as_it_was() -> None:
    """Ctrl-C, standard output, the path of imports and what is done about exceptions are the caller's again."""
    before = (sys.stdout, list(sys.path), sys.excepthook)
    with redirect_stdout(io.StringIO()), pytest.raises(SystemExit):
        main(["--help"])
    assert signal.getsignal(signal.SIGINT) is _mine
    assert (sys.stdout, sys.path, sys.excepthook) == before


@pytest.mark.usefixtures("handled")
def test_the_modules_of_a_team_are_found_only_meanwhile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They lie in the working directory, which need not be on the caller's path."""
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    monkeypatch.setenv("AMENDS_SAGAS", "nowhere.at_all")
    before = list(sys.path)
    with pytest.raises(SystemExit) as ended:
        main(["replay", "3fa8"])
    assert ended.value.code == 78
    assert "nowhere" in capsys.readouterr().err
    assert sys.path == before


def test_the_callers_logs_go_where_they_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A repair logs as a program does, meanwhile."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", "sqlite:///nowhere.db")

    def arranged() -> tuple[object, ...]:
        root, broker = logging.getLogger(), logging.getLogger("aio_pika")
        context = structlog.contextvars.get_contextvars()
        return list(root.handlers), root.level, broker.level, structlog.is_configured(), structlog.get_config(), context

    before = arranged()
    with pytest.raises(SystemExit) as ended:
        main(["retry", "--all-stuck", "--reason", "why", "--as", "bea"])
    assert (ended.value.code, "nowhere.db does not exist" in capsys.readouterr().err) == (69, True)
    assert arranged() == before


@pytest.mark.usefixtures("handled")
def test_a_command_runs_in_a_thread() -> None:
    """Where nobody but the main thread may see to Ctrl-C, and what others print meanwhile is theirs."""
    seen: list[object] = []
    usual = sys.stdout
    thread = threading.Thread(target=lambda: run("amends", lambda: seen.append(sys.stdout is usual)))
    thread.start()
    thread.join()
    assert seen == [True]
    assert signal.getsignal(signal.SIGINT) is _mine


def test_the_console_script_is_the_strict_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends at once by Ctrl-C also while the interpreter shuts down: the process is its own."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]["amends"]
    assert named == "orchestrator.cli:script"
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "argv", ["amends", "--help"])
    try:
        from orchestrator.cli import script

        with redirect_stdout(io.StringIO()), pytest.raises(SystemExit):
            script()
        left = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert getattr(left, "__module__", "") == interrupts.__name__
