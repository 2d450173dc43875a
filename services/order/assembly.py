"""The order service put together."""

from __future__ import annotations

from typing import Any

from messaging.bus import Bus
from messaging.clock import Clock, Entropy, SystemClock, SystemEntropy
from messaging.service import Service, participant_service
from services.order.api import create_app
from services.order.handlers import participant
from services.order.settings import OrderSettings

MIGRATIONS = "services.order:migrations"


def order_service(
    settings: OrderSettings, bus: Bus, *, clock: Clock | None = None, entropy: Entropy | None = None, **options: Any
) -> Service:
    """The order service: its participant on `order.commands` and `order.events`, and its HTTP API."""
    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
    return participant_service(
        participant(default_stock=settings.default_stock),
        settings,
        bus,
        migrations=[MIGRATIONS],
        app=lambda database, info: create_app(
            database,
            info=info,
            now=clock.now,
            new_id=lambda: entropy.message_id(clock.now()),
            default_stock=settings.default_stock,
        ),
        clock=clock,
        entropy=entropy,
        **options,
    )
