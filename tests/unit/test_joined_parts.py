"""What several parts are as one statement: what is locked in which order, and what comes of each."""

from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, Table, Text

from messaging.plans import Guard, Plan, exactly, joined
from messaging.shapes import Delete, Insert, Select, Update

_box = Table("box", MetaData(), Column("id", Integer, primary_key=True), Column("kind", Text), Column("name", Text))
_by_id = Plan(Select((_box.c.id, _box.c.name), _box.c.id, "FOR UPDATE"))
_by_kind = Plan(Select((_box.c.id, _box.c.name), _box.c.kind))
_name = Plan(Update(_box, ("id",), ("name",)))
_name_all = Plan(Update(_box, ("kind",), ("name",)))
_add = Plan(Insert(_box, ("kind", "name"), returning="id"))


def test_a_lone_row_is_its_own_cells() -> None:
    """What is found by its key is one row, and no array is made of it; of many rows each column is an array."""
    assert joined((_by_id.lone, _by_kind.lone)) == (
        "WITH w0 AS (SELECT id, name FROM box WHERE id = $1::integer FOR UPDATE), "
        "w1 AS (SELECT id, name FROM box WHERE kind = $2::text) "
        "SELECT c0, c1, c2, c3 FROM (SELECT 1) AS one "
        "LEFT JOIN LATERAL (SELECT id AS c0, name AS c1 FROM w0) AS r0 ON true "
        "LEFT JOIN LATERAL (SELECT array_agg(id) AS c2, array_agg(name) AS c3 FROM w1) AS r1 ON true"
    )


def test_what_acts_comes_after_what_acts_before_it() -> None:
    """What writes or locks needs something of the last that did; what looks needs nothing, and keeps no place."""
    assert joined((_name.lone, _by_kind.many, _add.lone)).endswith(
        "SELECT c0, c1, c2, c3 FROM (SELECT 1) AS one "
        "LEFT JOIN LATERAL (SELECT 1 AS c0 FROM w0) AS r0 ON true "
        "LEFT JOIN LATERAL (SELECT array_agg(id) AS c1, array_agg(name) AS c2 FROM w1) AS r1 ON true "
        "LEFT JOIN LATERAL (SELECT id AS c3 FROM w2 WHERE num_nulls(r0.c0) >= 0) AS r2 ON true"
    )


def test_guards_are_looked_at_last() -> None:
    """One more cell fails where one does not hold: of what is one row, is counted, is none, and is known."""
    known = Guard(known="id", proven="name")
    parts = _name.lone, _name_all.lone, _by_kind.lone, _by_kind.many
    assert joined(parts, (exactly(1), exactly(2), exactly(0), known)).endswith(
        "SELECT c0, c1, c2, c3, c4, c5, CAST(CASE WHEN num_nonnulls(c0) = 1 AND c1 = 2 AND c2 IS NULL "
        "AND g3 IS NOT FALSE THEN '1' ELSE 'amends: no fault, undone to be done again with a look at what another "
        "process has written' END AS integer) FROM (SELECT 1) AS one "
        "LEFT JOIN LATERAL (SELECT 1 AS c0 FROM w0) AS r0 ON true "
        "LEFT JOIN LATERAL (SELECT count(*) AS c1 FROM w1 WHERE num_nulls(r0.c0) >= 0) AS r1 ON true "
        "LEFT JOIN LATERAL (SELECT array_agg(id) AS c2, array_agg(name) AS c3 FROM w2) AS r2 ON true "
        "LEFT JOIN LATERAL (SELECT array_agg(id) AS c4, array_agg(name) AS c5, "
        "bool_and(id = ANY($7::text::bigint[]) OR name::text = ANY($8::text::text[])) AS g3 FROM w3) AS r3 ON true"
    )


def test_what_has_no_cell_is_no_source() -> None:
    """A deletion of which nothing is asked is done at the end."""
    assert joined((Plan(Delete(_box.c.id, returning=False)).lone, _name.lone)) == (
        "WITH w0 AS (DELETE FROM box WHERE id = $1::integer), "
        "w1 AS (UPDATE box SET name = $3::text WHERE box.id = $2::integer RETURNING 1) "
        "SELECT c0 FROM (SELECT 1) AS one LEFT JOIN LATERAL (SELECT 1 AS c0 FROM w1) AS r1 ON true"
    )
