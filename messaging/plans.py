"""Shapes as each database gets them, worked out once: their text, what makes parameters of rows, what reads the result.

A process has some dozens of shapes and sends them for ever. Whatever of it does not depend on the rows costs a lone
message as much as a full batch.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache, partial
from itertools import zip_longest
from typing import Any

from messaging.driver_values import result_processor
from messaging.shapes import Shape, for_one

Read = Callable[[Sequence[Sequence[Any]]], list[Any]]
"""Makes named tuples of rows as the driver gives them; there is one at least."""


class Part:
    """One shape on one database; equal to nothing but itself, so that to look for it takes nothing."""

    __slots__ = ("bind", "counted", "read", "shape", "single", "width", "words")

    def __init__(self, shape: Shape, dialect: str) -> None:
        self.shape = shape
        self.words = shape.words(dialect, 1)
        """Its text where it is sent alone."""
        self.bind = shape.binder(dialect)
        self.counted = shape.counted
        self.single = shape.single
        """Whether there is one row at the most, whose values are its cells: NULL, where there is none. Otherwise these
        are an array for each of its columns. What is counted has one cell in either case: how many there are, or NULL
        for none."""
        self.width = len(shape.returned)
        """How many columns its result has."""
        self.read = _reader(shape, dialect) if shape.returned else None

    def cells(self) -> list[str]:
        """What is selected of it where it is sent with others."""
        if self.counted:
            return ["1" if self.single else "count(*)"]
        names = [name for name, _ in self.shape.returned]
        return names if self.single else [f"array_agg({name})" for name in names]


UNFORESEEN = "22P02"
"""The SQLSTATE with which a statement fails of which a guard does not hold: it takes a text for a number."""
UNFORESEEN_WORDS = "amends: no fault, undone to be done again with a look at what another process has written"
"""That text. PostgreSQL quotes it in its error, and in its log, where somebody will want to know what it means."""


def array_text(values: Iterable[int] | Iterable[str]) -> str:
    """An array as PostgreSQL reads it.

    Its driver asks of each array, and of each element, whether it is a container: as texts a lone message's two take
    a third less, 7 us where they are warm and 20 where they are not.
    """
    quoted = ['"' + str(each).replace("\\", "\\\\").replace('"', '\\"') + '"' for each in values]
    return f"{{{','.join(quoted)}}}"


class Guard:
    """What must have come of a part, or the whole statement fails, and with it the transaction.

    So many `rows`; or, with `known`, any that are among these: the first parameter holds values of the column `known`,
    the second texts of the column `proven`, both as `array_text` writes them. Equal to nothing but itself, as a part;
    see `exactly`.
    """

    __slots__ = ("known", "proven", "rows", "width")

    def __init__(self, rows: int = 0, known: str | None = None, proven: str | None = None) -> None:
        self.rows = rows
        self.known = known
        self.proven = proven
        self.width = 0 if known is None else 2
        """How many parameters it has."""

    def among(self, first: int) -> str | None:
        """Of one of the part's rows whether it is known, where its own parameters begin with this number."""
        if self.known is None or self.proven is None:
            return None
        known, proven = f"${first}::text::bigint[]", f"${first + 1}::text::text[]"
        return f"{self.known} = ANY({known}) OR {self.proven}::text = ANY({proven})"

    def words(self, part: Part, cell: str, known: str) -> str:
        """The condition, where this is the part's first cell, and that tells whether its rows are known."""
        if self.known is not None:
            return f"{known} IS NOT FALSE"
        if part.single:
            return f"num_nonnulls({cell}) = {self.rows}"
        if part.counted:
            return f"{cell} = {self.rows}"
        return f"{cell} IS NULL" if self.rows == 0 else f"cardinality({cell}) = {self.rows}"


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
    """One statement whose row has the cells of all parts; see `Part.single`.

    What locks or writes, and has a cell, is done in the order of the parts, what has none (a deletion of which nothing
    is asked) behind all others: everybody locks in the same order. With `guards`, one for each part, one more cell
    fails (`UNFORESEEN`) where one of them does not hold; their parameters follow those of the parts.
    """
    texts: list[str] = []
    cells: list[str] = []
    sources: list[str] = []
    conditions: list[str] = []
    first = 1
    after = first + sum(part.shape.width for part in parts)
    before = ""
    for number, (part, guard) in enumerate(zip_longest(parts, guards)):
        texts.append(f"w{number} AS ({part.shape.words('postgresql', first)})")
        first += part.shape.width
        wanted = part.cells()
        if not wanted:
            if guard is not None:
                raise ValueError("what has no result cannot be looked at")
            continue
        own = [f"c{cell}" for cell in range(len(cells), len(cells) + len(wanted))]
        picked = [f"{each} AS {name}" for each, name in zip(wanted, own, strict=True)]
        if guard is not None:
            among = guard.among(after)
            after += guard.width
            if among is not None:
                picked.append(f"{among if part.single else f'bool_and({among})'} AS g{number}")
            conditions.append(guard.words(part, own[0], f"g{number}"))
        # A join may be done in any order, but for what needs something of another one's.
        behind = f" WHERE num_nulls({before}) >= 0" if before and part.shape.acts else ""
        sources.append(f" LEFT JOIN LATERAL (SELECT {', '.join(picked)} FROM w{number}{behind}) AS r{number} ON true")
        if part.shape.acts:
            before = f"r{number}.{own[0]}"
        cells.extend(own)
    if conditions:
        held = f"CASE WHEN {' AND '.join(conditions)} THEN '1' ELSE '{UNFORESEEN_WORDS}' END"
        cells.append(f"CAST({held} AS integer)")
    source = f" FROM (SELECT 1) AS one{''.join(sources)}" if sources else ""
    return f"WITH {', '.join(texts)} SELECT {', '.join(cells or ['1'])}{source}"


def _reader(shape: Shape, dialect: str) -> Read:
    # Its names are known only now.
    kind: Any = namedtuple("Row", [name for name, _ in shape.returned])  # type: ignore[misc]  # noqa: PYI024
    # As its `_make`, which is a function of Python's and compares two numbers that are known to be the same.
    make: Callable[[Iterable[Any]], Any] = partial(tuple.__new__, kind)
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
