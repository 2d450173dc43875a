"""Where two values differ: pure."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from contracts.money import Money
from contracts.payment import CapturePayment
from orchestrator.changed import MISSING, Changed, changes

ORDER = UUID(int=7)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (1, 1, []),
        (1, 2, [Changed("", 1, 2)]),
        ({"a": 1}, {"a": True}, [Changed("a", 1, True)]),
        ({"a": 5}, {"a": 5.0}, [Changed("a", 5, 5.0)]),
        ({"a": 1}, {"b": 1}, [Changed("a", 1, MISSING), Changed("b", MISSING, 1)]),
        ({"a": None}, {}, [Changed("a", None, MISSING)]),
        ({"a": {"b": 1, "c": [1]}}, {"a": {"b": 2, "c": [1]}}, [Changed("a.b", 1, 2)]),
        ({}, {"a": {"b": 1}}, [Changed("a", MISSING, {"b": 1})]),
        ({"a": [1, 2]}, {"a": [1]}, [Changed("a", [1, 2], [1])]),
        ([[1], {"b": 1}], [[2], {"b": 2}], [Changed("[0][0]", 1, 2), Changed("[1].b", 1, 2)]),
        ({"a": {"b": 1}}, {"a": [1]}, [Changed("a", {"b": 1}, [1])]),
    ],
)
def test_each_place_where_two_values_differ_is_told_once_by_its_path(
    before: Any, after: Any, expected: list[Changed]
) -> None:
    """Down to the deepest that both have; what only one of them has is told whole."""
    assert list(changes(before, after)) == expected


def test_a_longer_list_is_told_by_its_elements_where_that_is_asked_for() -> None:
    """Those that came and those that went, wherever the list lies."""
    before, after = {"a": [1, 2], "b": {"c": []}}, {"a": [3], "b": {"c": [4]}}
    assert list(changes(before, after, by_element=True)) == [
        Changed("a[0]", 1, 3),
        Changed("a[1]", 2, MISSING),
        Changed("b.c[0]", MISSING, 4),
    ]


def test_two_messages_differ_in_their_fields() -> None:
    """Those of a model in them too."""
    before = CapturePayment(order_id=ORDER, amount=Money(amount=100, currency="USD"))
    after = CapturePayment(order_id=ORDER, amount=Money(amount=120, currency="USD"))
    assert list(changes(before, after)) == [Changed("amount.amount", 100, 120)]
