"""A saga about people, for the tests of redacting: what it must not tell lies in every kind of place."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Never
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from contracts import SENSITIVE, Sensitive
from contracts.message import Command, Event
from orchestrator import PIVOT, RETRIABLE, Cancel, Retry, Saga, Start, Step, Wait, hours, seconds


class Address(BaseModel):
    model_config = ConfigDict(frozen=True)

    street: Sensitive[str]
    city: str


class Admitted(Event, type="clinic.admitted", key="email"):
    """Somebody wants to be treated."""

    email: Sensitive[str]
    patient: Sensitive[UUID]
    name: Annotated[str, Field(max_length=30), SENSITIVE]
    number: Annotated[int, Field(ge=1), SENSITIVE]
    born: Sensitive[date] | None = None
    vip: Sensitive[bool] = False
    homes: tuple[Address, ...] = ()
    kin: dict[Sensitive[str], str] = Field(default_factory=dict)
    ward: str = "a"


class Agreed(Event, type="clinic.agreed", key="email"):
    """The patient agrees."""

    email: str
    ward: str = "east"
    signed: Sensitive[str] = ""


class Left(Event, type="clinic.left", key="email"):
    """The patient has gone home."""

    email: str
    ward: str = "east"


class Insured(Event, type="insurance.covers"):
    policy: Sensitive[str]


class NotInsured(Event, type="insurance.covers_not"):
    reason: str


class Insure(Command[Insured, NotInsured], type="insurance.cover"):
    number: int
    name: str


class Released(Event, type="insurance.released"):
    pass


class Release(Command[Released, Never], type="insurance.release"):
    policy: str
    who: str


class Treated(Event, type="clinic.treated"):
    note: str = ""


class Treat(Command[Treated, Never], type="clinic.treat", key="patient"):
    patient: UUID
    words: str
    homes: tuple[Address, ...]
    kin: dict[str, str]


class Discharged(Event, type="clinic.discharged", key="email"):
    email: str
    born: date | None


class Turned(Event, type="clinic.turned_away"):
    reason: str


class Patient(BaseModel):
    """Hardly anything is marked here: the values are known from the events."""

    model_config = ConfigDict(frozen=True)

    email: str
    patient: UUID
    name: str
    number: int
    born: date | None
    vip: bool
    homes: tuple[Address, ...]
    kin: dict[str, str]
    ward: str
    policy: Sensitive[str] = ""
    failure: str = ""


def begin(event: Admitted) -> Patient:
    """The first data: all that the event says, if there is such a ward."""
    if event.ward == "nowhere":
        raise LookupError(f"no such ward for {event.name} ({event.born})")
    return Patient(**event.model_dump())


def insure(data: Patient) -> Insure:
    """Ask whether the treatment is paid."""
    return Insure(number=data.number, name=data.name)


def insured(data: Patient, event: Insured) -> Patient:
    """It is, if there is a bed; the error quotes the data."""
    if data.ward == "closed":
        raise ValueError(f"no bed for {data!r}, and none for {data.name!r} in particular")
    return data.model_copy(update={"policy": event.policy})


def not_insured(data: Patient, event: NotInsured) -> Patient:
    """It is not."""
    return data.model_copy(update={"failure": event.reason})


def release(data: Patient) -> Release:
    """Give the promise back, in words put together from the data."""
    return Release(policy=data.policy, who=f"{data.name} <{data.email}>")


def agreed(data: Patient, event: Agreed) -> Patient:
    """The signature, within a text."""
    return data.model_copy(update={"failure": f"signed {event.signed}"})


def treat(data: Patient) -> Treat:
    """A letter, the homes and the kin."""
    return Treat(
        patient=data.patient, words=f"Dear {data.name}, your number is {data.number}.", homes=data.homes, kin=data.kin
    )


def discharged(data: Patient) -> Discharged:
    """The announcement of the end."""
    return Discharged(email=data.email, born=data.born)


def turned(data: Patient) -> Turned:
    """The announcement of the other end."""
    return Turned(reason=data.failure)


def clinic(**options: Any) -> Saga[Patient]:
    """The saga; its key is the e-mail address and the ward."""
    return Saga(
        name="clinic",
        version=1,
        data=Patient,
        starts_on=Start(Admitted, begin, key=lambda event: f"{event.email}/{event.ward}"),
        cancel_on=Cancel(Left, key=lambda event: f"{event.email}/{event.ward}"),
        steps=(
            Step(
                "insurance",
                insure,
                on_success=insured,
                on_failure=not_insured,
                compensation=release,
                timeout=seconds(10),
                retry=Retry(attempts=2, backoff=seconds(1)),
                **options,
            ),
            Wait(
                Agreed,
                key=lambda event: f"{event.email}/{event.ward}",
                name="consent",
                on_event=agreed,
                timeout=hours(1),
            ),
            Step("treatment", treat, kind=PIVOT),
            Step("visit", treat, kind=RETRIABLE),
        ),
        on_completed=discharged,
        on_compensated=turned,
    )


CLINIC = clinic()
