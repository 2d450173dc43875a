"""Many rows in one statement, whatever their number, on both databases; and many tables in one round trip.

removed = await bulk.delete(connection, table.c.id, ids)        # one statement

writes = Writes()                                               # several that do not depend on each other
inserted = writes.insert(table, ("id", "name"), records, ignore_conflicts=True, returning="id")
updated = writes.update(other, ("id",), ("name",), others)
await writes.run(connection)
inserted.values, updated.count
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import driver
from messaging.shapes import Delete, Insert, Record, Select, Shape, Update, among, for_one, pack, result_processor

__all__ = ["Outcome", "Record", "Writes", "alike", "among", "delete", "insert", "pack", "select", "update"]


async def insert(
    connection: AsyncConnection,
    table: Table,
    columns: Sequence[str],
    records: Sequence[Record],
    *,
    ignore_conflicts: bool = False,
    returning: str | None = None,
) -> list[Any]:
    """Insert all records; returns the column `returning` of those that went in, in no given order."""
    writes = Writes()
    outcome = writes.insert(table, columns, records, ignore_conflicts=ignore_conflicts, returning=returning)
    await writes.run(connection)
    return outcome.values


async def update(
    connection: AsyncConnection,
    table: Table,
    keys: Sequence[str],
    columns: Sequence[str],
    records: Sequence[Record],
    *,
    renamed: tuple[tuple[str, str], ...] = (),
) -> int:
    """Set `columns` of the rows that match each record's `keys`; returns how many rows that were.

    `renamed` are pairs (column, name in the record), for a column that is both matched and set.
    """
    writes = Writes()
    outcome = writes.update(table, keys, columns, records, renamed=renamed)
    await writes.run(connection)
    return outcome.count


async def delete(connection: AsyncConnection, column: Column[Any], values: Sequence[Any]) -> list[Any]:
    """Delete the rows whose `column` is one of `values`; returns the values that were there."""
    writes = Writes()
    outcome = writes.delete(column, values, returning=True)
    await writes.run(connection)
    return outcome.values


async def select(
    connection: AsyncConnection,
    columns: Sequence[Column[Any]],
    where: Column[Any],
    values: Sequence[Any],
    suffix: str = "",
    *,
    computed: tuple[tuple[str, str], ...] = (),
) -> list[Any]:
    """Rows, as named tuples, whose column `where` is one of `values`; `suffix` is what follows the WHERE.

    `computed` are further columns, each a name and its expression in SQL.
    """
    writes = Writes()
    outcome = writes.select(columns, where, values, suffix, computed=computed)
    await writes.run(connection)
    return outcome.rows


def alike(records: Sequence[Record], *groups: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of those groups in which each column has the same value in all records.

    In groups, because each choice of columns makes a statement of its own, which is written, prepared and kept.
    """
    return tuple(
        name for group in groups for name in group if all(len({each[one] for each in records}) == 1 for one in group)
    )


class Outcome:
    """What has come of one part of `Writes`; empty until that has run, and where there was nothing to do."""

    __slots__ = ("count", "rows")

    def __init__(self) -> None:
        self.rows: list[Any] = []
        """Named tuples of the columns returned."""
        self.count = 0
        """How many rows are in `rows`; of an update, how many it has changed."""

    @property
    def values(self) -> list[Any]:
        """The only column of `rows`."""
        return [row[0] for row in self.rows]


class Writes:
    """Statements that do not depend on each other, sent together.

    PostgreSQL gets them as one statement, in which each sees the tables as they were before all of them: no part sees
    what another has written, and no two may touch the same row (also not to delete it here and insert it there).
    SQLite gets one after another, in the order in which they were added: whatever looks comes before what writes.
    A part for no rows is left out.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[Shape, Sequence[Any], Outcome]] = []

    def insert(
        self,
        table: Table,
        columns: Sequence[str],
        records: Sequence[Record],
        *,
        ignore_conflicts: bool = False,
        returning: str | None = None,
        alike: tuple[str, ...] = (),
    ) -> Outcome:
        """As `bulk.insert`; `alike` are columns of which all records have the same value, which is then sent once."""
        return self._add(Insert(table, tuple(columns), ignore_conflicts, returning, alike), records)

    def update(
        self,
        table: Table,
        keys: Sequence[str],
        columns: Sequence[str],
        records: Sequence[Record],
        *,
        renamed: tuple[tuple[str, str], ...] = (),
        alike: tuple[str, ...] = (),
    ) -> Outcome:
        """As `bulk.update`; `alike` are keys and columns of which all records have the same value."""
        return self._add(Update(table, tuple(keys), tuple(columns), renamed, alike), records)

    def delete(self, column: Column[Any], values: Sequence[Any], *, returning: bool = False) -> Outcome:
        """As `bulk.delete`; says what was there only where it is asked to."""
        return self._add(Delete(column, returning), values)

    def select(
        self,
        columns: Sequence[Column[Any]],
        where: Column[Any],
        values: Sequence[Any],
        suffix: str = "",
        *,
        computed: tuple[tuple[str, str], ...] = (),
    ) -> Outcome:
        """As `bulk.select`."""
        return self._add(Select(tuple(columns), where, suffix, computed), values)

    def _add(self, shape: Shape, given: Sequence[Any]) -> Outcome:
        outcome = Outcome()
        if given:
            self._parts.append((shape, given, outcome))
        return outcome

    async def run(self, connection: AsyncConnection) -> None:
        """Do what was added since the last time; the outcomes then say what has come of it."""
        parts, self._parts = self._parts, []
        if connection.dialect.name == "sqlite":
            if parts:
                await _in_turn(connection, parts)
        elif parts:
            await _together(connection, parts)


async def _in_turn(connection: AsyncConnection, parts: Sequence[tuple[Shape, Sequence[Any], Outcome]]) -> None:
    statements = [(_lone(shape, "sqlite"), shape.bind(connection.dialect, given)) for shape, given, _ in parts]
    found = await driver.fetch_each(connection, statements)
    for (shape, _, outcome), rows in zip(parts, found, strict=True):
        _fill(outcome, shape, rows, "sqlite")
        outcome.count = len(rows)


async def _together(connection: AsyncConnection, parts: Sequence[tuple[Shape, Sequence[Any], Outcome]]) -> None:
    if all(len(given) == 1 for _, given, _ in parts):
        # What a lone message takes. Not part by part: each mixture would be a statement of its own, to be prepared.
        parts = [(for_one(shape), given, outcome) for shape, given, outcome in parts]
    parameters = [each for shape, given, _ in parts for each in shape.bind(connection.dialect, given)]
    if len(parts) == 1:
        ((shape, _, outcome),) = parts
        rows = await driver.fetch(connection, _lone(shape, "postgresql"), parameters)
        _fill(outcome, shape, rows, "postgresql")
        outcome.count = len(rows)
        return
    (row,) = await driver.fetch(connection, _joined(tuple(shape for shape, _, _ in parts)), parameters)
    cells = iter(row)
    for shape, _, outcome in parts:
        if shape.counted:
            outcome.count = next(cells)
        else:
            rows = list(zip(*[next(cells) or () for _ in shape.returned], strict=True))
            _fill(outcome, shape, rows, "postgresql")


def _fill(outcome: Outcome, shape: Shape, rows: Sequence[Sequence[Any]], dialect: str) -> None:
    if rows and shape.returned:
        read = _reader(shape, dialect)
        outcome.rows = [read(row) for row in rows]
        outcome.count = len(rows)


@lru_cache(maxsize=256)
def _lone(shape: Shape, dialect: str) -> str:
    return shape.words(dialect, 1)


@lru_cache(maxsize=256)
def _joined(shapes: tuple[Shape, ...]) -> str:
    """One statement whose row has a cell for each part's count or an array for each of its columns.

    The cells are worked out from left to right, and so the parts in their order: everybody locks in the same.
    """
    parts: list[str] = []
    cells: list[str] = []
    first = 1
    for number, shape in enumerate(shapes):
        parts.append(f"w{number} AS ({shape.words('postgresql', first)})")
        wanted = ["count(*)"] if shape.counted else [f"array_agg({name})" for name, _ in shape.returned]
        cells.extend(f"(SELECT {each} FROM w{number})" for each in wanted)
        first += shape.width
    return f"WITH {', '.join(parts)} SELECT {', '.join(cells or ['1'])}"


@lru_cache(maxsize=256)
def _reader(shape: Shape, dialect: str) -> Callable[[Sequence[Any]], Any]:
    """What makes a named tuple of a row as the driver gives it."""
    # Its names are known only now.
    kind: Any = namedtuple("Row", [name for name, _ in shape.returned])  # type: ignore[misc]  # noqa: PYI024
    make: Callable[[Iterable[Any]], Any] = kind._make
    processes = [None if each is None else result_processor(each, dialect) for _, each in shape.returned]
    if not any(processes):
        return make
    return lambda row: make(
        cell if process is None else process(cell) for process, cell in zip(processes, row, strict=True)
    )
