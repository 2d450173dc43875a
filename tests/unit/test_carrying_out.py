"""Who acts, and what a command says when it is cut off between one instance and the next."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pytest
import typer

from orchestrator.cli.carrying_out import Manner, Opened, See, carry_out, finish
from orchestrator.cli.dead_letters import discard
from orchestrator.cli.opening import Output
from orchestrator.cli.telling import PAGE, Telling
from orchestrator.operations.action import Outcome, Result
from orchestrator.operations.choice import Chosen
from orchestrator.replay.recorded import RecordedTransition
from orchestrator.saga.inputs import PersonActed
from tests.unit.play import NOON, Action


class CutOff(Opened):
    """Acts on the first instance, and then the database is gone."""

    def __init__(self) -> None:
        """Opens nothing."""

    def act(
        self, given: Sequence[tuple[Chosen, PersonActed]], seen: Sequence[int | None], see: See, *, bar: bool
    ) -> None:
        first = given[0][0]
        see(Outcome(first.id, first.name, 1, "A-1", Result.DONE, "stuck", "compensating", "dig", 5))
        raise SystemExit(69)


def test_what_was_done_before_the_database_went_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """It is done, and nobody else would say so."""
    given = [(Chosen(UUID(int=n), "work", 1), PersonActed(NOON, Action.RETRY, "bea", "why")) for n in (1, 2)]
    with pytest.raises(SystemExit) as ended:
        finish(CutOff(), given, [None, None], Telling(Output.JSON))
    assert ended.value.code == 69
    told = json.loads(capsys.readouterr().out)
    assert [(each["key"], each["result"]) for each in told] == [("A-1", "done")]


class CutOffAtOnce(CutOff):
    """The database is gone before anything is done."""

    def act(
        self, given: Sequence[tuple[Chosen, PersonActed]], seen: Sequence[int | None], see: See, *, bar: bool
    ) -> None:
        raise SystemExit(69)


def test_where_nothing_was_done_an_empty_array_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever has ended the command, what is on stdout is JSON."""
    given = [(Chosen(UUID(int=1), "work", 1), PersonActed(NOON, Action.RETRY, "bea", "why"))]
    with pytest.raises(SystemExit):
        finish(CutOffAtOnce(), given, [None], Telling(Output.JSON))
    assert capsys.readouterr().out == "[]\n"


class Watched(Opened):
    """Looks, after each instance, at what has been printed until then."""

    def __init__(self, read: Callable[[], str]) -> None:
        """Opens nothing."""
        self._read = read
        self.printed = [""]

    def rehearse(self, given: Sequence[tuple[Chosen, PersonActed]], see: See, *, bar: bool) -> None:
        self._each(given, Result.POSSIBLE, see)

    def act(
        self, given: Sequence[tuple[Chosen, PersonActed]], seen: Sequence[int | None], see: See, *, bar: bool
    ) -> None:
        self._each(given, Result.DONE, see)

    def _each(self, given: Sequence[tuple[Chosen, PersonActed]], result: Result, see: See) -> None:
        for number, (each, _) in enumerate(given):
            see(Outcome(each.id, each.name, 1, f"A-{number:02}", result, "stuck", "compensating", "dig", 5))
            self.printed.append(self.printed[-1] + self._read())


def _told(capsys: pytest.CaptureFixture[str], output: Output, *, dry_run: bool = False) -> list[int]:
    """How many of 25 instances had been told when none, one, two, ... of them had been acted on."""
    opened = Watched(lambda: capsys.readouterr().out)
    action = PersonActed(NOON, Action.RETRY, "bea", "why")
    given = [(Chosen(UUID(int=n), "work", 1), action) for n in range(25)]
    with pytest.raises(typer.Exit):
        carry_out(opened, lambda _: given, Manner("bea", "why", dry_run, yes=True, output=output))
    told = [printed.count("A-") for printed in opened.printed]
    assert told[-1] + capsys.readouterr().out.count("A-") == 25
    return told


def test_each_action_is_in_the_json_before_the_next_begins(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is killed has told all that it has done."""
    assert _told(capsys, Output.JSON) == list(range(26))


def test_no_more_actions_than_a_screen_holds_are_kept_back_for_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A table of ten, another of ten, and the rest; what is only rehearsed is one table."""
    assert _told(capsys, Output.TABLE) == [*[0] * 10, *[10] * 10, *[20] * 6]
    assert _told(capsys, Output.TABLE, dry_run=True) == [0] * 26


class Patient(Opened):
    """Refuses every third, and does the others; each with a page of words, as a history has them."""

    def __init__(self) -> None:
        """Opens nothing."""
        self.most, self._before = 0, Counting.alive

    def rehearse(self, given: Sequence[tuple[Chosen, PersonActed]], see: See, *, bar: bool) -> None:
        self._each(given, Result.POSSIBLE, see)

    def act(
        self, given: Sequence[tuple[Chosen, PersonActed]], seen: Sequence[int | None], see: See, *, bar: bool
    ) -> None:
        assert len(seen) == len(given)
        self._each(given, Result.DONE, see)

    def _each(self, given: Sequence[tuple[Chosen, PersonActed]], good: Result, see: See) -> None:
        for number, (each, _) in enumerate(given):
            result = good if number % 3 else Result.REFUSED
            line = RecordedTransition(5, NOON, '{"kind":"deadline"}', "[]", "[]")
            counted = Counting(each.id, each.name, 1, f"A-{number}", result, "stuck", "x", "", 5, "no", (line,))
            see(counted)
            self.most = max(self.most, Counting.alive - self._before)


class Counting(Outcome):
    """Says how many of it there are."""

    alive = 0

    def __init__(self, *values: Any) -> None:
        super().__init__(*values)
        Counting.alive += 1

    def __del__(self) -> None:
        Counting.alive -= 1


@pytest.mark.parametrize("output", [Output.JSON, Output.TABLE])
@pytest.mark.parametrize("dry_run", [True, False])
def test_of_many_instances_a_page_is_kept_at_once(
    dry_run: bool, output: Output, capsys: pytest.CaptureFixture[str]
) -> None:
    """However many are stuck: the others are counted, and the first that were refused are named again."""
    number = 3 * PAGE
    opened, action = Patient(), PersonActed(NOON, Action.RETRY, "bea", "why")
    given = [(Chosen(UUID(int=n), "work", 1), action) for n in range(number)]
    with pytest.raises(typer.Exit) as ended:
        carry_out(opened, lambda _: given, Manner("bea", "why", dry_run, yes=True, output=output))
    assert ended.value.exit_code == 1
    assert opened.most < PAGE + 20
    printed = capsys.readouterr()
    if output is Output.JSON:
        told = json.loads(printed.out)
        assert [each["key"] for each in told] == [f"A-{n}" for n in range(number)]
        assert printed.out == json.dumps(told, indent=2) + "\n"
    else:
        assert printed.out.count("A-") == number
        good = "possible" if dry_run else "done"
        assert f"{number - number // 3} {good}, {number // 3} refused" in printed.err
    assert printed.err.count("refused: 0000") == 10


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
