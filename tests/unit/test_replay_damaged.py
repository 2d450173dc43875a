"""Replaying what no code has caused: rows, histories and texts that are not what the orchestrator wrote."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.replay.recorded import Recorded
from orchestrator.replay.replaying import Kind
from tests.unit.journey import journey
from tests.unit.replayed import completed, found


def _tampered(**changed: Any) -> Recorded:
    return replace(completed().recorded, **changed)


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"status": "compensated"}, "another status"),
        ({"data": '{"id":8,"log":[]}'}, "another data"),
        ({"reason": "because"}, "another reason"),
        ({"progress": '{"before":null,"reason_before":"","steps":{}}'}, "another progress"),
        ({"status": "stuck", "reason": "x"}, "another status, reason"),
        ({"progress": "nonsense"}, "another progress"),
        ({"deadline": completed().now}, "another deadline"),
    ],
)
def test_a_row_that_is_not_what_its_history_says_is_told(changed: dict[str, Any], names: str) -> None:
    """Somebody has changed the row by hand."""
    assert found(_tampered(**changed), journey()) == (
        0,
        Kind.HISTORY,
        f"the instance's row is not what its history folds to: {names}",
    )


def test_a_gap_in_the_history_is_told() -> None:
    """A transition is missing, at the end, in the middle or at the beginning, or is there twice."""
    lines = completed().lines
    assert found(_tampered(transitions=(*lines[:2], *lines[3:])), journey()) == (
        4,
        Kind.HISTORY,
        "the history has a gap: transition 3 is missing (after 2 comes 4)",
    )
    assert found(_tampered(transitions=tuple(lines[1:])), journey())[2] == (
        "the history has a gap: transition 1 is missing (the history begins with 2)"
    )
    assert found(_tampered(transitions=(*lines[:2], *lines[1:])), journey())[2] == (
        "the history has a gap: transition 2 is there twice (after 2 comes 2)"
    )
    assert found(_tampered(transitions=tuple(lines[:-1])), journey())[1] is Kind.HISTORY
    assert found(_tampered(transitions=()), journey())[1] is Kind.HISTORY


def test_an_edited_fact_is_the_recordings_fault_and_not_the_codes() -> None:
    """Its facts do not fold to the row any more."""
    lines = completed().lines
    edited = replace(lines[1], facts=lines[1].facts.replace("step_succeeded", "step_refused"))
    assert found(_tampered(transitions=(lines[0], edited, *lines[2:])), journey()) == (
        0,
        Kind.HISTORY,
        "the instance's row is not what its history folds to: another progress",
    )


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", '{"kind":"event"', '{"kind":"dream","at":"2026-03-01T12:00:00Z"}']
)
def test_an_input_that_is_not_ours_is_told(text: str) -> None:
    """Truncated, empty, or of an unknown kind: a finding, never a crash."""
    lines = completed().lines
    seq, kind, sentence = found(_tampered(transitions=(lines[0], replace(lines[1], input=text), *lines[2:])), journey())
    assert (seq, kind) == (2, Kind.HISTORY)
    assert sentence.startswith("transition 2 cannot be read: ")


@pytest.mark.parametrize("text", ["", "null", "{}", "[1]", '[{"step":"stock"}]', '[{"fact":"invented"}]'])
def test_facts_that_are_not_ours_are_told(text: str) -> None:
    """The same for what follows from an input."""
    lines = completed().lines
    seq, kind, sentence = found(_tampered(transitions=(lines[0], replace(lines[1], facts=text), *lines[2:])), journey())
    assert (seq, kind) == (2, Kind.HISTORY)
    assert sentence.startswith("transition 2 cannot be read: ")


def test_a_definition_that_is_not_loaded_is_told() -> None:
    """With the versions that are."""
    other = replace(completed().recorded, version=2)
    assert found(other, journey()) == (
        0,
        Kind.NOT_LOADED,
        "no definition of work v2 is loaded here, only v1; name the module that holds it in AMENDS_SAGAS",
    )


def test_an_event_that_no_longer_parses_is_told() -> None:
    """Its contract wants more than was sent then."""
    lines = completed().lines
    edited = replace(lines[0], input=lines[0].input.replace('"id":7', '"number":7'))
    assert found(_tampered(transitions=(edited, *lines[1:])), journey()) == (
        1,
        Kind.UNREADABLE,
        "cannot read a recorded event any more: work.begun v1: id: Field required",
    )
