"""Who acts, and what a command says when it is cut off between one instance and the next."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Sequence
from uuid import UUID

import pytest
import typer

from orchestrator.cli.carrying_out import Manner, Opened, finish
from orchestrator.cli.dead_letters import discard
from orchestrator.cli.opening import Output
from orchestrator.operations.action import Outcome, Result
from orchestrator.operations.choice import Chosen
from orchestrator.saga.inputs import PersonActed
from tests.unit.play import NOON, Action


class CutOff(Opened):
    """Acts on the first instance, and then the database is gone."""

    def __init__(self) -> None:
        """Opens nothing."""

    def act(
        self, given: Sequence[tuple[Chosen, PersonActed]], shown: Sequence[Outcome | None], found: list[Outcome]
    ) -> None:
        first = given[0][0]
        found.append(Outcome(first.id, first.name, 1, "A-1", Result.DONE, "stuck", "compensating", "dig", 5))
        raise SystemExit(69)


def test_what_was_done_before_the_database_went_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """It is done, and nobody else would say so."""
    given = [(Chosen(UUID(int=n), "work", 1), PersonActed(NOON, Action.RETRY, "bea", "why")) for n in (1, 2)]
    with pytest.raises(SystemExit) as ended:
        finish(CutOff(), given, [None, None], Output.JSON)
    assert ended.value.code == 69
    told = json.loads(capsys.readouterr().out)
    assert [(each["key"], each["result"]) for each in told] == [("A-1", "done")]


@pytest.mark.parametrize("missing", [KeyError("uid"), OSError("no name"), ImportError("pwd")])
@pytest.mark.parametrize("command", ["person", "letters"])
def test_a_login_without_a_name_is_told_to_give_one(
    command: str, missing: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever decides is kept in the history, so nobody decides namelessly; the same words for sagas and letters."""

    def nobody() -> str:
        raise missing

    monkeypatch.setattr(getpass, "getuser", nobody)
    manner = Manner(None, "why", dry_run=False, yes=True, output=Output.TABLE)
    act: dict[str, Callable[[], object]] = {
        "person": lambda: manner.person(Action.RETRY),
        "letters": lambda: discard(everything=True, reason="why", yes=True),
    }
    with pytest.raises(typer.Exit) as ended:
        act[command]()
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == "amends: your login has no name here; say who you are with --as NAME\n"
