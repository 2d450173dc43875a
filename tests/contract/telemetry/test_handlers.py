"""Handlers and domain code of users within their spans: what they emit, trace and log belongs to their trace."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from uuid import UUID

import structlog
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from messaging import logging, schema
from messaging.bisecting import HandlerFailed
from messaging.bus import Delivery
from messaging.envelope import Envelope
from messaging.outbox import emit
from messaging.participant import Participant
from messaging.received import Received
from messaging.serving import ParticipantConsumer
from messaging.telemetry.counting import BatchMeter
from messaging.telemetry.observing import ObservedConsumer
from messaging.telemetry.tracing import Tracing
from tests.contract.messaging.bench import NOON, Bench
from tests.contract.messaging.parcels import Ordered, Pack, Packed, Refused
from tests.contract.telemetry.figures import total, values
from tests.contract.telemetry.spans import Collected

TRACE = "0af7651916cd43dd8448eb211c80319c"
PLACE = f"00-{TRACE}-b7ad6b7169203331-01"


def _at(place: str, delivery: Delivery) -> Delivery:
    return replace(delivery, body=json.dumps(json.loads(delivery.body) | {"traceparent": place}).encode())


async def _serve(bench: Bench, participant: Participant, spans: Collected) -> BatchMeter:
    consumer = ParticipantConsumer(participant, clock=bench.clock, entropy=bench.entropy)
    meter = BatchMeter(consumer.name)
    observed = ObservedConsumer(consumer, meter, bench.clock, Tracing(spans.provider, "memory"))
    await bench.serve(observed)
    consumer.calls.connect(bench.worker.submit)
    meter.worker = bench.worker
    return meter


async def test_a_handler_is_within_its_messages_span(bench: Bench, spans: Collected) -> None:
    """Its own spans, what it emits and what it answers lie beneath it."""
    participant = Participant("depot")

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        with spans.provider.get_tracer("user").start_as_current_span("wrap"):
            emit(db, Ordered(parcel=command.parcel))
        trace.get_current_span().set_attribute("parcel", command.parcel)
        return Packed(parcel=command.parcel)

    await _serve(bench, participant, spans)
    await bench.handle(_at(PLACE, bench.delivery(Pack(parcel="a"))), _at(PLACE, bench.delivery(Pack(parcel="b"))))
    await bench.relay.flush()

    handled = {(span.attributes or {})["parcel"]: span for span in spans.named("process depot.in")}
    wrapped = {span.parent.span_id: span for span in spans.named("wrap") if span.parent is not None}
    for parcel in ("a", "b"):
        own = handled[parcel].context.span_id
        assert {
            message.type: json.loads(message.body)["traceparent"]
            for message in bench.bus.published
            if json.loads(message.body)["data"]["parcel"] == parcel
        } == {
            "parcel.ordered": f"00-{TRACE}-{wrapped[own].context.span_id:016x}-01",
            "parcel.packed": f"00-{TRACE}-{own:016x}-01",
        }


async def test_a_handler_that_raises_leaves_a_span_that_says_so(bench: Bench, spans: Collected) -> None:
    """Its neighbors' spans tell of nothing: they were begun anew; the failure is counted."""
    participant = Participant("depot")

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        if command.note == "bad":
            raise ValueError("it does not fit")
        return Packed(parcel=command.parcel)

    meter = await _serve(bench, participant, spans)
    await bench.handle(
        _at(PLACE, bench.delivery(Pack(parcel="a"))),
        _at(PLACE, bench.delivery(Pack(parcel="b", note="bad"))),
        _at(PLACE, bench.delivery(Pack(parcel="c"))),
    )
    statuses = [span.status.status_code for span in spans.named("process depot.in")]
    assert statuses.count(StatusCode.ERROR) == 1
    assert statuses.count(StatusCode.UNSET) == 2
    told = list(meter.families())
    assert values(told, "amends_messages_failed") == {("depot",): 1}
    # The two neighbors, alone, and the failed one put away.
    assert total(values(told, "amends_batch_messages")["depot",]) == (2, 2.0)


def test_a_span_quotes_nothing_that_was_opened(spans: Collected) -> None:
    """The error of a handler is in its span without what the handler was given to read."""
    received = Received(
        Envelope(UUID(int=1), "parcel.pack", 1, "s", NOON, traceparent=PLACE), Pack(parcel="p"), {}, "{}", "depot.in"
    )
    batch = Tracing(spans.provider, "memory").batch(())
    batch.begin(received)
    try:
        raise ValueError("nobody at ada@x")
    except ValueError as error:
        batch.failed(HandlerFailed([received], error), ["ada@x"])
    (span,) = spans.all
    (event,) = span.events
    told = dict(event.attributes or {})
    assert told["exception.message"] == "nobody at <sealed>"
    assert "ada@x" not in str(told)


async def test_a_call_outside_is_within_its_messages_trace(bench: Bench, spans: Collected) -> None:
    """Spans that a client makes there, in a task of its own, belong to it, and so does the answer."""
    participant = Participant("depot")

    @participant.handles_outside(Pack, time_limit=timedelta(seconds=10))
    async def pack(command: Pack, key: UUID) -> Packed | Refused:
        with spans.provider.get_tracer("user").start_as_current_span("ask the gateway"):
            return Packed(parcel=command.parcel)

    await _serve(bench, participant, spans)
    await bench.handle(_at(PLACE, bench.delivery(Pack(parcel="a"), id=UUID(int=7))))
    await bench.until_status(7, "done")
    # The answer lies in the outbox with that commit; the worker offers it to the relay a moment later.
    await bench.until(lambda: len(spans.named("process depot.in")) == 2, "the outcome's span has ended")
    await bench.relay.flush()

    (asked,) = spans.named("ask the gateway")
    taken, answered = spans.named("process depot.in")
    assert asked.parent is not None
    assert asked.parent.span_id == taken.context.span_id
    (answer,) = bench.bus.sent("parcel.packed")
    assert json.loads(answer.body)["traceparent"] == f"00-{TRACE}-{answered.context.span_id:016x}-01"


async def test_what_is_emitted_within_a_span_belongs_to_its_trace(bench: Bench, spans: Collected) -> None:
    """In any application; without a span an event begins no trace."""
    with spans.provider.get_tracer("user").start_as_current_span("checkout") as span:
        async with bench.database.session() as db:
            emit(db, Ordered(parcel="a"))
    async with bench.database.session() as db:
        emit(db, Ordered(parcel="b"))
    async with bench.database.reading() as connection:
        bodies = (await connection.execute(select(schema.outbox.c.body).order_by(schema.outbox.c.id))).scalars().all()
    context = span.get_span_context()
    first, second = (json.loads(body).get("traceparent") for body in bodies)
    assert first.startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")
    assert second is None


def test_a_log_line_within_a_span_names_it(spans: Collected) -> None:
    """Outside any, it names none."""
    out = StringIO()
    with logging.configured_meanwhile():
        logging.configure("depot", "info", "json", out)
        with spans.provider.get_tracer("user").start_as_current_span("checkout") as span:
            structlog.get_logger().info("within")
        structlog.get_logger().info("outside")
    within, outside = map(json.loads, out.getvalue().splitlines())
    context = span.get_span_context()
    assert (within["trace_id"], within["span_id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert "trace_id" not in outside
