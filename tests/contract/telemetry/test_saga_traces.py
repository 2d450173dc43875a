"""A saga's trace, kept with its row: what comes late, again, or from another trace, on both databases."""

from __future__ import annotations

import json
from dataclasses import replace

from opentelemetry.sdk.trace import ReadableSpan

from messaging.bus import Delivery, Outgoing
from messaging.dead_letters import letter_id
from messaging.telemetry.counting import BatchMeter
from messaging.telemetry.observing import ObservedConsumer
from messaging.telemetry.tracing import Tracing
from orchestrator import Saga, Wait, hours, stamping
from orchestrator.catalog import Catalog
from orchestrator.engine import Engine
from orchestrator.sharding import ALONE
from tests.contract.orchestrator.office import Office
from tests.contract.telemetry.spans import Collected
from tests.unit.work import Approved, Done, Refused, Work, pivot, step, work_saga

TRACE = "0af7651916cd43dd8448eb211c80319c"
PLACE = f"00-{TRACE}-b7ad6b7169203331-01"
ELSEWHERE = "00-11111111111111111111111111111111-2222222222222222-01"


def _at(place: str, delivery: Delivery) -> Delivery:
    """The same, made at this place of a trace."""
    return replace(delivery, body=json.dumps(json.loads(delivery.body) | {"traceparent": place}).encode())


def _places(sent: list[Outgoing]) -> list[str | None]:
    return [json.loads(each.body).get("traceparent") for each in sent]


def _saga() -> Saga[Work]:
    return work_saga(step("dig"), step("fill"), pivot("sign"))


async def _employ(office: Office, spans: Collected, *sagas: Saga[Work]) -> None:
    """An engine that traces."""
    office.catalog = Catalog(sagas)
    await stamping.check(office.database, ALONE)
    engine = Engine(office.catalog)
    observed = ObservedConsumer(engine, BatchMeter(engine.name), office.clock, Tracing(spans.provider, "memory"))
    await office.serve(observed)


async def _deadline(office: Office) -> None:
    """Let the time pass until the first deadline, and that batch be committed."""
    before = office.worker.batches
    office.clock.advance(40)
    # Who looks for what is due sleeps on this clock; the next deadline is far.
    await office.pass_time(lambda: office.worker.batches > before, "a deadline is handled", step=0.001)


def _trace(span: ReadableSpan) -> str:
    return f"{span.context.trace_id:032x}"


async def test_an_orchestrator_that_does_not_trace_hands_the_trace_on(office: Office) -> None:
    """Commands, repetitions after a deadline and compensations are made where the saga was started."""
    await office.employ(_saga())
    await office.handle(_at(PLACE, office.begun(1)))
    await office.handle(office.answer(1, "dig", Done()))
    await _deadline(office)
    await office.handle(office.answer(1, "fill", Refused()))
    await office.relay.flush()

    assert [
        (each.type, place) for each, place in zip(office.bus.published, _places(office.bus.published), strict=True)
    ] == [
        ("work.do", PLACE),
        ("work.do", PLACE),
        ("work.do", PLACE),
        ("work.undo", PLACE),
    ]
    assert (await office.sagas())["1"].traceparent == PLACE


async def test_a_saga_without_a_trace_begins_none(office: Office) -> None:
    """Nothing that it sends says one, and nothing is kept."""
    await office.employ(_saga())
    await office.handle(office.begun(1))
    await office.relay.flush()
    assert _places(office.bus.published) == [None]
    assert (await office.sagas())["1"].traceparent is None


async def test_a_deadline_is_a_span_of_the_sagas_trace(office: Office, spans: Collected) -> None:
    """The command that is sent again belongs to it."""
    await _employ(office, spans, _saga())
    await office.handle(_at(PLACE, office.begun(1)))
    await _deadline(office)
    await office.relay.flush()

    (deadline,) = spans.named("deadline work")
    assert _trace(deadline) == TRACE
    assert (deadline.attributes or {})["amends.step"] == "dig"
    again = _places(office.bus.published)[1]
    assert again == f"00-{TRACE}-{deadline.context.span_id:016x}-01"


async def test_what_is_delivered_again_has_a_trace_of_its_own_and_a_link(office: Office, spans: Collected) -> None:
    """What it leads to is the saga's trace all the same."""
    await _employ(office, spans, _saga())
    await office.handle(replace(_at(PLACE, office.begun(1)), redelivered=True))
    await office.relay.flush()

    (again,) = spans.named("process depot.in")
    assert again.parent is None
    assert _trace(again) != TRACE
    assert [f"{link.context.trace_id:032x}" for link in again.links] == [TRACE]
    assert _places(office.bus.published) == [PLACE]


async def test_a_dead_letter_that_is_sent_again_is_linked_too(office: Office, spans: Collected) -> None:
    """A person's redrive names the letter, and its span the trace that the message was made in."""
    await _employ(office, spans, _saga())
    sent = office.begun(1)
    said = json.loads(sent.body)
    letter = letter_id(said["id"], "orchestrator")
    body = json.dumps(said | {"redrives": str(letter), "traceparent": PLACE})
    await office.handle(replace(sent, body=body.encode()))
    (again,) = spans.named("process depot.in")
    assert [f"{link.context.trace_id:032x}" for link in again.links] == [TRACE]


async def test_an_event_of_another_trace_takes_no_saga_over(office: Office, spans: Collected) -> None:
    """An approval given in another request is seen there; the saga goes on in its own trace."""
    saga = work_saga(
        step("dig"),
        Wait(Approved, name="approve", key=lambda event: event.id, timeout=hours(1)),
        pivot("sign"),
    )
    await _employ(office, spans, saga)
    await office.handle(_at(PLACE, office.begun(1)))
    await office.handle(_at(PLACE, office.answer(1, "dig", Done())))
    await office.handle(_at(ELSEWHERE, office.delivery(Approved(id=1), correlation_id=None)))
    await office.relay.flush()

    assert [_trace(each) for each in spans.named("process depot.in")] == [TRACE, TRACE, "1" * 32]
    begun, signing = _places(office.bus.published)
    assert begun is not None
    assert begun[3:35] == TRACE
    first = spans.named("process depot.in")[0]
    # Where its trace began, as far as the orchestrator knows: the span of the event that started it.
    assert signing == f"00-{TRACE}-{first.context.span_id:016x}-01"
