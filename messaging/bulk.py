"""Many rows in one statement, whatever their number, on both databases; and many tables in one round trip.

removed = await bulk.delete(connection, table.c.id, ids)        # one statement

writes = Writes()                                               # several that do not depend on each other
inserted = writes.insert(table, ("id", "name"), records, ignore_conflicts=True, returning="id")
updated = writes.update(other, ("id",), ("name",), others)
await writes.run(connection)
inserted.values, updated.count
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import driver, driver_sqlite
from messaging.database import Unforeseen
from messaging.driver import Ahead
from messaging.plans import UNFORESEEN, UNFORESEEN_WORDS, Guard, Part, Plan, joined, plan
from messaging.shapes import Delete, Insert, Record, Select, Shape, Update, among, pack

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
    if not records:
        return []
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
    if not records:
        return 0
    writes = Writes()
    outcome = writes.update(table, keys, columns, records, renamed=renamed)
    await writes.run(connection)
    return outcome.count


async def delete(connection: AsyncConnection, column: Column[Any], values: Sequence[Any]) -> list[Any]:
    """Delete the rows whose `column` is one of `values`; returns the values that were there."""
    if not values:
        return []
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
    if not values:
        return []
    writes = Writes()
    outcome = writes.select(columns, where, values, suffix, computed=computed)
    await writes.run(connection)
    return outcome.rows


def alike(records: Sequence[Record], *groups: tuple[str, ...], order: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns of those groups in which each column has the same value in all records; `order` is that of tuples.

    In groups, because each choice of columns makes a statement of its own, which is written, prepared and kept.
    """
    if len(records) == 1:
        return tuple(chain(*groups))
    if not records:  # of several kinds a lone message has none
        return ()
    in_order = type(records[0]) is tuple
    places: dict[Any, Any] = {name: place for place, name in enumerate(order)} if in_order else {}
    return tuple(
        chain(*(group for group in groups if all(_is_alike(records, places.get(name, name)) for name in group)))
    )


def _is_alike(records: Sequence[Any], place: Any) -> bool:
    return len({each[place] for each in records}) == 1


class Outcome:
    """What has come of one part of `Writes`; empty until that has run, and where there was nothing to do."""

    __slots__ = ("count", "guard", "known", "rows", "waits")

    def __init__(self) -> None:
        self.guard: Guard | None = None
        """What must come of it in a last statement of a transaction; see `Writes.run_last`."""
        self.known: tuple[str, str] | None = None
        """The parameters of a guard that has some."""
        self.waits = False
        """Whether it is still to be done."""
        self.rows: list[Any] = []
        """Named tuples of the columns returned."""
        self.count = 0
        """How many rows are in `rows`; of an update, how many it has changed, and of an insert that is `counted`, how
        many went in."""

    @property
    def values(self) -> list[Any]:
        """The only column of `rows`."""
        return [row[0] for row in self.rows]


FEW = 2
"""Rows of a kind that one message takes, at the most: two entries in a journal, the rows of two confirmed messages."""
Given = tuple[Plan, Sequence[Any], Outcome]
"""A part of `Writes`: how it is sent, its records or values, what will have come of it."""


class Writes:
    """Statements that do not depend on each other, sent together.

    PostgreSQL gets them as one statement, in which each sees the tables as they were before all of them: no part sees
    what another has written, and no two may touch the same row (also not to delete it here and insert it there).
    SQLite gets one after another, in the order in which they were added: whatever looks comes before what writes.
    A part for no rows is left out.
    """

    def __init__(self) -> None:
        self._given: list[Given] = []

    def insert(
        self,
        table: Table,
        columns: Sequence[str],
        records: Sequence[Record],
        *,
        ignore_conflicts: bool = False,
        returning: str | None = None,
        alike: tuple[str, ...] = (),
        counted: bool = False,
    ) -> Outcome:
        """As `bulk.insert`; `alike` are columns of which all records have the same value, which is then sent once.

        `counted`: of what went in only the number is wanted.
        """
        return self._add(records, Insert, table, tuple(columns), ignore_conflicts, returning, alike, counted)

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
        return self._add(records, Update, table, tuple(keys), tuple(columns), renamed, alike)

    def delete(self, column: Column[Any], values: Sequence[Any], *, returning: bool = False) -> Outcome:
        """As `bulk.delete`; says what was there only where it is asked to."""
        return self._add(values, Delete, column, returning)

    def select(
        self,
        columns: Sequence[Column[Any]],
        where: Column[Any],
        values: Sequence[Any],
        suffix: str = "",
        *,
        computed: tuple[tuple[str, str], ...] = (),
        by: tuple[Column[Any], str] | None = None,
    ) -> Outcome:
        """As `bulk.select`; with `by`, `where` is a column of another table, and rows are found by way of it."""
        return self._add(values, Select, tuple(columns), where, suffix, computed, by)

    def add(self, planned: Plan, rows: Sequence[Any]) -> Outcome:
        """A part that somebody has planned once and for all: to look for a plan by its columns takes longer than that.

        `rows` are records, or values of the column that a `Select` or a `Delete` goes by.
        """
        outcome = Outcome()
        if rows:
            outcome.waits = True
            self._given.append((planned, rows, outcome))
        return outcome

    def _add(self, rows: Sequence[Any], kind: Callable[..., Shape], *shape: object) -> Outcome:
        return self.add(plan(kind, *shape), rows) if rows else Outcome()

    def join(self, others: Writes) -> None:
        """Do with these what was added to those."""
        self._given.extend(others._given)

    async def run(self, connection: AsyncConnection, *, ahead: Ahead | None = None) -> None:
        """Do what was added since the last time; the outcomes then say what has come of it.

        On PostgreSQL all of it sees the tables as they are when `ahead` has been done.
        """
        if not self._given:
            return
        given = self._taken()
        if driver.dialect(connection) == "sqlite":
            await _in_turn(connection, given)
        else:
            await _together(connection, given, ahead=ahead)

    def _taken(self) -> list[Given]:
        given, self._given = self._given, []
        for _, _, outcome in given:
            outcome.waits = False
        return given

    async def run_last(self, connection: AsyncConnection) -> None:
        """The same on PostgreSQL for the last time before the commit, which goes along with it where it can.

        Nothing can be looked at in between. So what must come of it is looked at by the database, as far as outcomes
        have a guard; raises Unforeseen where that does not hold, and the transaction has to be undone.
        """
        if not self._given:
            return
        given = self._taken()
        try:
            await _together(connection, given, last=True)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == UNFORESEEN and UNFORESEEN_WORDS in str(error.orig):
                raise Unforeseen("what a lone message has written met something else") from error
            raise


async def _in_turn(connection: AsyncConnection, given: Sequence[Given]) -> None:
    statements = [(each.sqlite.words, each.sqlite.bind(rows)) for each, rows, _ in given]
    found = await driver_sqlite.fetch_each(connection, statements)
    for (each, _, outcome), rows in zip(given, found, strict=True):
        _fill(outcome, each.sqlite, rows)
        outcome.count = len(rows)


async def _together(
    connection: AsyncConnection, given: Sequence[Given], *, last: bool = False, ahead: Ahead | None = None
) -> None:
    # What a lone message takes is mostly one row of each kind. Not so in larger batches: each mixture is a statement of
    # its own, to be prepared and kept.
    few = max([len(rows) for _, rows, _ in given]) <= FEW
    parts = tuple([each.lone if few and len(rows) == 1 else each.many for each, rows, _ in given])
    parameters: list[Any] = []
    for part, (_, rows, _) in zip(parts, given, strict=True):
        parameters += part.bind(rows)
    guards = tuple([outcome.guard for _, _, outcome in given]) if last else ()
    if len(parts) == 1 and not last:
        found = await _fetch(connection, parts[0].words, parameters, ahead)
        _fill(given[0][2], parts[0], found)
        given[0][2].count = len(found)
        return
    for _, _, outcome in given if last else ():
        parameters += outcome.known or ()
    if last:
        (row,) = await driver.fetch(connection, joined(parts, guards), parameters, last=True)
    else:
        (row,) = await _fetch(connection, joined(parts), parameters, ahead)
    at = 0
    for part, (_, _, outcome) in zip(parts, given, strict=True):
        if part.counted:
            outcome.count = row[at] or 0
            at += 1
        elif part.width:
            cells = row[at : at + part.width]
            at += part.width
            if cells[0] is not None:  # which is what no row at all makes of a cell
                _fill(outcome, part, (cells,) if part.single else list(zip(*cells, strict=True)))


async def _fetch(
    connection: AsyncConnection, words: str, parameters: Sequence[Any], ahead: Ahead | None
) -> Sequence[Sequence[Any]]:
    if ahead is None:
        return await driver.fetch(connection, words, parameters)
    return await driver.fetch_behind(connection, ahead, words, parameters)


def _fill(outcome: Outcome, part: Part, rows: Sequence[Sequence[Any]]) -> None:
    if rows and part.read is not None:
        outcome.rows = part.read(rows)
        outcome.count = len(rows)
