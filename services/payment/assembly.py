"""The payment service put together: on its own ledger, or on a card gateway outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from messaging.bus import Bus
from messaging.clock import Clock, Entropy, SystemClock, SystemEntropy
from messaging.database import Database
from messaging.service import Service, participant_service
from services.payment.api import create_app
from services.payment.handlers import participant
from services.payment.settings import PaymentSettings

if TYPE_CHECKING:
    from services.payment.http_gateway import HttpGateway

MIGRATIONS = "services.payment:migrations"


def payment_service(
    settings: PaymentSettings,
    bus: Bus,
    *,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    database: Database | None = None,
    **options: Any,
) -> Service:
    """The payment service: its participant on `payment.commands`, and its HTTP API."""
    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
    database = database or Database(settings.database, by_index=True)
    gateway: HttpGateway | None = None
    if settings.gateway_url is not None:
        # Its HTTP client takes a while to load.
        from services.payment.http_gateway import HttpGateway

        token = settings.gateway_token.get_secret_value() if settings.gateway_token else None
        gateway = HttpGateway(str(settings.gateway_url), time_limit=settings.gateway_time_limit, token=token)
    payment = participant(
        default_credit_limit=settings.default_credit_limit,
        now=clock.now,
        gateway=gateway,
        gateway_time_limit=settings.gateway_time_limit,
        database=database,
    )
    return participant_service(
        payment,
        settings,
        bus,
        migrations=[MIGRATIONS],
        app=lambda database, _info: create_app(database, now=clock.now),
        clock=clock,
        entropy=entropy,
        database=database,
        held_open=[gateway] if gateway is not None else [],
        **options,
    )
