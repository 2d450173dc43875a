"""Sagas that are told something sealed pass it on; what would depend on it is refused when they are defined."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Never
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, ConfigDict, Field

from contracts import SENSITIVE, Carried, Command, Event, Personal, Sealed, Sensitive
from contracts.places import Misplaced
from orchestrator import Cancel, Delay, InvalidSaga, Start, Step, Wait, history, seconds
from orchestrator.saga.facts import Completed, DataChanged
from orchestrator.saga.fingerprint import fingerprint
from orchestrator.saga.inputs import EventArrived
from orchestrator.saga.machine import move
from orchestrator.saga.state import Direction, command_id, saga_id
from tests.unit.mailing import (
    MAILING,
    Mailing,
    Ordered,
    OrderTold,
    ReceiptRefused,
    ReceiptSent,
    SendReceipt,
    mailing,
    send,
    sent,
)
from tests.unit.play import NOON

ORDER = UUID("1b4e28ba-2fa1-41d2-883f-0016d3cca427")
EMAIL = Sealed("shop.ordered", "email", "k-1", "AAAA", "BBBB")
PHONE = Sealed("shop.ordered", "phone", "k-1", "AAAA", "CCCC")
SERVER = Sealed("mail.receipt_sent", "server", "k-1", "AAAA", "DDDD")
ORDERED = Ordered(order_id=ORDER, customer_id="c-1", email=EMAIL)
STEP: Any = Step
MINE = saga_id("mailing", str(ORDER))


class Careful(Mailing):
    """Data that marks more than it needs to."""

    mobile: Personal[str] | None = None
    amount: int = 0


class Asked(Event, type="shop.asked", subject="customer_id"):
    """Somebody asks for something."""

    customer_id: str
    phone: Personal[str]


class Unasked(Command[ReceiptSent, ReceiptRefused], type="mail.unasked", subject="customer_id"):
    """A command that does not say from where its address comes."""

    customer_id: str
    address: Sensitive[str]


class Subjectless(Command[ReceiptSent, ReceiptRefused], type="mail.subjectless"):
    """A command about nobody."""

    to: Sensitive[str]


class Unmarked(BaseModel):
    """Data without marks."""

    model_config = ConfigDict(frozen=True)

    address: str = ""


class Plain(Event, type="shop.plain", key="email"):
    """An event without a subject."""

    email: Sensitive[str]


class Data(BaseModel):
    """Marked data of a saga that hears nothing sealed."""

    model_config = ConfigDict(frozen=True)

    email: Sensitive[str]


class Do(Command[OrderTold, Never], type="shop.do"):
    """A command without a subject."""

    email: Sensitive[str]


def _arrived(event: Event, cause: UUID | None = None) -> EventArrived:
    return EventArrived(NOON, uuid4(), event, "shop", cause)


def test_what_is_sealed_passes_through_a_saga() -> None:
    """It lies in the data and in the command as it came; an answer's too; the history is read back the same."""
    transition, state = move(MAILING, MINE, None, _arrived(ORDERED))
    assert [SendReceipt(order_id=ORDER, customer_id="c-1", to=EMAIL)] == [each.message for each in transition.sends]
    command = command_id(MINE, "send_receipt", Direction.ACTION, 1)
    answer = ReceiptSent(order_id=ORDER, customer_id="c-1", server=SERVER)
    answered, done = move(MAILING, MINE, state, _arrived(answer, command))
    assert done is not None
    data = Mailing(order_id=ORDER, customer_id="c-1", email=EMAIL, server=SERVER)
    assert data == done.data
    assert [DataChanged, Completed] == [type(each) for each in answered.facts if not hasattr(each, "step")]
    read = history.load_facts(history.dump_facts(answered.facts), MAILING)
    assert read == answered.facts
    assert '"server":{"$sealed":"1","type":"mail.receipt_sent","field":"server"' in history.dump_facts(answered.facts)


def test_plain_and_sealed_values_follow_each_other() -> None:
    """An instance that began before sealing was turned on goes on with answers from after, and the other way round."""
    plain = Ordered(order_id=ORDER, customer_id="c-1", email="a@b.c")
    for event, answer in ((plain, SERVER), (ORDERED, "smtp")):
        _, state = move(mailing(steps=(STEP("send_receipt", send, on_success=_replaced),)), MINE, None, _arrived(event))
        command = command_id(MINE, "send_receipt", Direction.ACTION, 1)
        said = ReceiptSent(order_id=ORDER, customer_id="c-1", server=answer)
        _, done = move(
            mailing(steps=(STEP("send_receipt", send, on_success=_replaced),)), MINE, state, _arrived(said, command)
        )
        assert done is not None
        assert done.data.email == answer or done.data.email is answer


def _replaced(data: Mailing, event: ReceiptSent) -> Mailing:
    return data.model_copy(update={"email": event.server})


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda data: SendReceipt(order_id=ORDER, customer_id="c", to=PHONE), "shop.ordered phone does not open there"),
        (lambda data: SendReceipt(order_id=ORDER, customer_id="c", to=f"{data.email}"), "cannot be made a text"),
    ],
    ids=["other", "text"],
)
def test_what_would_not_open_is_not_sent(function: Any, why: str) -> None:
    """The machine refuses, so that the instance is stuck where the mistake was made."""

    def wrong(data: Mailing) -> SendReceipt:
        found: SendReceipt = function(data)
        return found

    with pytest.raises((Misplaced, TypeError), match=why):
        move(mailing(steps=(STEP("send_receipt", wrong),)), MINE, None, _arrived(ORDERED))


def test_a_command_about_nobody_carries_nothing_sealed() -> None:
    """Its reader could not open it."""

    def wrong(data: Mailing) -> Subjectless:
        return Subjectless(to=data.email)

    with pytest.raises(Misplaced, match=r"mail\.subjectless names no subject"):
        move(mailing(steps=(STEP("send_receipt", wrong),)), MINE, None, _arrived(ORDERED))


def test_data_that_is_not_marked_cannot_hold_it() -> None:
    """The error says what to do."""

    def begin(event: Ordered) -> Unmarked:
        return Unmarked().model_copy(update={"address": event.email})

    def act(data: Unmarked) -> SendReceipt:
        raise AssertionError("not reached")

    saga = mailing(
        data=Unmarked,
        starts_on=Start(Ordered, begin, key=lambda event: event.order_id),
        steps=(STEP("send_receipt", act),),
        on_completed=None,
        search=(),
    )
    with pytest.raises(TypeError, match="only a field that is marked Sensitive can hold"):
        move(saga, MINE, None, _arrived(ORDERED))


def _begin(event: Ordered) -> Careful:
    return Careful(order_id=event.order_id, customer_id=event.customer_id, email=event.email)


def _ask(data: Any) -> Unasked:
    return Unasked(customer_id=data.customer_id, address=data.email)


def _send(data: Any) -> SendReceipt:
    return SendReceipt(order_id=data.order_id, customer_id=data.customer_id, to=data.email)


def _loud(event: Ordered) -> str:
    return _in_capitals(event)


def _in_capitals(event: Ordered) -> str:
    return f"{event.order_id} {event.email}".upper()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (
            {"starts_on": Start(Ordered, _begin, key=lambda e: e.email)},
            "starts_on: its key is made of what shop.ordered",
        ),
        ({"starts_on": Start(Ordered, _begin, key=_loud)}, "starts_on: its key is made of what shop.ordered seals"),
        ({"cancel_on": Cancel(Asked, key=lambda event: event.phone)}, "cancel_on: its key is made of what shop.asked"),
        ({"steps": (Wait(Asked, key=lambda event: event.phone),)}, "step 'shop.asked': its key is made of"),
        ({"steps": (STEP("s", _send, when=lambda d: d.email.endswith("x")),)}, "step 's': when depends on what may be"),
        (
            {"steps": (STEP("s", _send, when=lambda d: d.mobile),)},
            r"when depends on .*\(email, mobile, server of Careful",
        ),
        ({"steps": (STEP("s", _send, when=lambda d: d.email == "x"),)}, "only see whether it is None"),
        ({"steps": (Delay(lambda d: seconds(len(d.email)), name="p"),)}, "step 'p': duration depends on what may be"),
        ({"search": ("email",)}, "search names 'email', which is marked as sensitive and may be sealed"),
        ({"steps": (STEP("s", _ask),)}, r'mail.unasked address is sealed, .* Carried\("shop.ordered", "email"\)\]'),
    ],
    ids=["key", "helper", "cancel", "wait", "when", "truth", "equal", "delay", "search", "uncarried"],
)
def test_what_depends_on_something_sealed_is_refused(changed: dict[str, Any], why: str) -> None:
    """The definition says so when it is made, and what to do."""
    given: dict[str, Any] = {
        "data": Careful,
        "starts_on": Start(Ordered, _begin, key=lambda event: event.order_id),
        "steps": (STEP("send_receipt", _send),),
        "on_completed": None,
        "search": (),
    }
    with pytest.raises(InvalidSaga, match=why):
        mailing(**(given | changed))


def test_what_does_not_depend_on_it_is_taken() -> None:
    """Whether there is something, the subject, and all that is not marked may decide; what cannot be tried is taken."""
    saga = mailing(
        data=Careful,
        starts_on=Start(Ordered, _begin, key=lambda event: str(event.order_id)),
        steps=(
            STEP("a", _send, when=lambda d: d.mobile is not None),
            STEP("b", _send, when=lambda d: d.customer_id == "c-1"),
            STEP("c", _send, when=lambda d: d.amount > 3 and bool(d.email)),
            Delay(lambda d: timedelta(seconds=d.amount), name="d"),
        ),
        on_completed=None,
        search=("customer_id", "amount"),
    )
    assert saga.seals


def test_data_that_cannot_hold_a_token_is_refused() -> None:
    """What checks its value after the mark would be asked of the token."""

    class Checked(Mailing):
        email: Annotated[Sensitive[str], Field(max_length=40)]

    with pytest.raises(InvalidSaga, match="Checked: email cannot hold what is sealed"):
        mailing(data=Checked, search=())


def test_a_saga_that_is_told_nothing_sealed_is_as_before() -> None:
    """Marks alone refuse nothing: only a subject makes a contract sealed."""

    def begin(event: Plain) -> Data:
        return Data(email=event.email)

    def act(data: Data) -> Do:
        return Do(email=data.email)

    saga = mailing(
        data=Data,
        starts_on=Start(Plain, begin, key=lambda event: event.email),
        steps=(STEP("s", act, when=lambda data: data.email.endswith("x")),),
        on_completed=None,
        search=("email",),
    )
    assert not saga.seals


def test_a_mark_is_no_part_of_a_fingerprint() -> None:
    """Data that is marked later is the same data to instances in flight."""

    class Open(BaseModel):
        model_config = ConfigDict(frozen=True)

        order_id: UUID
        customer_id: str
        email: str
        server: str | None = None

    Open.__name__ = Open.__qualname__ = "Mailing"
    assert fingerprint(mailing()) == fingerprint(MAILING)
    marked, unmarked = Mailing.model_json_schema(), Open.model_json_schema()
    assert marked["properties"] == unmarked["properties"]
    assert SENSITIVE in Mailing.model_fields["email"].metadata
    assert Carried("shop.ordered", "email") in SendReceipt.model_fields["to"].metadata
    assert sent.__name__ == "sent"
