"""Shapes as each database gets them, worked out once: their text, what makes parameters of rows, what reads the result.

A process has some dozens of shapes and sends them for ever. Whatever of it does not depend on the rows costs a lone
message as much as a full batch.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import zip_longest
from typing import Any

from messaging.shapes import Shape, for_one, result_processor

Read = Callable[[Sequence[Sequence[Any]]], list[Any]]
"""Makes named tuples of rows as the driver gives them; there is one at least."""


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


UNFORESEEN = "22012"
"""The SQLSTATE with which a statement fails of which a guard does not hold: it divides by zero."""


class Guard:
    """What must have come of a part, or the whole statement fails, and with it the transaction.

    So many `rows`; or, with `known`, any that are among these: the first parameter holds values of the column `known`,
    the second texts of the column `proven`. Equal to nothing but itself, as a part; see `exactly`.
    """

    __slots__ = ("known", "proven", "rows", "width")

    def __init__(self, rows: int = 0, known: str | None = None, proven: str | None = None) -> None:
        self.rows = rows
        self.known = known
        self.proven = proven
        self.width = 0 if known is None else 2
        """How many parameters it has."""

    def words(self, shape: Shape, cell: int, first: int) -> str:
        """The condition, where the part's result begins in this cell and its own parameters with this number."""
        if shape.counted:
            return f"c{cell} = {self.rows}"
        names = [name for name, _ in shape.returned]
        if self.known is None or self.proven is None:
            return f"c{cell} IS NULL" if self.rows == 0 else f"cardinality(c{cell}) = {self.rows}"
        known, proven = (f"c{cell + names.index(name)}" for name in (self.known, self.proven))
        either = f"one = ANY(${first}::bigint[]) OR other::text = ANY(${first + 1}::text[])"
        return f"({known} IS NULL OR (SELECT bool_and({either}) FROM unnest({known}, {proven}) AS each(one, other)))"


@lru_cache(maxsize=512)
def exactly(rows: int) -> Guard:
    """That so many rows have come of a part."""
    return Guard(rows)


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
def joined(parts: tuple[Part, ...], guards: tuple[Guard | None, ...] = ()) -> str:
    """One statement whose row has a cell for each part's count or an array for each of its columns.

    The cells are worked out from left to right, and so the parts in their order, those without a cell (a deletion of
    which nothing is asked) behind all others: everybody locks in the same order. With `guards`, one for each part, one
    more cell fails (`UNFORESEEN`) where one of them does not hold; their parameters follow those of the parts.
    """
    texts: list[str] = []
    cells: list[str] = []
    conditions: list[str] = []
    first = 1
    after = first + sum(part.shape.width for part in parts)
    for number, (part, guard) in enumerate(zip_longest(parts, guards)):
        shape = part.shape
        texts.append(f"w{number} AS ({shape.words('postgresql', first)})")
        wanted = ["count(*)"] if shape.counted else [f"array_agg({name})" for name, _ in shape.returned]
        if guard is not None:
            conditions.append(guard.words(shape, len(cells), after))
            after += guard.width
        cells.extend(f"(SELECT {each} FROM w{number})" for each in wanted)
        first += shape.width
    selected = ", ".join(cells or ["1"])
    if conditions:
        # In a table of its own, so that each cell is worked out once; OFFSET keeps the planner from taking it apart.
        named = ", ".join(f"{each} AS c{number}" for number, each in enumerate(cells))
        held = f"1 / CASE WHEN {' AND '.join(conditions)} THEN 1 ELSE 0 END"
        selected = f"*, {held} FROM (SELECT {named} OFFSET 0) AS cells"
    return f"WITH {', '.join(texts)} SELECT {selected}"


def _reader(shape: Shape, dialect: str) -> Read:
    # Its names are known only now.
    kind: Any = namedtuple("Row", [name for name, _ in shape.returned])  # type: ignore[misc]  # noqa: PYI024
    make: Callable[[Iterable[Any]], Any] = kind._make
    processes = [None if each is None else result_processor(each, dialect) for _, each in shape.returned]
    if not any(processes):
        return lambda rows: list(map(make, rows))

    def read(rows: Sequence[Sequence[Any]]) -> list[Any]:
        # Column by column: to ask for each cell what is to be done with it takes longer than to do it.
        columns = zip(*rows, strict=True)
        done = [
            column if process is None else map(process, column)
            for process, column in zip(processes, columns, strict=True)
        ]
        return list(map(make, zip(*done, strict=True)))

    return read
