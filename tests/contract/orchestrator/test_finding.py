"""How an instance is named by a person: its id, the beginning of one, or its key."""

from __future__ import annotations

from uuid import UUID

import pytest

from orchestrator import queries
from orchestrator.saga.state import saga_id
from orchestrator.schema import saga
from tests.contract.orchestrator.office import Office
from tests.unit.work import pivot, step, work_saga

FIRST, SECOND = UUID("9a000000-0000-4000-8000-000000000001"), UUID("9a000000-0000-4000-8000-000000000002")


async def _found(office: Office, wanted: str) -> tuple[str, str]:
    async with office.database.reading() as connection:
        row = await queries.find(connection, wanted)
    return row.name, row.key


async def _refused(office: Office, wanted: str) -> str:
    with pytest.raises(queries.NoSuchSaga) as refused:
        await _found(office, wanted)
    return str(refused.value)


@pytest.fixture
async def three(office: Office) -> Office:
    """Key 9, and two whose ids begin with 9."""
    await office.employ(work_saga(step("dig"), pivot("sign")))
    await office.handle(*[office.begun(number) for number in (9, 10, 11)])
    async with office.database.transaction() as connection:
        for key, identity in (("10", FIRST), ("11", SECOND)):
            await connection.execute(saga.update().where(saga.c.key == key).values(id=identity))
    return office


async def test_an_exact_key_wins_over_ids_that_begin_so(three: Office) -> None:
    """Whoever types a whole key means it."""
    assert await _found(three, "9") == ("work", "9")


async def test_a_beginning_finds_one_or_names_those_it_fits(three: Office) -> None:
    """Digits in any case, with or without dashes."""
    assert await _found(three, " 9A0000000000400080000000000000-02 ") == ("work", "11")
    assert await _refused(three, "9a") == f"'9a' fits more than one saga ({FIRST}, {SECOND}); give more of it"


async def test_an_exact_key_is_found_among_many_that_begin_so(three: Office) -> None:
    """However many ids begin with it, and whatever their order is."""
    async with three.database.transaction() as connection:
        (row,) = (await connection.execute(saga.select().where(saga.c.key == "10"))).all()
        more = [dict(row._mapping) | {"id": UUID(int=(0x90 << 120) + n), "key": f"k{n}"} for n in range(20)]
        await connection.execute(saga.insert(), more)
    assert await _found(three, "9") == ("work", "9")


async def test_one_key_of_two_sagas_needs_an_id(three: Office) -> None:
    """Keys are unique within a saga, not among them; more of the key would not help."""
    await three.retire()
    await three.employ(work_saga(step("dig"), pivot("sign"), name="play"))
    await three.handle(three.begun(9))
    ids = sorted([saga_id("work", 9), saga_id("play", 9)])
    assert await _refused(three, "9") == f"'9' is the key of more than one saga ({ids[0]}, {ids[1]}); give an id"


async def test_nothing_is_found(three: Office) -> None:
    """Neither by what is no id, nor by nothing at all."""
    for wanted in ("shoe", "12", "", " "):
        assert await _refused(three, wanted) == (
            f"no saga has the id or the key {wanted!r}; `amends list` shows what there is"
        )
