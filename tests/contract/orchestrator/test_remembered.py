"""What the engine remembers of an instance between two batches spares it work and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, model_serializer, model_validator
from sqlalchemy import update

from orchestrator import PIVOT, Saga, Start, Step
from orchestrator.schema import saga as saga_table
from tests.contract.orchestrator.office import Office
from tests.unit.work import Begun, Do, Done

READ: list[str] = []
WRITTEN: list[str] = []


class Counted(BaseModel):
    """Data that says how often it is read from JSON, and written as JSON."""

    model_config = ConfigDict(frozen=True)

    id: int
    log: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _read(self) -> Counted:
        READ.append(str(self.id))
        return self

    @model_serializer(mode="wrap")
    def _written(self, write: Any) -> Any:
        WRITTEN.append(str(self.id))
        return write(self)


def _saga() -> Saga[Counted]:
    def told(data: Counted, event: Done) -> Counted:
        return data.model_copy(update={"log": (*data.log, event.note)})

    def ask(data: Counted) -> Do:
        return Do(step="-".join(("dig", *data.log)), seen=data.log)

    return Saga(
        name="work",
        version=1,
        data=Counted,
        starts_on=Start(Begun, lambda event: Counted(id=event.id), key=lambda event: event.id),
        steps=(Step("dig", ask, on_success=told), Step("fill", ask), Step("sign", ask, kind=PIVOT, on_success=told)),
    )


@pytest.fixture
def counted() -> Iterator[tuple[list[str], list[str]]]:
    """How often data was read and written since the test began."""
    READ.clear()
    WRITTEN.clear()
    yield READ, WRITTEN
    READ.clear()
    WRITTEN.clear()


async def test_data_is_read_and_written_once_for_each_change(
    office: Office, counted: tuple[list[str], list[str]]
) -> None:
    """Not for each batch: the start makes it and reads what it wrote, and so does each of the two changes."""
    await office.employ(_saga())
    read, written = counted
    await office.handle(office.begun(1))
    assert (len(read), len(written)) == (2, 1)
    await office.handle(office.answer(1, "dig", Done(note="deep")))
    assert (len(read), len(written)) == (3, 2)
    await office.handle(office.answer(1, "fill", Done()))
    assert (len(read), len(written)) == (3, 2)
    await office.handle(office.answer(1, "sign", Done(note="well")))
    assert (len(read), len(written)) == (4, 3)
    assert await office.status_of(1) == "completed"
    assert await office.audit() == 1


async def test_what_somebody_else_has_written_is_read(office: Office) -> None:
    """A row that was changed between two batches, without another revision, means what it says now."""
    await office.employ(_saga())
    await office.handle(office.begun(1), office.begun(2))
    async with office.database.transaction() as connection:
        await connection.execute(
            update(saga_table).where(saga_table.c.key == "1").values(data='{"id":1,"log":["by hand"]}')
        )
    await office.handle(*(office.answer(number, "dig", Done(note="deep")) for number in (1, 2)))
    await office.flush()

    sagas = await office.sagas()
    assert [sagas[key].data for key in ("1", "2")] == ['{"id":1,"log":["by hand","deep"]}', '{"id":2,"log":["deep"]}']
    assert sorted(step for _, step in office.commands()) == ["dig", "dig", "dig-by hand-deep", "dig-deep"]


async def test_what_another_process_has_moved_goes_on_from_there(office: Office) -> None:
    """Two engines take turns with one instance: neither goes on from where it left it itself."""
    other = Office(office.database)
    for each in (office, other):
        await each.employ(_saga())
    await office.handle(office.begun(1))
    await other.handle(office.answer(1, "dig", Done(note="deep")))
    await office.handle(office.answer(1, "fill", Done()))
    await other.handle(office.answer(1, "sign", Done(note="well")))
    assert (await office.sagas())["1"].data == '{"id":1,"log":["deep","well"]}'
    assert await office.status_of(1) == "completed"
    assert await office.audit() == 1
    await other.retire()


async def test_what_has_ended_is_forgotten(office: Office) -> None:
    """Nobody comes for it any more, and it would push out what is under way."""
    engine = await office.employ(_saga())
    await office.handle(office.begun(1))
    await office.handle(office.begun(2))
    for name in ("dig", "fill", "sign"):
        await office.handle(office.answer(1, name, Done()))
    assert await office.status_of(1) == "completed"
    assert len(engine._remembered) == 1
