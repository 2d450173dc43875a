"""Figures as they are kept and handed on: plain numbers under names, in no library's form."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

OTHER = "other"
"""What names that are not known beforehand are counted under, so that nobody's names become time series."""

INSTANTS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds, in seconds, of what a batch or a publication takes."""
SPANS = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    900.0,
    3600.0,
    14400.0,
    86400.0,
)
"""Bounds, in seconds, of what a step or a saga takes."""
SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)
"""Bounds of how many messages a batch has."""


class Histogram:
    """How often something was at most so much; `counts` has one more than `bounds`, for what was more than all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float], counts: Iterable[int] | None = None, total: float = 0.0) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1) if counts is None else list(counts)
        self.total = total

    def observe(self, value: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


Labels = tuple[str, ...]
Value = float | Histogram


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its values by the values of its `labels`. A counter's name goes without its `_total`.

    `snapshot` is a histogram of what there is at the moment, which may shrink.
    """

    name: str
    help: str
    kind: Literal["counter", "gauge", "histogram", "snapshot"]
    labels: Labels = ()
    values: Mapping[Labels, float] | Mapping[Labels, Histogram] | Mapping[Labels, Value] = field(default_factory=dict)


class Meter(Protocol):
    """Keeps figures of this process."""

    def listen(self) -> None:
        """Somebody looks at the figures from now on: count also what costs something."""

    def families(self) -> Iterable[Family]:
        """The figures as they are now."""


class Look(Protocol):
    """Figures that lie in the database: at most MOST rows of a table are looked at, found by an index."""

    async def __call__(self, connection: AsyncConnection, now: datetime) -> Sequence[Family]: ...


MOST = 100_000
"""Rows counted, of a table and a status: a figure that says so many means as many or more."""


def folded(name: str, known: Collection[str]) -> str:
    """The name, where it is one of the known."""
    return name if name in known else OTHER
