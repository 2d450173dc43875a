"""What `amends dead-letters` says while it acts on many: nothing it has committed is unknown for long."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from orchestrator.cli.letter_pictures import Telling
from orchestrator.cli.opening import Output
from orchestrator.letter_decisions import Outcome


def _page(number: int, problem: str | None = None) -> list[Outcome]:
    return [Outcome(UUID(int=n), "payment", "payment.void", problem=problem) for n in range(number)]


@pytest.mark.parametrize("output", [Output.TABLE, Output.JSON])
def test_each_page_is_told_once_it_is_committed(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    """First on stderr: standard output may end with its reader. Then each letter, as far as a screen holds them."""
    telling = Telling(output, "discarded", dry_run=False)
    telling.add(_page(100))
    first = capsys.readouterr()
    telling.add(_page(3, "nobody reads it"))
    second = capsys.readouterr()
    telling.close()
    rest = capsys.readouterr().out
    assert (first.err, second.err) == ("discarded so far: 100\n", "discarded so far: 100; not sent again: 3\n")
    if output is Output.JSON:
        told = json.loads(first.out + second.out + rest)
        assert (first.out.count('"letter"'), len(told)) == (100, 103)
    else:
        assert first.out.count("discarded 0000") == 20
        assert rest == "and 80 more\n"


def test_a_few_need_no_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """They are named, one a line; and what is only rehearsed is not lost where it is cut off."""
    few, rehearsed = Telling(Output.TABLE, "discarded", dry_run=False), Telling(Output.JSON, "discarded", dry_run=True)
    few.add(_page(20))
    rehearsed.add(_page(100))
    assert not capsys.readouterr().err
