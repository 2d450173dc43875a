"""Statements for any number of rows: their text depends on the table and the columns alone.

PostgreSQL gets one array a column (`unnest`), SQLite one JSON text (`json_each`); so a statement is written and
prepared once, however many rows it is for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Column, FromClause, Table
from sqlalchemy.engine import Dialect

from contracts.value import value
from messaging.driver_values import Process, dialect_of, pg_type, processor

Record = Mapping[str, Any] | tuple[Any, ...]
"""A row by its names; or its values, in the order in which the names are given where it is written. All rows of one
statement are of one kind. Of tuples there are as many as messages: they take a quarter of what mappings take.
"""
_LOCK = re.compile(r" ?FOR (UPDATE|SHARE)( SKIP LOCKED)?")


Columns = tuple[tuple[str, Column[Any] | None], ...]
"""Columns of a result: each a name, and the table's column where it is one."""
Fields = tuple[tuple[str, int, Process], ...]
"""What is taken of a record, and how."""
Binder = Callable[[Sequence[Any]], list[Any]]
"""Makes the parameters of a statement of records, or of the values of a column."""


@value
class Insert:
    """Insert records; `alike` are columns of which all have one value.

    `returning` is a column of those that went in; `counted` says how many those are.
    """

    table: Table
    columns: tuple[str, ...]
    ignore_conflicts: bool = False
    returning: str | None = None
    alike: tuple[str, ...] = ()
    counted: bool = False

    acts = True

    @property
    def single(self) -> bool:
        return len(self.alike) == len(self.columns)

    @property
    def returned(self) -> Columns:
        return () if self.returning is None else ((self.returning, self.table.c[self.returning]),)

    @property
    def width(self) -> int:
        return len(self.columns)

    def words(self, dialect: str, first: int) -> str:
        names = ", ".join(self.columns)
        conflict = " ON CONFLICT DO NOTHING" if self.ignore_conflicts else ""
        wanted = self.returning or ("1" if self.counted else None)
        tail = f"{conflict} RETURNING {wanted}" if wanted else conflict
        given = _Given(self.table, _same(self.columns), self.alike, dialect, first)
        # SQLite needs the WHERE to tell an upsert's ON from a join's.
        where = " WHERE true" if dialect == "sqlite" else ""
        picked = ", ".join(given.value(name) for name in self.columns)
        return f"INSERT INTO {self.table.name} ({names}) SELECT {picked}{given.source}{where}{tail}"

    def binder(self, dialect: str) -> Binder:
        return _binder(dialect, self.table, _same(self.columns), self.alike)


@value
class Update:
    """Set `columns` of the rows that match each record's `keys`; `renamed` are pairs (column, name in the record).

    `alike` are names of one value in all records.
    """

    table: Table
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...] = ()
    alike: tuple[str, ...] = ()

    acts = True

    @property
    def single(self) -> bool:
        names = (*self.keys, *self.columns, *(name for _, name in self.renamed))
        return set(names) == set(self.alike) and _identified(self.table, self.keys)

    @property
    def returned(self) -> Columns:
        return ()

    @property
    def counted(self) -> bool:
        return True

    @property
    def width(self) -> int:
        return len(self.keys) + len(self.columns) + len(self.renamed)

    def words(self, dialect: str, first: int) -> str:
        changed = _same(self.columns) + self.renamed
        given = _Given(self.table, _same(self.keys) + changed, self.alike, dialect, first)
        changes = ", ".join(f"{column} = {given.value(name)}" for column, name in changed)
        match = " AND ".join(f"{self.table.name}.{name} = {given.value(name)}" for name in self.keys)
        return f"UPDATE {self.table.name} SET {changes}{given.source} WHERE {match}{given.bound} RETURNING 1"

    def binder(self, dialect: str) -> Binder:
        return _binder(dialect, self.table, _same(self.keys) + _same(self.columns) + self.renamed, self.alike)


@value
class Delete:
    """Delete the rows whose `column` is one of some values; `returning` says which of these there were.

    `lone`: on PostgreSQL there is one value, and it is sent as it is.
    """

    column: Column[Any]
    returning: bool = True
    lone: bool = False

    acts = True

    @property
    def single(self) -> bool:
        return self.lone and _identified(self.column.table, (self.column.name,))

    @property
    def returned(self) -> Columns:
        return ((self.column.name, self.column),) if self.returning else ()

    @property
    def counted(self) -> bool:
        return False

    @property
    def width(self) -> int:
        return 1

    def words(self, dialect: str, first: int) -> str:
        matching = _matching(dialect, self.column, first, lone=self.lone)
        tail = f" RETURNING {self.column.name}" if self.returning else ""
        return f"DELETE FROM {self.column.table.name} WHERE {matching}{tail}"

    def binder(self, dialect: str) -> Binder:
        return _packer(dialect, self.column, lone=self.lone)


@value
class Select:
    """Rows whose column `where` is one of some values; `suffix` is what follows the WHERE.

    `computed` are further columns, each a name and its expression in SQL. With `by`, `where` is a column of another
    table: the rows are those whose column, the first of the two, is what the expression, the second, is in rows of that
    table. `lone` as with `Delete`.
    """

    columns: tuple[Column[Any], ...]
    where: Column[Any]
    suffix: str = ""
    computed: tuple[tuple[str, str], ...] = ()
    by: tuple[Column[Any], str] | None = None
    lone: bool = False

    @property
    def acts(self) -> bool:
        return _LOCK.search(self.suffix) is not None

    @property
    def single(self) -> bool:
        found = self.lone and self.by is None and _identified(self.where.table, (self.where.name,))
        return found and bool(self.columns) and not self.columns[0].nullable

    @property
    def returned(self) -> Columns:
        return (*((each.name, each) for each in self.columns), *((name, None) for name, _ in self.computed))

    @property
    def counted(self) -> bool:
        return False

    @property
    def width(self) -> int:
        return 1

    def words(self, dialect: str, first: int) -> str:
        wanted = (*(each.name for each in self.columns), *(f"{words} AS {name}" for name, words in self.computed))
        suffix = _LOCK.sub("", self.suffix) if dialect == "sqlite" else self.suffix
        table, matching = self.where.table.name, _matching(dialect, self.where, first, lone=self.lone)
        if self.by is not None:
            column, expression = self.by
            matching = f"{column.name} IN (SELECT {expression} FROM {table} WHERE {matching})"
            table = column.table.name
        return f"SELECT {', '.join(wanted)} FROM {table} WHERE {matching} {suffix}".rstrip()

    def binder(self, dialect: str) -> Binder:
        return _packer(dialect, self.where, lone=self.lone)


Shape = Insert | Update | Delete | Select
"""One statement, without its rows.

`returned` are the columns of its result; `counted` says that its result is how many rows it has changed; `single`, that
these are one row at the most, whose first column is not NULL; `acts`, that it writes or locks. `width` is how many
parameters PostgreSQL gets, `words` its text where `first` is the number of its first parameter, `binder` makes what
makes its parameters of records or values.
"""


def _identified(table: FromClause, names: Sequence[str]) -> bool:
    """Whether at most one row of the table has certain values in these columns."""
    key = {each.name for each in table.primary_key}
    return bool(key) and key <= set(names)


def for_one(shape: Shape) -> Shape:
    """The same for one record or value: each parameter is sent as it is, and none as an array of one."""
    match shape:
        case Insert():
            how = shape.ignore_conflicts, shape.returning
            return Insert(shape.table, shape.columns, *how, shape.columns, shape.counted)
        case Update():
            names = (*shape.keys, *shape.columns, *(name for _, name in shape.renamed))
            return Update(shape.table, shape.keys, shape.columns, shape.renamed, names)
        case Delete():
            return Delete(shape.column, shape.returning, lone=True)
        case Select():
            return Select(shape.columns, shape.where, shape.suffix, shape.computed, shape.by, lone=True)


def among(dialect: str, column: Column[Any], name: str = "values") -> str:
    """The condition that `column` is one of what `pack` packed into the parameter `name`, for SQLAlchemy's `text`."""
    return _among(dialect, column, f":{name}" if dialect == "sqlite" else f"CAST(:{name} AS {pg_type(column)}[])")


def pack(dialect: Dialect, column: Column[Any], values: Sequence[Any]) -> Any:
    """Values as the one parameter that `among` reads."""
    process = processor(column, dialect)
    processed = list(values) if process is None else [process(value) for value in values]
    return json.dumps(processed) if dialect.name == "sqlite" else processed


def _among(dialect: str, column: Column[Any], array: str) -> str:
    if dialect == "sqlite":
        return f"{column.name} IN (SELECT value FROM json_each({array}))"
    return f"{column.name} = ANY({array})"


def _matching(dialect: str, column: Column[Any], number: int, *, lone: bool) -> str:
    """The condition that `column` is one of the parameter's values, or the value that it is."""
    if lone:
        return f"{column.name} = ${number}::{pg_type(column)}"
    return _among(dialect, column, _array(dialect, column, number))


def _array(dialect: str, column: Column[Any], number: int) -> str:
    """The parameter of that number, as what `pack` packs or what `_bind` binds for a column; SQLite has one."""
    return "?" if dialect == "sqlite" else f"${number}::{pg_type(column)}[]"


def _same(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((name, name) for name in names)


class _Given:
    """The records as a table `given`; each pair is a column, for its type, and its name in the record.

    PostgreSQL gets what is `alike` as a parameter of its own, behind the arrays of the others: its driver looks at
    each element of an array twice. Where all is alike, there is no such table.
    """

    def __init__(
        self, table: Table, pairs: tuple[tuple[str, str], ...], alike: tuple[str, ...], dialect: str, first: int
    ) -> None:
        self._alone: dict[str, str] = {}
        self.bound = ""
        """Says once more which rows are meant, by the first name. A join with `given`, whose size nobody knows, may be
        planned as a walk through the whole table; with this it begins with an index."""
        if dialect == "sqlite":
            picks = ", ".join(f"json_extract(value, '$[{index}]') AS {name}" for index, (_, name) in enumerate(pairs))
            self.source = f" FROM (SELECT {picks} FROM json_each(?)) AS given"
            return
        many, one = _split(pairs, alike)
        arrays = ", ".join(_array(dialect, table.c[column], number) for number, (column, _) in enumerate(many, first))
        self.source = f" FROM unnest({arrays}) AS given({', '.join(name for _, name in many)})" if many else ""
        if many:
            column, _ = many[0]
            self.bound = f" AND {table.name}.{column} = ANY({_array(dialect, table.c[column], first)})"
        for number, (column, name) in enumerate(one, first + len(many)):
            self._alone[name] = f"${number}::{pg_type(table.c[column])}"

    def value(self, name: str) -> str:
        """What a record has by this name."""
        return self._alone.get(name, f"given.{name}")


def _split(
    pairs: tuple[tuple[str, str], ...], alike: tuple[str, ...]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What has a value for each record, and what has one for all."""
    return [each for each in pairs if each[1] not in alike], [each for each in pairs if each[1] in alike]


def _binder(dialect: str, table: Table, pairs: tuple[tuple[str, str], ...], alike: tuple[str, ...]) -> Binder:
    fields = _fields(dialect, table, pairs)
    if dialect == "sqlite":
        return lambda records: [json.dumps(list(zip(*_columns(records, fields), strict=True)))]
    many = tuple(each for each in fields if each[0] not in alike)
    one = tuple(each for each in fields if each[0] in alike)
    if not many:
        return _binder_of_one(one)
    return lambda records: [*_columns(records, many), *chain.from_iterable(_columns(records[:1], one))]


def _binder_of_one(fields: Fields) -> Binder:
    """The same where the first record says all, as a lone message's does: at a fifth of the price of its columns."""
    width = len(fields)
    processes = [(place, process) for _, place, process in fields if process is not None]

    def bind(records: Sequence[Any]) -> list[Any]:
        record = records[0]
        if type(record) is not tuple:
            values = [record[name] for name, _, _ in fields]
        elif len(record) == width:
            values = [*record]
        else:
            values = [record[place] for place in range(width)]
        for place, process in processes:
            values[place] = process(values[place])
        return values

    return bind


def _columns(records: Sequence[Any], fields: Fields) -> list[Sequence[Any]]:
    """The driver's values, column by column: to go through the fields of each record takes three times as long."""
    columns: list[Sequence[Any]] = []
    turned = list(zip(*records, strict=True)) if records and type(records[0]) is tuple else None
    for name, place, process in fields:
        values = [each[name] for each in records] if turned is None else turned[place]
        columns.append(values if process is None else [process(value) for value in values])
    return columns


def _packer(dialect: str, column: Column[Any], *, lone: bool) -> Binder:
    process = processor(column, dialect_of(dialect))
    if lone:
        return list if process is None else lambda values: [process(value) for value in values]

    def bind(values: Sequence[Any]) -> list[Any]:
        packed = list(values) if process is None else [process(value) for value in values]
        return [json.dumps(packed) if dialect == "sqlite" else packed]

    return bind


def _fields(dialect: str, table: Table, pairs: Sequence[tuple[str, str]]) -> Fields:
    """What is taken of a record: its name there or its place, and how it becomes the driver's value."""
    return tuple(
        (name, place, processor(table.c[column], dialect_of(dialect))) for place, (column, name) in enumerate(pairs)
    )
