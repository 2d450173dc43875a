"""What can become of a removal whose saga is migrated on the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.golden.moving import (
    MOVE_HOUSE_1,
    MOVE_HOUSE_2,
    HouseSold,
    KeysMade,
    KeysMelted,
    Moved,
    NoKeys,
    NoVan,
    Thanked,
    VanBooked,
    VanReturned,
)
from tests.golden.stage import Stage


async def _sold(stage: Stage) -> None:
    await stage.comes(HouseSold(house_id=str(stage.key), customer_id="customer-42"), "house")


async def migrated_halfway(stage: Stage) -> None:
    """With a command under way that was made from older data, and is answered under its step's old name."""
    await _sold(stage)
    await stage.answers("van", VanBooked(plate="HH-MV 7"))
    await stage.goes_on_as(MOVE_HOUSE_1, MOVE_HOUSE_2)
    await stage.answers("keys", KeysMade(count=4))
    await stage.answers("move", Moved())
    await stage.answers("thank", Thanked())


async def migrated_turning_back(stage: Stage) -> None:
    """While the van is being returned; what comes back is the answer to the old version's command."""
    await _sold(stage)
    await stage.answers("van", VanBooked(plate="HH-MV 7"))
    await stage.answers("keys", NoKeys(reason="no_blanks"))
    await stage.goes_on_as(MOVE_HOUSE_1, MOVE_HOUSE_2)
    await stage.undone("van", VanReturned())


async def migrated_then_refused(stage: Stage) -> None:
    """What happened under the old version is undone by the new one, under the names that participants know."""
    await _sold(stage)
    await stage.answers("keys", KeysMade(count=4))
    await stage.goes_on_as(MOVE_HOUSE_1, MOVE_HOUSE_2)
    await stage.answers("van", NoVan(reason="no_driver"))
    await stage.undone("keys", KeysMelted())


MOVES: tuple[Callable[[Stage], Awaitable[None]], ...] = (
    migrated_halfway,
    migrated_turning_back,
    migrated_then_refused,
)
