"""`amends list` on terminals of every width: what is copied from it is whole, and no line is broken."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from rich.console import Console

from orchestrator.cli import pictures
from orchestrator.queries import Listed

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
KEY = "01a207e9-785f-73e8-bba0-f41537ca759a"


def _listed(number: int, status: str, step: str, reason: str = "", *, key: str = KEY) -> Listed:
    moved = NOON + timedelta(seconds=3)
    return Listed(UUID(int=number << 96), "fulfill_order", 1, key, status, step, reason, NOON, moved, None, 4)


FOUND = [
    _listed(1, "compensating", "authorize_payment"),
    _listed(2, "completed", ""),
    _listed(3, "stuck", "", "cancel_order was sent 10 times and never answered"),
]


def _printed(found: list[Listed], width: int) -> list[str]:
    out = io.StringIO()
    pictures.listing(found, {("fulfill_order", "stuck"): 1}, Console(file=out, width=width))
    lines = [line for line in out.getvalue().splitlines() if not line.startswith("no room for ")]
    assert lines[-1] == f"{len(found)} shown; in all: fulfill_order 1 stuck"
    return [line.rstrip() for line in lines[:-1]]


def test_sixty_columns_hold_ids_keys_and_statuses() -> None:
    """At 60 columns each instance is one line of id, key and status."""
    assert _printed(FOUND, 60) == [
        "id        key                                   status",
        f"00000001  {KEY}  compensating",
        f"00000002  {KEY}  completed",
        f"00000003  {KEY}  stuck",
    ]


@pytest.mark.parametrize(
    ("width", "said"),
    [
        (60, ["no room for took, moved, saga, step: see a wider terminal, or --output json"]),
        (80, ["no room for took, moved, saga: see a wider terminal, or --output json"]),
        (160, []),
    ],
)
def test_columns_that_are_left_out_are_named(width: int, said: list[str]) -> None:
    """Below the totals, with the way to see them; nothing where all are there."""
    out = io.StringIO()
    pictures.listing(FOUND, {("fulfill_order", "stuck"): 1}, Console(file=out, width=width))
    lines = out.getvalue().splitlines()
    assert lines[lines.index("3 shown; in all: fulfill_order 1 stuck") + 1 :] == said


def test_eighty_columns_have_room_for_the_beginning_of_the_step() -> None:
    """At 80 columns the step, or the reason, is there too, cut where the terminal ends."""
    assert _printed(FOUND, 80) == [
        "id        key                                   status        step",
        f"00000001  {KEY}  compensating  authorize_payment",
        f"00000002  {KEY}  completed",
        f"00000003  {KEY}  stuck         cancel_order was …",
    ]


@pytest.mark.parametrize("width", [40, 59, 60, 61, 79, 80, 100, 120, 121, 150, 200])
def test_at_any_width_ids_keys_and_statuses_are_whole(width: int) -> None:
    """Whatever the width, there is one line an instance, it begins with id, key and status, and only what is wider than
    the terminal by itself goes past its edge.
    """
    lines = _printed(FOUND, width)
    assert len(lines) == 4
    for line, each in zip(lines[1:], FOUND, strict=True):
        assert line.startswith(f"{str(each.id)[:8]}  {KEY}  {each.status}")
    assert max(map(len, lines)) <= max(width, 60)


def test_a_wide_terminal_shows_everything() -> None:
    """At 160 columns every column is there."""
    assert _printed(FOUND, 160)[0].split() == ["id", "key", "status", "took", "moved", "saga", "step"]


def test_a_long_key_pushes_the_other_columns_out() -> None:
    """A key of 70 characters is whole at 80 columns, and its line is not cut."""
    key = "order-" + "7" * 64
    assert _printed([_listed(1, "running", "confirm_order", key=key)], 80)[1] == f"00000001  {key}  running"
