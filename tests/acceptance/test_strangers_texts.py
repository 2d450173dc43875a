"""What strangers have written into a saga: a terminal shows it, and obeys none of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from io import StringIO
from pathlib import Path
from uuid import UUID

import pytest
from rich.console import Console
from typer.testing import CliRunner

from messaging import migrate
from messaging.database import Database
from orchestrator.assembly import MIGRATIONS
from orchestrator.cli.app import app
from orchestrator.cli.letter_pictures import letter
from orchestrator.cli.opening import fail
from orchestrator.cli.pictures import safe_lines
from orchestrator.letters import Letter, State
from orchestrator.replay.recorded import Recorded
from tests import laying
from tests.contract.orchestrator.digging import DIGGING
from tests.contract.orchestrator.records import store
from tests.unit.begun import RecordedPlay
from tests.unit.play import NOON
from tests.unit.work import Done, Refused

HOSTILE = "no\x1b[2J\x07\r\b\x9b2J[bold]loud[/bold]"
CONTROLS = "\x1b\x07\r\b\x9b"
SHOWN = "[bold]loud[/bold]"


def _history() -> Recorded:
    """Number 7 is told lies: its key, an answer, a refusal and the reason why it is stuck."""
    play = RecordedPlay(DIGGING, 7)
    play.at(1).answer("dig", Done(note=HOSTILE))
    play.at(2).answer("sign", Refused(reason=HOSTILE))
    play.fails(play.arrival(Done(note=HOSTILE)), f"Traceback\n  of {HOSTILE}\nOops: {HOSTILE}")
    return replace(play.recorded, key=f"7 {HOSTILE}")


async def _prepare(url: str, recorded: Recorded) -> None:
    database = Database(url)
    await laying.migrated(database, [migrate.MESSAGING, MIGRATIONS])
    await store(database, [recorded])
    await database.close()


@pytest.fixture
def hostile(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of such a saga, in the database that the command looks at."""
    recorded = _history()
    asyncio.run(_prepare(database_url, recorded))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("AMQP_URL", "memory://")
    monkeypatch.setenv("AMENDS_SAGAS", "tests.contract.orchestrator.digging")
    return str(recorded.id)


@pytest.mark.parametrize(
    "command",
    [
        "show ID",
        "show ID --data --messages",
        "show ID --mermaid",
        "fork ID --at 1",
        "fork ID --at 1 --drop 2",
        "replay ID",
        "replay --all",
        "replay ID --interactive",
        "why ID",
        "list",
        "stats",
        "watch ID --until-ended",
        "preflight",
        "abandon ID --reason over --as bea --dry-run",
    ],
)
def test_no_command_obeys_what_a_stranger_wrote(hostile: str, command: str) -> None:
    """No control character comes through, and markup is shown as it was written."""
    arguments = command.replace("ID", hostile).split()
    told = CliRunner().invoke(app, arguments, input="n\nn\nn\nq\n", prog_name="amends")
    assert told.exit_code in (0, 1), told.output
    assert not isinstance(told.exception, Exception), told.exception
    assert [each for each in CONTROLS if each in told.output] == []
    assert SHOWN in told.stdout or command in ("preflight", "replay --all")


def test_a_dead_letter_is_shown_and_not_obeyed() -> None:
    """JSON lets some control characters stand as they are, and others come of its escapes."""
    body = f'{{"reason": "a\x9b2J\\u009b2J\\u007f{SHOWN}"}}'.encode()
    hostile = Letter(
        UUID(int=1), HOSTILE, HOSTILE, HOSTILE, f"{HOSTILE}\n{HOSTILE}", HOSTILE, HOSTILE, HOSTILE, "", HOSTILE,
        {"headers": HOSTILE}, len(body), 1, 1, NOON, NOON, State.OPEN, None, None, None, None, None, body,
    )  # fmt: skip
    told = StringIO()
    letter(hostile, None, Console(file=told, width=250))
    assert [each for each in f"{CONTROLS}\x7f" if each in told.getvalue()] == []
    assert f'"reason": "a\ufffd2J\ufffd2J\ufffd{SHOWN}"' in told.getvalue()


def test_complaints_quote_without_obeying(capsys: pytest.CaptureFixture[str]) -> None:
    """What a command could not use is quoted on stderr, line by line."""
    with pytest.raises(BaseException, match="1"):
        fail(f"nothing is called {HOSTILE}\nor so", 1)
    assert capsys.readouterr().err == (
        "amends: nothing is called no\ufffd[2J\ufffd\ufffd\ufffd\ufffd2J[bold]loud[/bold]\nor so\n"
    )


def test_a_text_of_several_lines_keeps_them() -> None:
    """Nothing else that moves a cursor is left, and rich takes none of it for markup."""
    assert safe_lines("one\r\n\t[b]two") == "one\ufffd\n\ufffd\\[b]two"
