"""Finding sagas by the attributes their definition declares, on both databases."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict
from sqlalchemy import delete, select, text

from orchestrator import Saga, Start, Step, queries, search
from orchestrator.catalog import Catalog
from orchestrator.saga.state import saga_id
from orchestrator.schema import saga_attribute, saga_search
from tests.contract.messaging.bench import NOON, statements
from tests.contract.orchestrator.office import Office
from tests.unit.work import Begun, Do, Done, Refused, Undo


class Parcel(BaseModel):
    """Data with a field that stays, one that changes and one that comes later."""

    model_config = ConfigDict(frozen=True)

    id: int
    owner: str
    place: str = "shop"
    proof: str | None = None


def _begin(event: Begun) -> Parcel:
    return Parcel(id=event.id, owner=f"customer-{event.id % 3}")


def _moved(data: Parcel, event: Done) -> Parcel:
    return data.model_copy(update={"place": event.note or data.place})


def _signed(data: Parcel, event: Done) -> Parcel:
    return data.model_copy(update={"proof": event.note})


def _carry(data: Parcel) -> Do:
    return Do(step="carry", seen=())


def _sign(data: Parcel) -> Do:
    return Do(step="sign", seen=())


def _return(data: Parcel) -> Undo:
    return Undo(step="carry", seen=())


def _saga(*names: str, version: int = 1) -> Saga[Parcel]:
    return Saga(
        name="work",
        version=version,
        data=Parcel,
        starts_on=Start(Begun, _begin, key=lambda event: event.id),
        steps=(
            Step("carry", _carry, on_success=_moved, compensation=_return),
            Step("sign", _sign, on_success=_signed, compensation=_return),
        ),
        search=names,
    )


async def _found(office: Office, **where: str) -> list[str]:
    async with office.database.reading() as connection:
        return sorted(each.key for each in await queries.listing(connection, where=where))


async def test_instances_are_found_by_what_their_data_says_now(office: Office) -> None:
    """After each transition by the new value and no longer by the old one; several conditions must all hold."""
    await office.employ(_saga("owner", "place", "proof"))
    await office.handle(*[office.begun(number) for number in range(6)])
    assert await _found(office, owner="customer-1") == ["1", "4"]
    assert await _found(office, owner="customer-1", place="shop") == ["1", "4"]
    assert await _found(office, proof="ann") == []

    await office.handle(office.answer(4, "carry", Done(note="depot")))
    assert await _found(office, owner="customer-1", place="shop") == ["1"]
    assert await _found(office, place="depot") == ["4"]
    await office.handle(office.answer(4, "sign", Done(note="ann")))
    assert await _found(office, proof="ann", place="depot", owner="customer-1") == ["4"]
    assert await _found(office, owner="customer-2") == ["2", "5"]


async def test_a_listing_tells_the_attributes_and_heeds_its_other_conditions(office: Office) -> None:
    """`where` goes together with status, key, time and limit, and each instance says what it is found by."""
    await office.employ(_saga("owner", "place"))
    await office.handle(*[office.begun(number) for number in range(6)])
    # Less than a step's timeout: otherwise the others are moved at that moment, too.
    office.clock.advance(10)
    await office.handle(office.answer(4, "carry", Refused()))
    async with office.database.reading() as connection:

        async def keys(**conditions: Any) -> list[str]:
            found = await queries.listing(connection, where={"owner": "customer-1"}, **conditions)
            return [each.key for each in found]

        assert await keys() == ["4", "1"]
        assert await keys(status="compensated") == ["4"]
        assert await keys(since=NOON + timedelta(seconds=1)) == ["4"]
        assert await keys(key="1") == ["1"]
        assert await keys(limit=1) == ["4"]
        assert await keys(name="other") == []
        (found,) = await queries.listing(connection, key="1")
        assert found.attributes == {"owner": "customer-1", "place": "shop"}


async def test_a_long_or_hostile_value_is_found_by_its_beginning(office: Office) -> None:
    """200 characters are kept, and what PostgreSQL cannot store is replaced, in the value as in the question."""
    await office.employ(_saga("place"))
    await office.handle(office.begun(1), office.begun(2), office.begun(3))
    await office.handle(
        office.answer(1, "carry", Done(note="é" * 300)),
        office.answer(2, "carry", Done(note="é" * 199)),
    )
    assert await _found(office, place="é" * 300) == ["1"]
    assert await _found(office, place="é" * 200 + "else") == ["1"]
    assert await _found(office, place="é" * 199) == ["2"]
    (definition,) = office.catalog
    async with office.database.transaction() as connection:
        await search.index(connection, {saga_id("work", 3): {"place": "a\x00b"}})
    assert await _found(office, place="a\x00b") == ["3"]
    assert definition.search == ("place",)


@pytest.mark.parametrize("count", [2, 60])
@pytest.mark.parametrize(
    ("names", "at_start", "at_answer"),
    [
        ((), [], []),
        (("owner",), ["INSERT INTO saga_attribute"], []),
        (
            ("owner", "place"),
            ["INSERT INTO saga_attribute"],
            ["DELETE FROM saga_attribute", "INSERT INTO saga_attribute"],
        ),
    ],
)
async def test_searching_costs_a_batch_two_statements_at_most_and_a_saga_without_it_none(
    office: Office, names: tuple[str, ...], at_start: list[str], at_answer: list[str], count: int
) -> None:
    """One insert for starts, a delete and an insert for changes, nothing where no attribute changed.

    On PostgreSQL only the delete is a statement of its own.
    """
    await office.employ(_saga(*names))
    for deliveries, expected in (
        ([office.begun(number) for number in range(count)], at_start),
        ([office.answer(number, "carry", Done(note=f"depot {number}")) for number in range(count)], at_answer),
    ):
        with statements(office.database) as sent:
            await office.handle(*deliveries)
        assert re.findall(r"(?:INSERT INTO|DELETE FROM) saga_attribute", " ".join(sent)) == expected
    assert {row.revision for row in (await office.sagas()).values()} == {2}


async def test_a_search_uses_the_index(office: Office) -> None:
    """Both databases find instances by name and value in the index, without reading the table."""
    await office.employ(_saga("owner"))
    await office.handle(*[office.begun(number) for number in range(50)])
    query = select(saga_attribute.c.saga_id).where(
        saga_attribute.c.name == "owner", saga_attribute.c.value == "customer-1"
    )
    plain = str(query.compile(office.database.engine.sync_engine, compile_kwargs={"literal_binds": True}))
    async with office.database.transaction() as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text("SET LOCAL enable_seqscan = off"))
            explain = "EXPLAIN "
        else:
            explain = "EXPLAIN QUERY PLAN "
        plan = " ".join(str(row) for row in (await connection.execute(text(explain + plain))).all())
    assert "ix_saga_attribute_name_value_saga_id" in plan


async def test_an_attribute_declared_later_finds_older_instances_once_they_are_indexed(office: Office) -> None:
    """At start it is written down as not indexed; `reindex` finds every older instance, and drops what is gone."""
    await office.employ(_saga("place"))
    await office.handle(*[office.begun(number) for number in range(5)])
    await office.retire()
    later = _saga("owner")

    async def declared() -> list[tuple[str, bool]]:
        async with office.database.reading() as connection:
            return [(each.name, each.indexed) for each in await search.declared(connection, "work")]

    await search.declare(office.database, Catalog([later]), NOON)
    assert await declared() == [("owner", False)]
    await office.employ(later)
    await office.handle(office.begun(7))
    assert await _found(office, owner="customer-1") == ["7"]

    told: list[int] = []
    done = await search.reindex(office.database, later, NOON, progress=told.append, page=4)
    assert done == search.Reindexed("work", 1, ("owner",), 6, ())
    assert told == [4, 6]
    assert await _found(office, owner="customer-1") == ["1", "4", "7"]
    assert await _found(office, place="shop") == []
    assert await declared() == [("owner", True)]
    again = await search.reindex(office.database, later, NOON)
    assert again == search.Reindexed("work", 1, ("owner",), 6, ())
    assert await _found(office, owner="customer-1") == ["1", "4", "7"]


async def test_a_definition_without_instances_is_indexed_from_its_first_start(office: Office) -> None:
    """Every process may declare it again, and instances of an older version are none of the new one's."""
    first, second = _saga("owner"), _saga("owner", version=2)
    await search.declare(office.database, Catalog([first]), NOON)
    await search.declare(office.database, Catalog([first]), NOON + timedelta(days=1))
    await office.employ(first)
    await office.handle(office.begun(1))
    await search.declare(office.database, Catalog([first, second]), NOON + timedelta(days=2))
    async with office.database.reading() as connection:
        rows = (await connection.execute(select(saga_search).order_by(saga_search.c.version))).all()
    assert [(row.version, row.attribute, row.indexed_at) for row in rows] == [
        (1, "owner", NOON),
        (2, "owner", NOON + timedelta(days=2)),
    ]


async def test_what_reindexing_cannot_read_is_named_and_the_rest_is_indexed(office: Office) -> None:
    """An instance whose data does not fit its definition stays unfound, and the attribute stays marked so."""
    await office.employ(_saga("owner"))
    await office.handle(office.begun(1), office.begun(4))
    async with office.database.transaction() as connection:
        await connection.execute(delete(saga_attribute))
        await connection.execute(text("UPDATE saga SET data = '{}' WHERE key = '1'"))
    (definition,) = office.catalog
    done = await search.reindex(office.database, definition, NOON)
    assert (done.instances, done.unreadable) == (2, (saga_id("work", 1),))
    assert isinstance(done.unreadable[0], UUID)
    assert await _found(office, owner="customer-1") == ["4"]
    async with office.database.reading() as connection:
        assert [each.indexed for each in await search.declared(connection)] == [False]
