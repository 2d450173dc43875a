"""One trace a saga, from the request through every service and back, in memory and on real servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from messaging.bus import Bus
from messaging.memory import MemoryBus
from messaging.memory_broker import MemoryBroker
from messaging.rabbitmq import RabbitBus
from tests.contract.telemetry.shop import shop
from tests.contract.telemetry.spans import Collected, told

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"

Buses = Callable[[str], Bus]
Databases = Callable[[str], str]


@pytest.fixture(params=["memory", "servers"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Buses, Databases]:
    """Where services meet, and where each keeps its rows."""
    if request.param == "memory":
        broker = MemoryBroker()
        return lambda name: MemoryBus(broker, service=name), lambda name: f"sqlite:///{tmp_path / name}.db"
    amqp_url: str = request.getfixturevalue("amqp_url")
    fresh: Callable[[], str] = request.getfixturevalue("fresh_postgres")
    return lambda name: RabbitBus(amqp_url, service=name), lambda _name: fresh()


async def test_an_order_that_is_paid_is_one_trace(places: tuple[Buses, Databases], spans: Collected) -> None:
    """It begins where the caller is, and leads through every publication and every batch to the order's completion."""
    async with shop(*places, provider=spans.provider) as running:
        order = await running.place(traceparent=CALLER)
    assert order["status"] == "completed"

    (request,) = spans.named("POST /orders")
    mine = [each for each in spans.all if f"{each.context.trace_id:032x}" == TRACE]
    assert Counter(map(told, mine)) == Counter(
        [
            "POST /orders",
            *("publish amends.events order.created", "process orchestrator.events order.created"),
            *("publish amends.commands payment.authorize", "process payment.commands payment.authorize"),
            *("publish amends.events payment.authorized", "process orchestrator.events payment.authorized"),
            *("publish amends.commands order.confirm", "process order.commands order.confirm"),
            *("publish amends.events order.confirmed", "process orchestrator.events order.confirmed"),
            *("publish amends.commands payment.capture", "process payment.commands payment.capture"),
            *("publish amends.events payment.captured", "process orchestrator.events payment.captured"),
            *("publish amends.events fulfillment.completed", "process order.events fulfillment.completed"),
        ]
    )
    (last,) = [each for each in mine if told(each) == "process order.events fulfillment.completed"]
    assert spans.path(last) == [
        "POST /orders",
        "process orchestrator.events order.created",
        "process payment.commands payment.authorize",
        "process orchestrator.events payment.authorized",
        "process order.commands order.confirm",
        "process orchestrator.events order.confirmed",
        "process payment.commands payment.capture",
        "process orchestrator.events payment.captured",
        "process order.events fulfillment.completed",
    ]
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == "b7ad6b7169203331"
    assert (request.attributes or {})["http.response.status_code"] == 201
    (first,) = [each for each in mine if told(each) == "process orchestrator.events order.created"]
    said = dict(first.attributes or {})
    assert (said["amends.saga"], said["amends.status"], said["amends.step"]) == (
        "fulfill_order",
        "running",
        "authorize_payment",
    )
    assert said["messaging.destination.name"] == "orchestrator.events"


async def test_making_amends_is_in_the_same_trace(places: tuple[Buses, Databases], spans: Collected) -> None:
    """An order of which nothing is in stock: the refusal leads to the compensation, and that to the cancellation."""
    async with shop(*places, provider=spans.provider, default_stock=0) as running:
        order = await running.place(traceparent=CALLER)
        await spans.ended("process order.events fulfillment.failed")
    assert (order["status"], order["reason"]) == ("canceled", "out_of_stock")

    (undone,) = [each for each in spans.all if told(each) == "process payment.commands payment.void"]
    assert spans.path(undone) == [
        "POST /orders",
        "process orchestrator.events order.created",
        "process payment.commands payment.authorize",
        "process orchestrator.events payment.authorized",
        "process order.commands order.confirm",
        "process orchestrator.events order.rejected",
        "process payment.commands payment.void",
    ]
    placed = [each for each in spans.all if f"{each.context.trace_id:032x}" == TRACE]
    (ended,) = [each for each in placed if told(each) == "process order.events fulfillment.failed"]
    assert (ended.attributes or {})["messaging.system"] in ("memory", "rabbitmq")
