"""Shapes as each database gets them, worked out once: their text, what makes parameters of rows, what reads the result.

A process has some dozens of shapes and sends them for ever. Whatever of it does not depend on the rows costs a lone
message as much as a full batch.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from typing import Any

from messaging.shapes import Shape, for_one, result_processor

Read = Callable[[Sequence[Any]], Any]
"""Makes a named tuple of a row as the driver gives it."""


class Part:
    """One shape on one database; equal to nothing but itself, so that to look for it takes nothing."""

    __slots__ = ("bind", "counted", "read", "shape", "width", "words")

    def __init__(self, shape: Shape, dialect: str) -> None:
        self.shape = shape
        self.words = shape.words(dialect, 1)
        """Its text where it is sent alone."""
        self.bind = shape.binder(dialect)
        self.counted = shape.counted
        self.width = len(shape.returned)
        """How many columns its result has."""
        self.read = _reader(shape, dialect) if shape.returned else None


class Plan:
    """A shape, and its parts, each worked out when it is first needed."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    @cached_property
    def sqlite(self) -> Part:
        """On SQLite."""
        return Part(self._shape, "sqlite")

    @cached_property
    def many(self) -> Part:
        """On PostgreSQL, for any number of rows."""
        return Part(self._shape, "postgresql")

    @cached_property
    def lone(self) -> Part:
        """On PostgreSQL, for one."""
        return Part(for_one(self._shape), "postgresql")


@lru_cache(maxsize=512)
def plan(kind: Callable[..., Shape], *given: object) -> Plan:
    """That of the shape of this kind, made with these."""
    return Plan(kind(*given))


@lru_cache(maxsize=512)
def joined(parts: tuple[Part, ...]) -> str:
    """One statement whose row has a cell for each part's count or an array for each of its columns.

    The cells are worked out from left to right, and so the parts in their order, those without a cell (a deletion of
    which nothing is asked) behind all others: everybody locks in the same order.
    """
    texts: list[str] = []
    cells: list[str] = []
    first = 1
    for number, part in enumerate(parts):
        shape = part.shape
        texts.append(f"w{number} AS ({shape.words('postgresql', first)})")
        wanted = ["count(*)"] if shape.counted else [f"array_agg({name})" for name, _ in shape.returned]
        cells.extend(f"(SELECT {each} FROM w{number})" for each in wanted)
        first += shape.width
    return f"WITH {', '.join(texts)} SELECT {', '.join(cells or ['1'])}"


def _reader(shape: Shape, dialect: str) -> Read:
    # Its names are known only now.
    kind: Any = namedtuple("Row", [name for name, _ in shape.returned])  # type: ignore[misc]  # noqa: PYI024
    make: Callable[[Iterable[Any]], Any] = kind._make
    processes = [None if each is None else result_processor(each, dialect) for _, each in shape.returned]
    if not any(processes):
        return make
    return lambda row: make(
        cell if process is None else process(cell) for process, cell in zip(processes, row, strict=True)
    )
