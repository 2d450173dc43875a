"""What a queue's name says: whose it is, and on which exchange what comes through it is published."""

from __future__ import annotations

import pytest

from messaging.topology import exchange_of, service_of
from orchestrator import partitioning, sharding


@pytest.mark.parametrize(
    ("queue", "service", "exchange"),
    [
        ("payment.commands", "payment", "amends.commands"),
        ("payment.events", "payment", "amends.events"),
        ("eu.payment.commands", "eu.payment", "amends.commands"),
        ("orchestrator.events", "orchestrator", "amends.events"),
        ("orchestrator.events.12", "orchestrator", "amends.events"),
        ("orchestrator.shard.3", "orchestrator", "amends.events"),
        ("orchestrator.dead-letters", None, None),
        ("somebody", None, None),
    ],
)
def test_a_name_says_whose_a_queue_is(queue: str, service: str | None, exchange: str | None) -> None:
    """Also where there are several of one kind: what died in one of them can be sent again."""
    assert (service_of(queue), exchange_of(queue)) == (service, exchange)


def test_the_orchestrators_queues_are_called_so() -> None:
    """However many there are."""
    names = {*partitioning.names(None), *partitioning.names(3), sharding.queue_of(0), sharding.queue_of(11)}

    assert {service_of(name) for name in names} == {"orchestrator"}
