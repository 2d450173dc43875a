"""Search attributes: which a definition may declare, and what text their values are found by."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from orchestrator import InvalidSaga, Saga, Start
from orchestrator.instance import Instance, changed_attributes
from orchestrator.saga.attributes import attributes
from orchestrator.saga.fingerprint import describe, fingerprint
from orchestrator.saga.state import SagaState
from tests.unit.work import Begun, pivot

Sku = NewType("Sku", str)


class Grade(Enum):
    """A value that is no text."""

    HIGH = 3


class Price(BaseModel):
    """A value of two parts."""

    amount: int
    currency: str


class Order(BaseModel):
    """Every kind of field."""

    model_config = ConfigDict(frozen=True)

    id: int
    customer: str = "42"
    paid: bool = True
    weight: float = 1.5
    rate: Decimal = Decimal("1.10")
    token: UUID = UUID(int=7)
    day: date = date(2026, 3, 1)
    at: datetime = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    grade: Grade = Grade.HIGH
    kind: Literal["gift", "plain"] = "gift"
    sku: Sku | None = Sku("A-1")
    coupon: str | None = None
    total: Price = Price(amount=1999, currency="USD")
    deposit: Annotated[Price | None, Field(description="in advance")] = None
    lines: tuple[str, ...] = ()
    secret: SecretStr = SecretStr("x")
    anything: Any = None


def _begin(event: Begun) -> Order:
    return Order(id=event.id)


def _saga(search: Any) -> Saga[Order]:
    return Saga(
        name="order",
        version=1,
        data=Order,
        starts_on=Start(Begun, _begin, key=lambda event: event.id),
        steps=(pivot("sign"),),  # type: ignore[arg-type]  # its data is another; nothing here runs it
        search=search,
    )


@pytest.mark.parametrize(
    ("search", "says"),
    [
        ("customer", r"saga 'order' v1: search must be a tuple of names; write search=\('customer',\)"),
        (["customer"], r"search=\['customer'\] must be a tuple of names of fields of Order"),
        (("customer", "id", "customer"), "search names 'customer' twice; drop one"),
        (("buyer",), "search names 'buyer', but Order has no field 'buyer'; it has id, customer, paid,"),
        (("total",), "search names 'total', which is a Price; name a field of it: total.amount, total.currency"),
        (("deposit",), "which is a Price; name a field of it: deposit.amount, deposit.currency"),
        (("total.tax",), "but Price has no field 'tax'; it has amount, currency"),
        (("customer.name",), "but customer is str, which has no fields"),
        (("lines",), "only a field with one plain value can be searched for .* give the data such a field"),
        (("secret",), "which is SecretStr; only a field with one plain value"),
        (("anything",), "which is Any; only a field with one plain value"),
        (("",), "Order has no field ''"),
        (("x" * 121,), "a name has at most 120 characters"),
    ],
)
def test_what_cannot_be_searched_for_is_refused_at_import(search: Any, says: str) -> None:
    """InvalidSaga says what is wrong with the declaration and how to mend it."""
    with pytest.raises(InvalidSaga, match=says):
        _saga(search)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("id", "1"),
        ("customer", "42"),
        ("paid", "true"),
        ("weight", "1.5"),
        ("rate", "1.10"),
        ("token", "00000000-0000-0000-0000-000000000007"),
        ("day", "2026-03-01"),
        ("at", "2026-03-01T12:00:00Z"),
        ("grade", "3"),
        ("kind", "gift"),
        ("sku", "A-1"),
        ("total.amount", "1999"),
        ("total.currency", "USD"),
    ],
)
def test_a_value_is_found_by_its_text(name: str, text: str) -> None:
    """A string is its own text; everything else is what JSON shows."""
    assert attributes(_saga((name,)).search, Order(id=1)) == {name: text}


def test_what_has_no_value_has_no_attribute() -> None:
    """None, a field of an absent model, and an instance without data are simply not found."""
    search = _saga(("coupon", "deposit.currency", "customer")).search
    assert attributes(search, Order(id=1)) == {"customer": "42"}
    assert attributes(search, None) == {}


def test_search_is_no_part_of_how_a_saga_behaves() -> None:
    """Declaring an attribute later changes neither the fingerprint nor the description."""
    plain, searched = _saga(()), _saga(("customer", "total.currency"))
    assert fingerprint(plain) == fingerprint(searched)
    assert describe(plain) == describe(searched)


def _changed(search: tuple[str, ...], *, version: int, revision: int = 1) -> object:
    instance = Instance(
        id=UUID(int=1),
        name="order",
        saga=_saga(search),
        key="1",
        state=SagaState(data=Order(id=1, customer="ann")),
        revision=revision,
        loaded_revision=revision,
        version=version,
    )
    return changed_attributes(instance, SagaState(data=Order(id=1, customer="ann", paid=False)))


def test_only_what_has_changed_is_written() -> None:
    """A transition that leaves the declared fields alone writes nothing, and a saga without any never does."""
    assert _changed(("customer",), version=1) is None
    assert _changed(("customer", "paid"), version=1) == {"customer": "ann", "paid": "false"}
    assert _changed((), version=1) is None


def test_a_migrated_instance_is_indexed_as_its_new_version_declares() -> None:
    """Whatever the old one declared: also where the values are the same, or nothing is declared any more."""
    assert _changed(("customer",), version=7) == {"customer": "ann"}
    assert _changed((), version=7) == {}
