"""Figures and the live view where a terminal has little room: nothing is cut off that is to be read or copied."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from io import StringIO
from uuid import UUID

import pytest
from rich.console import Console

from orchestrator.catalog import Catalog
from orchestrator.cli import dashboard, statistics
from orchestrator.cli.fork_pictures import side_by_side
from orchestrator.cli.pictures import listing
from orchestrator.queries import Listed
from orchestrator.replay.edits import Drop
from orchestrator.replay.forking import fork
from orchestrator.statistics import Durations, SagaStatistics, StepStatistics
from orchestrator.watching import Pile, Rates, Snapshot
from tests.unit.recording import waiting

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _figures() -> SagaStatistics:
    took = Durations(38, 0.09, 0.64, 1.56)
    authorize = StepStatistics("authorize_payment", 40, 38, 5, {"card_declined": 5}, 7, 5, 6, took)
    place = StepStatistics("place_order", 0, 0, 0, {}, 0, 0, 11, Durations(0, None, None, None))
    return SagaStatistics(
        "fulfill_order",
        {"compensated": 11, "completed": 1},
        0.1,
        12,
        1,
        Durations(12, 0.33, 1.65, 4.99),
        (place, authorize),
    )


def _told(width: int) -> list[str]:
    seen = StringIO()
    statistics.picture([_figures()], Console(file=seen, width=width))
    return [line.rstrip() for line in seen.getvalue().splitlines()]


def test_figures_stand_in_columns_where_these_fit() -> None:
    """At eighty columns without the 95th percentile."""
    assert _told(80)[3:6] == [
        "step              sent answered refused timed out retried undone   p50   p99",
        "place_order          0        0       0         0       0     11     -     -",
        "authorize_payment   40       38       5         7       5      6 0.09s 1.56s",
    ]


def _drawn(width: int) -> list[str]:
    """A fork and a listing as a terminal shows them."""
    seen = StringIO()
    console = Console(file=seen, width=width, force_terminal=True, color_system=None)
    play = waiting()
    side_by_side(fork(play.recorded, Catalog([play.saga]), 1, [Drop(2)], silence=True), console)
    listing([], {("fulfill_order", "completed"): 8, ("fulfill_order", "compensated"): 3, ("trip", "stuck"): 1}, console)
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", seen.getvalue()).splitlines()]


@pytest.mark.parametrize("width", [40, 60])
def test_no_word_is_cut_at_the_edge(width: int) -> None:
    """Head, timelines, ends and totals break between words; no line is left to the terminal to break."""
    lines = _drawn(width)
    assert [line for line in lines if len(line) > width] == []
    told = " ".join(" ".join(lines).split())
    for words in (
        "work v1 22689877-840d-5d35-b039-b18a4835c9b0 key 7",
        "forked after transition 1 of 2; nothing is sent, the history stays as it is",
        "in the fork stuck: the compensation of stock was sent 10 times and never answered",
        "0 shown; in all: fulfill_order 3 compensated, 8 completed; trip 1 stuck",
    ):
        assert words in told


def test_figures_are_told_in_words_where_columns_do_not_fit() -> None:
    """At forty columns: what is zero is left out, and nothing is cut off."""
    assert _told(40) == [
        "fulfill_order  12 instances: 11",
        "compensated, 1 completed",
        "ended 360/h; from start to end p50",
        "0.33s, p95 1.65s, p99 4.99s",
        "",
        "place_order",
        "  11 compensated",
        "authorize_payment",
        "  40 sent, 38 answered, 5 refused, 7",
        "  timed out, 5 retried, 6 compensated,",
        "  p50 0.09s, p95 0.64s, p99 1.56s",
        "authorize_payment refused: 5",
        "card_declined",
        "1 history cannot be read; `amends",
        "replay` names them",
        "steps and durations from 11 of 12",
        "histories",
        "",
    ]


def _listed(number: int, status: str, step: str, reason: str = "") -> Listed:
    key, moment = f"00000000-0000-0000-0000-00000000000{number}", NOON - timedelta(seconds=90)
    identity = UUID(int=number << 96)
    return Listed(identity, "fulfill_order", 1, key, status, step, reason, NOON - timedelta(hours=1), moment, None, 3)


def test_the_live_view_in_a_narrow_terminal() -> None:
    """At forty columns: statuses in words, and of each instance its id, its age and what is the matter."""
    seen = Snapshot(
        NOON,
        {"fulfill_order": {"running": 1, "completed": 1234567, "stuck": 1}},
        0,
        (_listed(1, "running", "authorize_payment"),),
        (_listed(2, "stuck", "", "the compensation of authorize_payment was sent once and never answered"),),
        Pile(2, 61.0),
        Pile(0, None),
        Pile(0, None),
        Pile(1, None),
    )
    told = StringIO()
    Console(file=told, width=40).print(dashboard.screenful(seen, Rates(1.0, 2.0), "", 40))
    assert [line.rstrip() for line in told.getvalue().splitlines()[1:]] == [
        "1.0/s started, 2.0/s ended",
        "",
        "fulfill_order  1 running, 1234567",
        "completed, 1 stuck",
        "",
        "outbox 2, oldest 1m01s   deferred 0",
        "parked 0   dead letters 1   overdue 0",
        "",
        "waiting longest",
        "00000001   1m30s  at authorize_payment",
        "",
        "stuck: a person must decide",
        "00000002   1m30s  the compensation of",
        "                  authorize_payment was",
        "                  sent once and never",
        "                  answered",
    ]
