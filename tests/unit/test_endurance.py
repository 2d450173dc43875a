"""Growth of memory: the line that fits best, once what grows at first has grown."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from benchmarks.endurance import Report, slope
from benchmarks.record import Record

MB = 1_000_000


def _samples(sizes: list[float]) -> list[tuple[int, Mapping[str, int]]]:
    names = ("orchestrator", "order", "payment")
    return [((at + 1) * 1000, {name: int(size * MB) for name in names}) for at, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        # The first quarter does not count, however steep it is.
        ([50, 90, 100, 100, 100, 100, 100, 100], 0.0),
        # A megabyte in a thousand sagas is a thousand bytes a saga.
        ([10, 20, 101, 102, 103, 104, 105, 106], 1000.0),
        # Up and down round a level: between the two.
        ([10, 20, 100, 102, 100, 102, 100, 102], 2000 * 6 / 70),
    ],
)
def test_growth_is_the_line_that_fits_best_after_the_first_quarter(sizes: list[float], expected: float) -> None:
    """In bytes a saga."""
    assert slope(_samples(sizes), "order") == pytest.approx(expected)


def test_the_process_that_grows_most_counts() -> None:
    """The goal's figure is of the worst process, in megabytes for 100,000 sagas."""
    report = Report(Record("endurance", {}))
    growing = _samples([10, 20, 101, 102, 103, 104, 105, 106])
    report.samples = [(done, {**sizes, "order": 90 * MB, "payment": 80 * MB}) for done, sizes in growing]
    reached = report.reached()
    assert reached["rss_slope"].value == pytest.approx(100.0)
    assert reached["rss_slope"].ours == "orchestrator"
    assert reached["rss"].value == 106
