"""Who may say what."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Never

import pytest

from contracts.message import Command, Event
from contracts.registry import Registry
from messaging.bus import Delivery
from messaging.received import Received, Unreadable, read
from messaging.senders import Senders
from messaging.settings import ServiceSettings
from orchestrator.catalog import Catalog
from orchestrator.routing import Router
from orchestrator.sagas.fulfill_order import FULFILL_ORDER
from orchestrator.sharding import Placement

TABLE = Senders.parse(["flight=travel", "parcel.sent=depot", "parcel.sent=shop", "orchestrator=conductor"])


@pytest.mark.parametrize(
    ("wire_type", "user_id", "command", "why"),
    [
        ("payment.authorized", "payment", False, None),
        ("payment.authorized", "orchestrator", False, None),
        ("payment.authorized", "operator", False, None),
        ("payment.authorize", "orchestrator", True, None),
        (
            "payment.authorized",
            None,
            False,
            "it names no sender (user_id), so nothing proves that payment.authorized comes from who may say it",
        ),
        (
            "order.confirmed",
            "payment",
            False,
            "user 'payment' may not say order.confirmed; that is for 'order'",
        ),
        (
            "payment.authorize",
            "payment",
            True,
            "user 'payment' sent payment.authorize, and commands come from the orchestrator only",
        ),
    ],
)
def test_a_type_belongs_to_the_user_called_like_its_first_word(
    wire_type: str, user_id: str | None, command: bool, why: str | None
) -> None:
    """Commands to the orchestrator alone; that may say everything, as may the operator."""
    assert Senders().refusal(wire_type, user_id, command=command) == why


@pytest.mark.parametrize(
    ("wire_type", "user_id", "allowed"),
    [
        ("flight.booked", "travel", True),
        ("flight.booked", "flight", False),
        ("parcel.sent", "depot", True),
        ("parcel.sent", "shop", True),
        ("parcel.sent", "parcel", False),
        ("parcel.lost", "parcel", True),
        ("parcel.sent.late", "shop", True),
        ("parcel.sentinel", "shop", False),
        ("payment.authorized", "conductor", True),
        ("payment.authorized", "orchestrator", False),
    ],
)
def test_a_table_says_otherwise(wire_type: str, user_id: str, allowed: bool) -> None:
    """Of a type, before its first word; several users add up; the orchestrator's user may be called otherwise."""
    assert (TABLE.refusal(wire_type, user_id) is None) is allowed


class Painted(Event, type="fence.painted"):
    color: str


class Paint(Command[Painted, Never], type="fence.paint"):
    color: str


REGISTRY = Registry([Painted, Paint])


def _delivery(wire_type: str, user_id: str, *, exchange: str = "amends.events", body: bytes = b"{}") -> Delivery:
    told = Delivery(queue="q", tag=1, body=body, exchange=exchange, routing_key="key", message_id="1")
    return replace(told, type=wire_type, user_id=user_id)


@pytest.mark.parametrize(
    ("delivery", "reason"),
    [
        (_delivery("fence.painted", "shed"), "forbidden_sender"),
        # A command, by its class and by where it was published, also where nobody here knows it yet.
        (_delivery("fence.paint", "fence"), "forbidden_sender"),
        (_delivery("fence.varnish", "fence", exchange="amends.commands"), "forbidden_sender"),
        (_delivery("fence.burned", "shed"), "forbidden_sender"),
        (_delivery("fence.burned", "fence"), "unknown"),
        (_delivery("fence.painted", "fence"), "invalid"),
        (_delivery("fence.painted", "shed", body=b"{"), "malformed"),
    ],
)
def test_what_its_sender_may_not_say_is_not_read(delivery: Delivery, reason: str) -> None:
    """Whatever it is besides: it might be sent again later, by those who may say everything."""
    found = read(delivery, REGISTRY, Senders())

    assert isinstance(found, Unreadable)
    assert found.reason == reason


def test_what_its_sender_may_say_is_read_and_nobody_looks_unless_asked() -> None:
    """An event by its service, a command by the orchestrator; without a table, anything by anybody."""
    body = b'{"color":"red"}'
    for delivery, senders in (
        (_delivery("fence.painted", "fence", body=body), Senders()),
        (_delivery("fence.paint", "orchestrator", exchange="amends.commands", body=body), Senders()),
        (_delivery("fence.painted", "shed", body=body), None),
    ):
        assert isinstance(read(delivery, REGISTRY, senders), Received)


def test_settings_say_whether_and_who(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off unless asked for; entries are separated by commas, and what is none is refused."""
    assert ServiceSettings().allowed is None
    monkeypatch.setenv("AMENDS_CHECK_SENDERS", "true")
    monkeypatch.setenv("AMENDS_SENDERS", "flight=travel, hotel=travel")
    allowed = ServiceSettings().allowed
    assert allowed is not None
    assert allowed.of("hotel.booked") == {"travel"}

    monkeypatch.setenv("AMENDS_SENDERS", "flight:travel")
    with pytest.raises(ValueError, match="'flight:travel' says nothing about a sender; write TYPE=USER"):
        ServiceSettings()


def test_what_its_sender_may_not_say_is_not_handed_on_to_another_shard() -> None:
    """There it would come from the orchestrator; whoever has taken it buries it."""
    created = {
        "order_id": "7d7d7d7d-0000-5000-8000-000000000001",
        "customer_id": "ada",
        "total": {"amount": 1, "currency": "USD"},
        "items": 1,
    }
    body = json.dumps(created).encode()
    catalog = Catalog([FULFILL_ORDER])
    handed_on = {
        user: [
            Router(catalog, Placement(number, 2), Senders()).route(_delivery("order.created", user, body=body))
            for number in (0, 1)
        ]
        for user in ("order", "payment")
    }

    assert sorted(each is not None for each in handed_on["order"]) == [False, True]
    assert handed_on["payment"] == [None, None]
