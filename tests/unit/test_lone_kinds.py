"""Which messages that come alone are committed without a look."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from messaging.lone import AGAIN_AFTER, MOST_KINDS, Lone


def _of(kind: str | None) -> Any:
    return SimpleNamespace(delivery=None if kind is None else SimpleNamespace(type=kind))


def test_a_kind_that_met_another_process_is_looked_at_for_a_minute() -> None:
    """Until then, and no longer; other kinds go on as before."""
    lone = Lone()
    assert lone.may(_of("paid"), 100.0)
    lone.met(_of("paid"), 100.0)
    assert [lone.may(_of("paid"), now) for now in (100.0, 100.0 + AGAIN_AFTER - 0.1)] == [False, False]
    assert [lone.may(_of(kind), 101.0) for kind in ("placed", None)] == [True, True]
    assert lone.may(_of("paid"), 100.0 + AGAIN_AFTER)


def test_no_more_kinds_are_remembered_than_there_is_room_for() -> None:
    """What a message says it is may be anything: those before are forgotten, the newest is known."""
    lone = Lone()
    for number in range(MOST_KINDS + 1):
        lone.met(_of(f"kind{number}"), 1.0)
    assert [lone.may(_of(kind), 2.0) for kind in ("kind0", f"kind{MOST_KINDS}")] == [True, False]
