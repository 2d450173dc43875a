"""Messages, money and the registry: what they are, and what they refuse in which words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Never, TypeVar
from uuid import UUID

import pytest
from pydantic import ValidationError

from contracts import Command, Event, InvalidMessage, Money, Registry, UnknownMessage, Upcaster
from contracts.order import ConfirmOrder, OrderConfirmed, OrderCreated, OrderRejected
from contracts.payment import CapturePayment, PaymentCaptured

ORDER = UUID("00000000-0000-7000-8000-000000000001")

Answer = TypeVar("Answer", bound=Event)


class Sent(Event, type="parcel.sent", key="parcel"):
    """The first version."""

    parcel: str
    weight: int


class SentWithUnit(Event, type="parcel.sent", version=2, key="parcel"):
    """The second says grams or pounds."""

    parcel: str
    weight: int
    unit: str


class SentInGrams(Event, type="parcel.sent", version=3, key="parcel"):
    """The third knows only grams."""

    parcel: str
    grams: int


def with_unit(old: Sent) -> SentWithUnit:
    """The first as the second."""
    return SentWithUnit(parcel=old.parcel, weight=old.weight, unit="pound")


def in_grams(old: SentWithUnit) -> SentInGrams:
    """The second as the third."""
    return SentInGrams(parcel=old.parcel, grams=old.weight * 454 if old.unit == "pound" else old.weight)


# -- messages ------------------------------------------------------------------------------------------------


def test_a_message_names_its_wire_type_version_and_key() -> None:
    """They are said once, at the class."""
    assert ("order.created", 1, "order_id") == (
        OrderCreated.wire_type,
        OrderCreated.wire_version,
        OrderCreated.key_field,
    )
    assert ("parcel.sent", 2) == (SentWithUnit.wire_type, SentWithUnit.wire_version)


def test_the_ordering_key_is_the_value_of_the_key_field() -> None:
    """As text, and None where no key was declared."""
    assert OrderConfirmed(order_id=ORDER).ordering_key == "00000000-0000-7000-8000-000000000001"

    class Keyless(Event, type="parcel.lost"):
        parcel: str

    assert Keyless(parcel="a").ordering_key is None


def test_a_class_without_a_type_is_a_base_for_others() -> None:
    """A shared base needs no wire type, and what is derived from it names its own."""

    class Parcel(Event):
        parcel: str

    class Weighed(Parcel, type="parcel.weighed", key="parcel"):
        grams: int

    assert ("", "parcel.weighed", "parcel") == (Parcel.wire_type, Weighed.wire_type, Weighed.key_field)


def test_a_message_cannot_be_changed() -> None:
    """What was sent was sent."""
    event = OrderConfirmed(order_id=ORDER)
    with pytest.raises(ValidationError, match="frozen"):
        event.order_id = ORDER  # type: ignore[misc]


def test_a_message_is_deaf_to_fields_it_does_not_know() -> None:
    """A publisher may add a field before its readers are deployed."""
    assert OrderConfirmed(order_id=ORDER) == OrderConfirmed.model_validate({"order_id": str(ORDER), "color": "red"})


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_message_holds_no_number_that_json_cannot_say(number: float) -> None:
    """NaN and infinity are refused before they are sent."""

    class Measured(Event, type="parcel.measured"):
        meters: float

    with pytest.raises(ValidationError, match="finite number"):
        Measured(meters=number)


def test_a_command_says_what_answers_it() -> None:
    """Success first, then the refusal, if there is one."""
    assert (OrderConfirmed, OrderRejected) == ConfirmOrder.answers()
    assert (PaymentCaptured,) == CapturePayment.answers()
    assert (PaymentCaptured, None) == (CapturePayment.success_type, CapturePayment.failure_type)


def test_a_command_may_be_generic_until_it_says_its_answers() -> None:
    """A base that leaves the answer open has none; what fills it in has."""

    class Asking(Command[Answer, Never]):
        parcel: str

    class AskToSend(Asking[Sent], type="parcel.send"):
        """Send it."""

    assert () == Asking.answers()
    assert ("parcel.send", "a") == (AskToSend.wire_type, AskToSend(parcel="a").parcel)


def broken_type(wire_type: str) -> Callable[[], object]:
    """The making of an event with this wire type."""

    def make() -> object:
        class Broken(Event, type=wire_type):
            parcel: str

        return Broken

    return make


def broken_version() -> object:
    """Make an event whose versions count from nought."""

    class Broken(Event, type="parcel.sent", version=0):
        parcel: str

    return Broken


def broken_key() -> object:
    """Make an event ordered by what it does not have."""

    class Broken(Event, type="parcel.sent", key="order_id"):
        parcel: str
        weight: int

    return Broken


def unanswered() -> object:
    """Make a command that nobody answers."""

    class Broken(Command, type="parcel.send"):  # type: ignore[type-arg]
        parcel: str

    return Broken


NO_WIRE_TYPE = "is no wire type; write service.what_happened in lower case, at most 120 characters"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        *[
            (broken_type(wire_type), f"Broken: type={wire_type!r} {NO_WIRE_TYPE}")
            for wire_type in ("", "sent", "Parcel.sent", "parcel.Sent", "parcel.", ".sent", "parcel sent.now", "a.#")
        ],
        (broken_type("parcel." + "s" * 114), NO_WIRE_TYPE),
        (broken_version, "Broken: version=0; versions count from 1"),
        (broken_key, "Broken: key='order_id' is not one of its fields (parcel, weight)"),
        (
            unanswered,
            (
                "Broken: say what answers it: Command[Success, Failure], or Command[Success, Never] where it cannot be "
                "refused"
            ),
        ),
    ],
)
def test_a_message_that_could_not_travel_is_refused_at_import(make: Callable[[], object], said: str) -> None:
    """The refusal names the class, what is wrong and what to write."""
    with pytest.raises(TypeError) as refusal:
        make()
    assert str(refusal.value).endswith(said)


def test_the_longest_wire_type_fits() -> None:
    """120 characters are not too many."""
    broken_type("parcel." + "s" * 113)()


# -- money ---------------------------------------------------------------------------------------------------


def usd(amount: int) -> Money:
    """Cents."""
    return Money(amount=amount, currency="USD")


def test_money_adds_and_subtracts_in_one_currency() -> None:
    """In minor units, and never by rounding."""
    assert usd(3000) == usd(2933) + usd(67)
    assert usd(-34) == usd(33) - usd(67)


def test_money_of_two_currencies_does_not_mix() -> None:
    """There is no rate to guess."""
    euros = Money(amount=5, currency="EUR")
    with pytest.raises(ValueError, match=r"^0\.05 EUR and 0\.67 USD are different currencies; convert one first$"):
        usd(67) + euros
    with pytest.raises(ValueError, match="different currencies"):
        usd(67) - euros


@pytest.mark.parametrize(
    ("amount", "text"),
    [(2933, "29.33 USD"), (5, "0.05 USD"), (0, "0.00 USD"), (-5, "-0.05 USD"), (-12345, "-123.45 USD")],
)
def test_money_reads_like_money(amount: int, text: str) -> None:
    """Two decimals and the currency."""
    assert text == str(usd(amount))


@pytest.mark.parametrize(
    "content",
    [
        {"amount": 29.33, "currency": "USD"},
        {"amount": 29.0, "currency": "USD"},
        {"amount": "2933", "currency": "USD"},
        {"amount": True, "currency": "USD"},
        {"amount": 2**63, "currency": "USD"},
        {"amount": -(2**63) - 1, "currency": "USD"},
        {"amount": 1, "currency": "usd"},
        {"amount": 1, "currency": "DOLLAR"},
        {"amount": 1, "currency": "USD\n"},
        {"amount": 1},
        {"amount": 1, "currency": "USD", "rate": 2},
    ],
)
def test_what_is_not_money_is_refused(content: dict[str, Any]) -> None:
    """No floats, no numerals, nothing wider than a BIGINT, no made-up currencies, nothing else besides."""
    with pytest.raises(ValidationError):
        Money.model_validate(content)


def test_money_is_as_wide_as_a_bigint() -> None:
    """Both ends are in."""
    assert (2**63 - 1, -(2**63)) == (usd(2**63 - 1).amount, usd(-(2**63)).amount)


# -- registry ------------------------------------------------------------------------------------------------


def test_a_registry_reads_a_message_by_type_and_version() -> None:
    """What comes out is the class that names them."""
    registry = Registry([OrderConfirmed, Sent, SentInGrams])
    assert Sent(parcel="a", weight=2) == registry.parse("parcel.sent", 1, {"parcel": "a", "weight": 2})
    assert SentInGrams(parcel="a", grams=2) == registry.parse("parcel.sent", 3, {"parcel": "a", "grams": 2})


def test_older_versions_come_out_as_the_newest() -> None:
    """Each upcaster leads on to the next, from wherever the message begins."""
    registry = Registry(
        upcasters=[Upcaster(Sent, SentWithUnit, with_unit), Upcaster(SentWithUnit, SentInGrams, in_grams)]
    )
    assert SentInGrams(parcel="a", grams=908) == registry.parse("parcel.sent", 1, {"parcel": "a", "weight": 2})
    second = {"parcel": "a", "weight": 2, "unit": "gram"}
    assert SentInGrams(parcel="a", grams=2) == registry.parse("parcel.sent", 2, second)
    assert SentInGrams(parcel="a", grams=2) == registry.parse("parcel.sent", 3, {"parcel": "a", "grams": 2})


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (SentWithUnit, Sent, "not from parcel.sent v2 to parcel.sent v1"),
        (Sent, Sent, "not from parcel.sent v1 to parcel.sent v1"),
        (OrderConfirmed, Sent, "not from order.confirmed v1 to parcel.sent v1"),
    ],
)
def test_an_upcaster_leads_to_a_later_version_of_the_same(source: Any, target: Any, said: str) -> None:
    """Anything else would never end, or turn one message into another."""
    with pytest.raises(TypeError) as refusal:
        Upcaster(source, target, lambda old: old)
    assert f"an upcaster leads from an older to a newer version of one wire type, {said}" == str(refusal.value)


@pytest.mark.parametrize(
    ("wire_type", "version", "said"),
    [
        ("parcel.lost", 1, "parcel.lost is not a message this process knows"),
        (
            "parcel.sent",
            4,
            "parcel.sent v4 is not known here, only v1, v3; deploy the reader that knows it, then redrive",
        ),
    ],
)
def test_what_nobody_speaks_is_refused(wire_type: str, version: int, said: str) -> None:
    """An unknown type and an unknown version of a known one are told apart."""
    registry = Registry([Sent, SentInGrams])
    with pytest.raises(UnknownMessage) as refusal:
        registry.parse(wire_type, version, {})
    assert said == str(refusal.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"parcel": "a"}, "parcel.sent v1: weight: Field required"),
        (
            {"weight": "heavy"},
            (
                "parcel.sent v1: parcel: Field required; weight: Input should be a valid integer, "
                "unable to parse string as an integer"
            ),
        ),
        ([], "parcel.sent v1: body: Input should be a valid dictionary or instance of Sent"),
        (None, "parcel.sent v1: body: Input should be a valid dictionary or instance of Sent"),
    ],
)
def test_data_that_does_not_fit_is_refused_by_field(data: object, said: str) -> None:
    """The refusal names the message and each field, and repeats nothing of the data."""
    with pytest.raises(InvalidMessage) as refusal:
        Registry([Sent]).parse("parcel.sent", 1, data)
    assert said == str(refusal.value)


def test_a_long_list_of_misfits_is_cut() -> None:
    """Five fields are enough to see what is wrong."""

    class Form(Event, type="parcel.form"):
        a: int
        b: int
        c: int
        d: int
        e: int
        f: int
        g: int

    with pytest.raises(InvalidMessage, match=r"e: Field required; and 2 more$"):
        Registry([Form]).parse("parcel.form", 1, {})


def test_a_nested_misfit_is_named_by_its_path() -> None:
    """Down to the field inside the field."""
    data = {"order_id": str(ORDER), "customer_id": "ann", "items": 1, "total": {"amount": 1.5, "currency": "USD"}}
    with pytest.raises(InvalidMessage, match=r"^order\.created v1: total\.amount: Input should be a valid integer"):
        Registry([OrderCreated]).parse("order.created", 1, data)


def test_two_classes_cannot_claim_one_wire_type() -> None:
    """Neither when they are added nor when two registries become one."""

    class Other(Event, type="parcel.sent"):
        parcel: str

    said = r"^parcel\.sent v1 is claimed by .*\.Sent and .*\.Other; give one another type or version$"
    with pytest.raises(TypeError, match=said):
        Registry([Sent, Other])
    with pytest.raises(TypeError, match=said):
        Registry([Sent]).union(Registry([Other]))


def test_a_class_without_a_wire_type_is_refused() -> None:
    """It could never arrive."""

    class Parcel(Event):
        parcel: str

    with pytest.raises(TypeError, match=r"^Parcel names no wire type: class X\(Event, type='\.\.\.'\)$"):
        Registry([Parcel])


def test_a_registry_knows_its_messages() -> None:
    """In order of type and version, each once; a class of the same name elsewhere is not it."""
    registry = Registry([SentInGrams, Sent, OrderConfirmed, Sent])
    assert (OrderConfirmed, Sent, SentInGrams) == registry.messages()
    assert Sent in registry
    assert SentWithUnit not in registry


def test_a_union_knows_what_both_know() -> None:
    """Messages and upcasters; the two it is made of stay as they were."""
    one, other = Registry([OrderConfirmed]), Registry(upcasters=[Upcaster(Sent, SentWithUnit, with_unit)])
    both = one.union(other)
    assert (OrderConfirmed, Sent, SentWithUnit) == both.messages()
    assert SentWithUnit(parcel="a", weight=2, unit="pound") == both.parse(
        "parcel.sent", 1, {"parcel": "a", "weight": 2}
    )
    assert (OrderConfirmed,) == one.messages()
