"""What of a message's instances an engine tells its worker, so that two lanes do not move one."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from contracts.message import Event
from messaging.envelope import Envelope
from messaging.received import Received
from orchestrator.catalog import Catalog
from orchestrator.engine import Engine
from orchestrator.saga.state import saga_id
from tests.unit.work import Begun, Done, pivot, step, work_saga


def _received(event: Event) -> Received:
    moment = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    envelope = Envelope(UUID(int=1), event.wire_type, 1, "tester", moment)
    return Received(envelope, event, {}, "", "orchestrator.events")


def test_an_event_concerns_the_instances_that_its_key_names() -> None:
    """A start names its saga by its key; an answer has the saga's id, and names none besides."""
    engine = Engine(Catalog([work_saga(step("dig"), pivot("sign"))]))
    assert engine.concerns(_received(Begun(id=7))) == [str(saga_id("work", 7))]
    assert engine.concerns(_received(Done())) == []
