"""A column's values as each database's driver takes and gives them: each rule is the column type's own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from pydantic_core import SchemaValidator, core_schema
from sqlalchemy import Column, Uuid
from sqlalchemy.engine import Dialect, make_url

from messaging.schema import UTCDateTime

Process = Callable[[Any], Any] | None
"""Makes a driver's value of a column's, or the other way round; None: it is one."""

_POSTGRESQL: Dialect = make_url("postgresql+asyncpg://").get_dialect()()
_processors: dict[tuple[Column[Any], str], Process] = {}


def processor(column: Column[Any], dialect: Dialect) -> Process:
    """How a Python value of this column becomes a driver's value (the column type's own rule); None: as it is."""
    key = column, dialect.name
    if key not in _processors:
        found = column.type.dialect_impl(dialect).bind_processor(dialect)
        moment = isinstance(column.type, UTCDateTime) and dialect.name == "postgresql"
        _processors[key] = _unless_utc(found) if moment and found is not None else found
    return _processors[key]


def _unless_utc(process: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same for what may be a moment in UTC, as nearly all are, which it leaves as it is."""
    return lambda value: value if type(value) is datetime and value.tzinfo is UTC else process(value)


def result_processor(column: Column[Any], dialect: str) -> Process:
    """How what the database's driver gives for a column becomes a Python value; None: it is one."""
    if dialect == "sqlite":
        if isinstance(column.type, Uuid):
            return _uuid_of
        lite = _sqlite()
        found = column.type.dialect_impl(lite).result_processor(lite, None)
        # The rows of a batch have few moments, as in `UTCDateTime`.
        return lru_cache(maxsize=256)(found) if isinstance(column.type, UTCDateTime) and found is not None else found
    if isinstance(column.type, UTCDateTime):
        return None  # the driver's moments are aware, and in UTC
    return column.type.dialect_impl(_POSTGRESQL).result_processor(_POSTGRESQL, None)


_parse_uuid = SchemaValidator(core_schema.uuid_schema()).validate_python


def _uuid_of(digits: str | None) -> UUID | None:
    """A sixth of what `UUID(digits)` takes."""
    return None if digits is None else _parse_uuid(digits)


def dialect_of(name: str) -> Dialect:
    """SQLAlchemy's, of the database of this name."""
    return _sqlite() if name == "sqlite" else _POSTGRESQL


@lru_cache(maxsize=1)
def _sqlite() -> Dialect:
    return make_url("sqlite+aiosqlite://").get_dialect()()


@lru_cache(maxsize=256)
def pg_type(column: Column[Any]) -> str:
    """The type of the column's values, as PostgreSQL's casts call it."""
    compiled = str(column.type.compile(dialect=_POSTGRESQL)).upper()
    if "CHAR" in compiled:
        return "text"  # CHAR without its length would mean one character
    return {"TIMESTAMP WITH TIME ZONE": "timestamptz"}.get(compiled, compiled.lower())
