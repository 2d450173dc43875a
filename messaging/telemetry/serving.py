"""What a service has of all this: its figures, and its spans where the process has somebody who takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from starlette.types import ASGIApp

from messaging.bus import Bus
from messaging.clock import Clock
from messaging.consumer import Consumer
from messaging.database import Database
from messaging.telemetry.counting import BatchMeter, PublishMeter
from messaging.telemetry.depths import Depths
from messaging.telemetry.families import Look, Meter
from messaging.telemetry.metrics import Metrics
from messaging.telemetry.observing import ObservedBus, ObservedConsumer
from messaging.telemetry.provider import in_force

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from messaging.telemetry.tracing import Tracing


class Telemetry:
    """One service's figures and spans. `system` is its broker as OpenTelemetry calls it."""

    def __init__(
        self,
        service: str,
        *,
        database: Database,
        bus: Bus,
        clock: Clock,
        system: str,
        consumers: Sequence[str],
        meters: Sequence[Meter],
        looks: Sequence[Look],
        queues: Callable[[], Iterable[str]],
        obstacles: Callable[[], Mapping[str, bool]],
        provider: TracerProvider | None = None,
    ) -> None:
        self._clock = clock
        self._tracing = _tracing(system, provider)
        self._published = PublishMeter()
        self._metrics = Metrics(
            service,
            database=database,
            bus=bus,
            clock=clock,
            looks=[Depths(consumers), *looks],
            queues=queues,
            obstacles=obstacles,
        )
        for meter in (self._published, *meters):
            self._metrics.add(meter)

    def observed(self, consumer: Consumer) -> tuple[ObservedConsumer, BatchMeter]:
        """The consumer as its worker shall have it, and what counts its batches."""
        meter = BatchMeter(consumer.name)
        self._metrics.add(meter)
        return ObservedConsumer(consumer, meter, self._clock, self._tracing), meter

    def observed_bus(self, bus: Bus) -> Bus:
        """The bus as the relay shall have it."""
        return ObservedBus(bus, self._published, self._clock, self._tracing)

    def traced(self, app: ASGIApp) -> ASGIApp:
        """The service's own HTTP interface, each request with its span."""
        if self._tracing is None:
            return app
        from messaging.telemetry.requests import TracedRequests

        return TracedRequests(app, self._tracing)

    async def page(self, accept: str) -> tuple[bytes, str]:
        """The figures as they are now, in the form that the reader accepts best, and its content type."""
        return await self._metrics.page(accept)

    async def close(self) -> None:
        """Look no more."""
        await self._metrics.close()


def _tracing(system: str, provider: TracerProvider | None) -> Tracing | None:
    found = provider or in_force()
    if found is None:
        return None
    from messaging.telemetry.tracing import Tracing

    return Tracing(found, system)
