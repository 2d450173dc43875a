"""A saga in two versions, the second of which takes over the instances of the first: steps and data are called
otherwise, and one step more comes at the end.
"""

from __future__ import annotations

from typing import Never

from pydantic import BaseModel, ConfigDict

from contracts import Sensitive
from contracts.message import Command, Event
from orchestrator import PIVOT, RETRIABLE, Migration, Parallel, Saga, Start, Step, hours


class HouseSold(Event, type="house.sold", key="house_id"):
    house_id: str
    customer_id: Sensitive[str]


class VanBooked(Event, type="van.booked"):
    plate: str


class NoVan(Event, type="van.refused"):
    reason: str


class VanReturned(Event, type="van.returned"):
    pass


class BookVan(Command[VanBooked, NoVan], type="van.book"):
    customer_id: Sensitive[str]
    rooms: int


class ReturnVan(Command[VanReturned, Never], type="van.return"):
    plate: str


class KeysMade(Event, type="keys.made"):
    count: int


class NoKeys(Event, type="keys.refused"):
    reason: str


class KeysMelted(Event, type="keys.melted"):
    pass


class MakeKeys(Command[KeysMade, NoKeys], type="keys.make"):
    customer_id: Sensitive[str]
    plate: str


class MeltKeys(Command[KeysMelted, Never], type="keys.melt"):
    count: int


class Moved(Event, type="crew.moved"):
    pass


class TooHeavy(Event, type="crew.refused"):
    reason: str


class Move(Command[Moved, TooHeavy], type="crew.move"):
    plate: str


class Thanked(Event, type="crew.thanked"):
    pass


class Thank(Command[Thanked, Never], type="crew.thank"):
    customer_id: Sensitive[str]


class Removal(BaseModel):
    """What version 1 knew."""

    model_config = ConfigDict(frozen=True)

    customer_id: Sensitive[str]
    plate: str = ""
    keys: int = 0


class Household(BaseModel):
    """The same, as version 2 calls it."""

    model_config = ConfigDict(frozen=True)

    owner: Sensitive[str]
    van: str = ""
    keys: int = 0
    wishes: tuple[str, ...] = ()


def _removal(event: HouseSold) -> Removal:
    return Removal(customer_id=event.customer_id)


def _household(data: Removal) -> Household:
    return Household(owner=data.customer_id, van=data.plate, keys=data.keys)


def _sold(event: HouseSold) -> Household:
    return Household(owner=event.customer_id)


def _house(event: HouseSold) -> str:
    return event.house_id


def _book(data: Removal) -> BookVan:
    return BookVan(customer_id=data.customer_id, rooms=3)


def _booked(data: Removal, event: VanBooked) -> Removal:
    return data.model_copy(update={"plate": event.plate})


def _give_back(data: Removal) -> ReturnVan:
    return ReturnVan(plate=data.plate)


def _make(data: Removal) -> MakeKeys:
    return MakeKeys(customer_id=data.customer_id, plate=data.plate)


def _made(data: Removal, event: KeysMade) -> Removal:
    return data.model_copy(update={"keys": event.count})


def _melt(data: Removal) -> MeltKeys:
    return MeltKeys(count=data.keys)


def _move(data: Removal) -> Move:
    return Move(plate=data.plate)


def _book_for(data: Household) -> BookVan:
    return BookVan(customer_id=data.owner, rooms=3)


def _booked_for(data: Household, event: VanBooked) -> Household:
    return data.model_copy(update={"van": event.plate})


def _give_back_for(data: Household) -> ReturnVan:
    return ReturnVan(plate=data.van)


def _make_for(data: Household) -> MakeKeys:
    return MakeKeys(customer_id=data.owner, plate=data.van)


def _made_for(data: Household, event: KeysMade) -> Household:
    return data.model_copy(update={"keys": event.count})


def _melt_for(data: Household) -> MeltKeys:
    return MeltKeys(count=data.keys)


def _move_for(data: Household) -> Move:
    return Move(plate=data.van)


def _thank(data: Household) -> Thank:
    return Thank(customer_id=data.owner)


MOVE_HOUSE_1 = Saga(
    name="move_house",
    version=1,
    data=Removal,
    starts_on=Start(HouseSold, _removal, key=_house),
    steps=(
        Parallel(
            Step("van", _book, on_success=_booked, compensation=_give_back, timeout=hours(8)),
            Step("keys", _make, on_success=_made, compensation=_melt, timeout=hours(8)),
        ),
        Step("move", _move, kind=PIVOT, timeout=hours(8)),
    ),
)
MOVE_HOUSE_2 = Saga(
    name="move_house",
    version=2,
    data=Household,
    starts_on=Start(HouseSold, _sold, key=_house),
    steps=(
        Parallel(
            Step("transport", _book_for, on_success=_booked_for, compensation=_give_back_for, timeout=hours(8)),
            Step("locks", _make_for, on_success=_made_for, compensation=_melt_for, timeout=hours(8)),
        ),
        Step("move", _move_for, kind=PIVOT, timeout=hours(8)),
        Step("thank", _thank, kind=RETRIABLE, timeout=hours(8)),
    ),
    migrations=(Migration(MOVE_HOUSE_1, _household, steps={"van": "transport", "keys": "locks"}),),
)
