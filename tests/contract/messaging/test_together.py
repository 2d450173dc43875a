"""What handlers leave to be written with their batch: seen by whoever comes next, and the batch's for good or ill."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from messaging.participant import Participant
from messaging.together import together
from tests.contract.messaging.bench import Bench
from tests.contract.messaging.parcels import Pack, Packed, Refused, Unpack, Unpacked, done, packing


async def _note(db: AsyncSession, *records: tuple[str, str | None]) -> None:
    async with together(db) as writes:
        writes.insert(packing, ("parcel", "done"), [{"parcel": parcel, "done": what} for parcel, what in records])


async def _seen(db: AsyncSession) -> int:
    return (await db.execute(select(func.count()).select_from(packing))).scalar_one()


def _counting(seen: list[int]) -> Participant:
    """Packs whole batches and unpacks one at a time; each call notes how many rows it has found."""
    participant = Participant("depot")

    @participant.handles_batch(Pack)
    async def pack(commands: Sequence[Pack], db: AsyncSession) -> list[Packed | Refused]:
        seen.append(await _seen(db))
        await _note(db, *((each.parcel, "packed") for each in commands))
        return [Packed(parcel=each.parcel) for each in commands]

    @participant.handles(Unpack)
    async def unpack(command: Unpack, db: AsyncSession) -> Unpacked:
        seen.append(await _seen(db))
        await _note(db, (command.parcel, "unpacked"))
        return Unpacked(parcel=command.parcel)

    return participant


async def test_the_next_handler_sees_what_the_one_before_it_has_left_to_be_written(bench: Bench) -> None:
    """In one batch, also from one call to the next of a handler that takes a message at a time."""
    seen: list[int] = []
    await bench.serve(_counting(seen))
    await bench.handle(
        bench.delivery(Pack(parcel="p1"), id=UUID(int=1)),
        bench.delivery(Pack(parcel="p2"), id=UUID(int=2)),
        bench.delivery(Unpack(parcel="p1"), id=UUID(int=3)),
        bench.delivery(Unpack(parcel="p2"), id=UUID(int=4)),
    )

    assert seen == [0, 2, 3]
    assert sorted(await done(bench.database)) == [
        ("p1", "packed"),
        ("p1", "unpacked"),
        ("p2", "packed"),
        ("p2", "unpacked"),
    ]
    assert await bench.statuses() == {1: "done", 2: "done", 3: "done", 4: "done"}


async def test_what_cannot_be_written_at_the_end_is_its_messages_fault_alone(bench: Bench) -> None:
    """The message that violates a constraint is buried with the reason; its neighbors are answered."""
    participant = Participant("depot")

    @participant.handles_batch(Pack)
    async def pack(commands: Sequence[Pack], db: AsyncSession) -> list[Packed | Refused]:
        await _note(db, *((each.parcel, None if each.parcel == "bad" else "packed") for each in commands))
        return [Packed(parcel=each.parcel) for each in commands]

    await bench.serve(participant)
    parcels = ("p1", "bad", "p3")
    await bench.handle(
        *(bench.delivery(Pack(parcel=parcel), id=UUID(int=number)) for number, parcel in enumerate(parcels, 1))
    )

    assert sorted(await done(bench.database)) == [("p1", "packed"), ("p3", "packed")]
    assert await bench.statuses() == {1: "done", 2: "failed", 3: "done"}
    assert await bench.letters() == [("handler_failed", str(UUID(int=2)))]


async def test_a_savepoint_takes_along_what_is_written_within(bench: Bench) -> None:
    """Rolled back, nothing of it is written at the end."""
    participant = Participant("depot")

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        async with db.begin_nested() as savepoint:
            await _note(db, (command.parcel, "undone"))
            await savepoint.rollback()
        async with db.begin_nested():
            await _note(db, (command.parcel, "packed"))
        return Packed(parcel=command.parcel)

    await bench.serve(participant)
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=UUID(int=1)))

    assert await done(bench.database) == [("p1", "packed")]


async def test_outside_of_a_batch_it_is_written_when_the_block_ends(bench: Bench) -> None:
    """Whoever has a session of his own sees it there at once."""
    async with bench.database.session() as db:
        await _note(db, ("p1", "packed"))
        assert await _seen(db) == 1
    assert await done(bench.database) == [("p1", "packed")]
