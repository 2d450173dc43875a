"""Spans that are kept where a test sees them, and what such tests ask of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

PATIENCE = 60.0


class Collected:
    """A provider of its own, and the spans that ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def all(self) -> Sequence[ReadableSpan]:
        """Those that ended so far, in that order."""
        return self._exporter.get_finished_spans()

    async def ended(self, what: str) -> None:
        """Wait until a span of this name and about this message has ended."""
        async with asyncio.timeout(PATIENCE):
            while all(told(each) != what for each in self.all):  # noqa: ASYNC110 - spans are looked at, nobody announces them
                await asyncio.sleep(0.01)

    def named(self, name: str) -> list[ReadableSpan]:
        """Those of this name."""
        return [each for each in self.all if each.name == name]

    def path(self, span: ReadableSpan) -> list[str]:
        """What led to a span, from the first one known here on: each with the message that it is about."""
        known = {each.context.span_id: each for each in self.all}
        found = [span]
        while (parent := found[0].parent) is not None and parent.span_id in known:
            found.insert(0, known[parent.span_id])
        return [told(each) for each in found]


def told(span: ReadableSpan) -> str:
    """A span's name, and of a message its type."""
    key = (span.attributes or {}).get("messaging.rabbitmq.destination.routing_key")
    return f"{span.name} {key}" if key else span.name
