"""Which of the measured values a percentile is."""

from __future__ import annotations

import pytest

from orchestrator.percentiles import percentile


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5.0], 50, 5.0),
        ([5.0], 99, 5.0),
        ([1.0, 2.0], 50, 1.0),
        ([1.0, 2.0, 3.0, 4.0], 50, 2.0),
        ([1.0, 2.0, 10.0], 50, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 99, 4.0),
        ([float(number) for number in range(1, 101)], 7, 7.0),
        ([float(number) for number in range(1, 101)], 95, 95.0),
        ([float(number) for number in range(1, 102)], 95, 96.0),
        ([float(number) for number in range(1, 201)], 99, 198.0),
        ([0.0, 10.0], 100, 10.0),
    ],
)
def test_a_percentile_is_a_value_that_was_measured(values: list[float], percent: int, expected: float) -> None:
    """The nearest rank: half of the values are at most the median."""
    assert percentile(values, percent) == expected
