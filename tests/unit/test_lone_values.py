"""What a lone message's statement gets of its record: in one pass, the same as column by column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text

from messaging.driver_values import dialect_of, processor
from messaging.plans import Plan
from messaging.schema import UTCDateTime
from messaging.shapes import Insert, Update, _columns, _fields

_box = Table(
    "box",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("name", Text),
    Column("at", UTCDateTime()),
)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ELSEWHERE = datetime(2026, 3, 1, 17, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))


class Moment(datetime):
    """Somebody's own."""


RECORDS: dict[str, Any] = {
    "a tuple": (7, "low", NOON),
    "a mapping": {"at": NOON, "id": 7, "name": "low", "more": object},
    "nothing": (7, None, None),
    "elsewhere": (7, "low", ELSEWHERE),
    "a moment of another kind": (7, "low", Moment(2026, 3, 1, 12, tzinfo=UTC)),
    "without a zone": (7, "low", datetime(2026, 3, 1, 12)),  # noqa: DTZ001 - it is to be refused
    "no moment": (7, "low", "noon"),
    "more than is asked for": (7, "low", NOON, "more"),
    "less than is asked for": (7, "low"),
    "a mapping with less": {"id": 7, "at": NOON},
}


def _told(bind: Callable[[Sequence[Any]], Any], record: Any) -> object:
    try:
        return bind([record])
    except (ValueError, AttributeError, LookupError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_one_record_is_bound_as_columns_of_many_are(record: Any) -> None:
    """The same values in the same order, and where one is wrong the same refusal."""

    def by_columns(records: Sequence[Any]) -> list[Any]:
        return [value for (value,) in _columns(records, fields)]

    fields = _fields("postgresql", _box, (("id", "id"), ("name", "name"), ("at", "at")))
    expected = _told(by_columns, record)
    bind = Plan(Insert(_box, ("id", "name", "at"))).lone.bind
    found = _told(bind, record)
    if isinstance(record, tuple) and len(record) < 3:
        assert isinstance(expected, tuple)
        assert isinstance(found, tuple)
        assert (expected[0], found[0]) == (IndexError, IndexError)
    else:
        assert found == expected


def test_moments_are_sent_in_utc() -> None:
    """As they are where they are in UTC; otherwise as UTC has them, and what has no zone is refused."""
    process = processor(_box.c.at, dialect_of("postgresql"))
    assert process is not None
    assert process(NOON) is NOON
    assert process(None) is None
    assert process(ELSEWHERE) == NOON
    assert process(ELSEWHERE).tzinfo is UTC
    with pytest.raises(ValueError, match="no time zone"):
        process(datetime(2026, 3, 1, 12))  # noqa: DTZ001 - it is to be refused


def test_a_column_may_be_matched_and_set() -> None:
    """The value that it is set to has a name of its own in the record, and comes behind the others."""
    bind = Plan(Update(_box, ("id",), ("name",), (("id", "new_id"),))).lone.bind
    assert bind([{"id": 1, "name": "low", "new_id": 2}]) == [1, "low", 2]
    assert bind([(1, "low", 2)]) == [1, "low", 2]
