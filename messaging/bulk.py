"""Many rows in one statement, whatever their number, on both databases.

PostgreSQL gets one array a column (`unnest`), SQLite one JSON text (`json_each`): the statement's text never depends on
how many rows there are, so it is compiled and prepared once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Row, Table, TextClause, column, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

Record = Mapping[str, Any]


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
    statement = _insert(table, tuple(columns), ignore_conflicts, returning, connection.dialect.name)
    result = await connection.execute(
        statement, _bind(connection.dialect, table, [(name, name) for name in columns], records)
    )
    return [] if returning is None else _column(connection.dialect, table.c[returning], result.all())


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
    given = tuple((name, name) for name in (*keys, *columns)) + renamed
    statement = _update(table, tuple(keys), tuple(columns), renamed, connection.dialect.name)
    result = await connection.execute(statement, _bind(connection.dialect, table, given, records))
    return len(result.all())


async def delete(connection: AsyncConnection, column: Column[Any], values: Sequence[Any]) -> list[Any]:
    """Delete the rows whose `column` is one of `values`; returns the values that were there."""
    if not values:
        return []
    table = column.table
    any_of = among(connection.dialect.name, column)
    statement = _text(f"DELETE FROM {table.name} WHERE {any_of} RETURNING {column.name}")
    result = await connection.execute(statement, {"values": pack(connection.dialect, column, values)})
    return _column(connection.dialect, column, result.all())


async def select(
    connection: AsyncConnection,
    columns: Sequence[Column[Any]],
    where: Column[Any],
    values: Sequence[Any],
    suffix: str = "",
    *,
    computed: tuple[tuple[str, str], ...] = (),
) -> list[Row[*tuple[Any, ...]]]:
    """Rows whose column `where` is one of `values`; `suffix` is what follows the WHERE.

    `computed` are further columns, each a name and its expression in SQL.
    """
    if not values:
        return []
    if connection.dialect.name == "sqlite":
        suffix = suffix.replace("FOR UPDATE", "")
    statement = _select_text(tuple(columns), computed, where, suffix, connection.dialect.name)
    result = await connection.execute(statement, {"values": pack(connection.dialect, where, values)})
    return list(result.all())


@lru_cache(maxsize=256)
def _select_text(
    columns: tuple[Column[Any], ...],
    computed: tuple[tuple[str, str], ...],
    where: Column[Any],
    suffix: str,
    dialect: str,
) -> Any:
    names = ", ".join((*(each.name for each in columns), *(f"{words} AS {name}" for name, words in computed)))
    statement = f"SELECT {names} FROM {where.table.name} WHERE {among(dialect, where)} {suffix}"
    return text(statement).columns(*columns, *(column(name) for name, _ in computed))


def among(dialect: str, column: Column[Any], name: str = "values") -> str:
    """The condition that `column` is one of what `pack` packed into the parameter `name`."""
    if dialect == "sqlite":
        return f"{column.name} IN (SELECT value FROM json_each(:{name}))"
    return f"{column.name} = ANY(CAST(:{name} AS {_pg_type(column)}[]))"


def pack(dialect: Dialect, column: Column[Any], values: Sequence[Any]) -> Any:
    """Values as the one parameter that `among` reads."""
    process = _processor(column, dialect.name, dialect)
    processed = [process(value) for value in values]
    return json.dumps(processed) if dialect.name == "sqlite" else processed


@lru_cache(maxsize=256)
def _text(statement: str) -> TextClause:
    return text(statement)


@lru_cache(maxsize=256)
def _insert(table: Table, columns: tuple[str, ...], ignore: bool, returning: str | None, dialect: str) -> TextClause:
    names = ", ".join(columns)
    conflict = " ON CONFLICT DO NOTHING" if ignore else ""
    tail = f"{conflict} RETURNING {returning}" if returning else conflict
    rows = _rows(table, tuple((name, name) for name in columns), dialect)
    # SQLite needs the WHERE to tell an upsert's ON from a join's.
    where = " WHERE true" if dialect == "sqlite" else ""
    return text(f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {rows}{where}{tail}")


@lru_cache(maxsize=256)
def _update(
    table: Table,
    keys: tuple[str, ...],
    columns: tuple[str, ...],
    renamed: tuple[tuple[str, str], ...],
    dialect: str,
) -> TextClause:
    plain = tuple((name, name) for name in columns)
    rows = _rows(table, (*((name, name) for name in keys), *plain, *renamed), dialect)
    changes = ", ".join(f"{column} = given.{name}" for column, name in (*plain, *renamed))
    match = " AND ".join(f"{table.name}.{name} = given.{name}" for name in keys)
    return text(f"UPDATE {table.name} SET {changes} FROM {rows} WHERE {match} RETURNING 1")


def _rows(table: Table, given: tuple[tuple[str, str], ...], dialect: str) -> str:
    """The records as a table `given`; each pair is a column, for its type, and its name in the record."""
    if dialect == "sqlite":
        picks = ", ".join(f"json_extract(value, '$[{index}]') AS {name}" for index, (_, name) in enumerate(given))
        return f"(SELECT {picks} FROM json_each(:records)) AS given"
    arrays = ", ".join(f"CAST(:c{index} AS {_pg_type(table.c[column])}[])" for index, (column, _) in enumerate(given))
    return f"unnest({arrays}) AS given({', '.join(name for _, name in given)})"


def _bind(
    dialect: Dialect, table: Table, given: Sequence[tuple[str, str]], records: Sequence[Record]
) -> dict[str, Any]:
    processors = [(name, _processor(table.c[column], dialect.name, dialect)) for column, name in given]
    if dialect.name == "sqlite":
        rows = [[process(record[name]) for name, process in processors] for record in records]
        return {"records": json.dumps(rows)}
    return {
        f"c{index}": [process(record[name]) for record in records] for index, (name, process) in enumerate(processors)
    }


_POSTGRESQL: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
_processors: dict[tuple[Column[Any], str], Any] = {}


def _processor(column: Column[Any], name: str, dialect: Dialect) -> Any:
    """How a Python value of this column becomes a driver's value (the column type's own rule)."""
    known = _processors.get((column, name))
    if known is None:
        found = column.type.dialect_impl(dialect).bind_processor(dialect)
        known = found if found is not None else _as_is
        if name == "postgresql" and _pg_type(column) == "uuid":
            known = _uuid
        _processors[column, name] = known
    return known


def _as_is(value: Any) -> Any:
    return value


def _uuid(value: Any) -> UUID | None:
    return value if value is None or isinstance(value, UUID) else UUID(str(value))


def _column(dialect: Dialect, column: Column[Any], rows: Sequence[Row[*tuple[Any, ...]]]) -> list[Any]:
    process = column.type.dialect_impl(dialect).result_processor(dialect, None)
    if process is None or (dialect.name == "postgresql" and _pg_type(column) == "uuid"):
        return [row[0] for row in rows]
    return [process(row[0]) for row in rows]


@lru_cache(maxsize=256)
def _pg_type(column: Column[Any]) -> str:
    compiled = str(column.type.compile(dialect=_POSTGRESQL)).upper()
    if "CHAR" in compiled:
        return "text"  # CHAR without its length would mean one character
    return {"TIMESTAMP WITH TIME ZONE": "timestamptz"}.get(compiled, compiled.lower())
