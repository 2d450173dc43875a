"""Percentiles, the same wherever durations are told of."""

from __future__ import annotations

from collections.abc import Sequence


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The least of the values that at least so many percent (1 to 100) of them do not exceed: the nearest rank.

    So it is one that was really measured. The values, one at least, are in order.
    """
    # In whole numbers: 0.07 * 100 is more than 7.
    rank = (percent * len(ordered) + 99) // 100
    return ordered[rank - 1]
