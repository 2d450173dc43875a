"""What the orchestrator itself needs of the broker."""

from __future__ import annotations

from messaging.needs import Needs
from messaging.service import Service
from messaging.topology import COMMANDS, DEAD_LETTERS, EVENTS, Binding
from orchestrator.instance import SOURCE
from orchestrator.sharding import EXCHANGE


def of_orchestrator(service: Service) -> Needs:
    """It issues every command. Of events it publishes its own, and any other: dead letters that a person sends again,
    and what he starts by hand.
    """
    handing_on = (Binding(EXCHANGE, "#"),) if EXCHANGE in service.topology.exchanges else ()
    publishes = (
        Binding(EVENTS, "#"),
        Binding(COMMANDS, "#"),
        Binding(DEAD_LETTERS, f"{SOURCE}.#"),
        *handing_on,
    )
    return Needs(SOURCE, service.topology, publishes)
