"""Spans of one service, over OpenTelemetry's interface; loaded only in a process that has an SDK.

One trace a saga: an HTTP request, the event it writes, each publication, each batch's part of it, the commands, their
handlers and the compensations. What connects them is the `traceparent` in each message. A message that is delivered
again, or sent again by a person, begins a trace of its own with a link to where it was made.
"""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from importlib.metadata import version
from typing import Any
from uuid import UUID

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TracerProvider,
)

from messaging.bisecting import HandlerFailed
from messaging.bus import Outgoing, Receipt
from messaging.received import Received
from messaging.sealing import hiding
from messaging.telemetry import traceparent

_NOTHING: AbstractContextManager[Any] = nullcontext()


class Tracing:
    """Makes the spans of one service; `system` names its broker as OpenTelemetry does."""

    def __init__(self, provider: TracerProvider, system: str) -> None:
        self._tracer = provider.get_tracer("amends", version("amends"))
        self._system = system

    def batch(self, again: Collection[UUID]) -> BatchSpans:
        """For the messages of one batch; `again` are ids of those that the broker has delivered before."""
        return BatchSpans(self._tracer, self._system, again)

    @staticmethod
    def at(place: str | None) -> AbstractContextManager[Any]:
        """Meanwhile the caller is at this place of a trace, in a span that lies elsewhere or has ended."""
        found = _context(place)
        return _NOTHING if found is None else trace.use_span(NonRecordingSpan(found))

    def publishing(self, messages: Sequence[Outgoing]) -> list[Span | None]:
        """A span for each message that is part of a trace."""
        return [self._publishing(each, _context(traceparent.of_body(each.body))) for each in messages]

    def _publishing(self, message: Outgoing, made: SpanContext | None) -> Span | None:
        if made is None:
            return None
        return self._tracer.start_span(
            f"publish {message.exchange}",
            context=_within(made),
            kind=SpanKind.PRODUCER,
            attributes={
                "messaging.system": self._system,
                "messaging.operation.type": "send",
                "messaging.operation.name": "publish",
                "messaging.destination.name": message.exchange,
                "messaging.rabbitmq.destination.routing_key": message.routing_key,
                "messaging.message.id": message.message_id,
                "messaging.message.body.size": len(message.body),
                "messaging.message.conversation_id": message.correlation_id or "",
            },
        )

    @staticmethod
    def published(spans: Sequence[Span | None], receipts: Sequence[Receipt]) -> None:
        """What the broker said of each of these."""
        for span, receipt in zip(spans, receipts, strict=True):
            if span is None:
                continue
            if receipt is not Receipt.CONFIRMED:
                span.set_status(Status(StatusCode.ERROR, receipt.value))
            span.end()

    @contextmanager
    def request(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> Iterator[Span]:
        """The span of an HTTP request, which is the current one meanwhile; `scope` is ASGI's."""
        method = str(scope["method"])
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "url.scheme": str(scope.get("scheme", "http")),
            "url.path": str(scope["path"]),
        }
        server = scope.get("server")
        if server is not None:
            attributes |= {"server.address": str(server[0])} | ({"server.port": server[1]} if server[1] else {})
        with self._tracer.start_as_current_span(
            method, context=propagate.extract(headers), kind=SpanKind.SERVER, attributes=attributes
        ) as span:
            yield span


class BatchSpans:
    """The spans of what one batch handles: begun with its transaction, ended with its commit."""

    def __init__(self, tracer: Tracer, system: str, again: Collection[UUID]) -> None:
        self._tracer = tracer
        self._system = system
        self._again = again
        self._spans: dict[object, Span] = {}

    def begin(self, received: Received) -> Received:
        """Begin a message's span; its handler shall see what is returned, where it is in its trace."""
        envelope = received.envelope
        made = _context(envelope.traceparent)
        once_more = envelope.id in self._again or envelope.redrives is not None
        span = self._spans[envelope.id] = self._tracer.start_span(
            f"process {received.queue}",
            context=Context() if made is None or once_more else _within(made),
            links=[Link(made)] if made is not None and once_more else None,
            kind=SpanKind.CONSUMER,
            attributes={
                "messaging.system": self._system,
                "messaging.operation.type": "process",
                "messaging.operation.name": "process",
                "messaging.destination.name": received.queue,
                "messaging.rabbitmq.destination.routing_key": envelope.type,
                "messaging.message.id": str(envelope.id),
                "messaging.message.conversation_id": envelope.correlation_id or "",
                "amends.message.tries": received.attempts + 1,
            },
        )
        if made is not None and once_more:
            # What it leads to belongs to the saga's trace all the same.
            return received
        return replace(received, envelope=replace(envelope, traceparent=_place(span)))

    def deadline(self, saga: str, identity: UUID, place: str | None) -> str | None:
        """Begin a span for time that has passed, where the instance is part of a trace; its place in it."""
        made = _context(place)
        if made is None:
            return place
        span = self._spans[identity] = self._tracer.start_span(
            f"deadline {saga}",
            context=_within(made),
            attributes={"messaging.message.conversation_id": str(identity)},
        )
        return _place(span)

    def current(self, name: object) -> AbstractContextManager[Any]:
        """Meanwhile the span of this message or this instance's deadline is the current one."""
        span = self._spans.get(name)
        if span is None:
            return _NOTHING
        return trace.use_span(span, record_exception=False, set_status_on_exception=False)

    def tell(self, name: object, **said: str) -> None:
        """Add to the span of this message or this instance's deadline: `saga`, `status`, `step`."""
        span = self._spans.get(name)
        if span is not None:
            span.set_attributes({f"amends.{what}": value for what, value in said.items()})

    def end(self) -> None:
        """The batch is committed."""
        for span in self._spans.values():
            span.end()

    def failed(self, error: BaseException, secrets: Sequence[str] = ()) -> None:
        """The batch is undone; where one message was alone in it, its span says why, the others are begun anew.

        `secrets` are what was opened for it: its span quotes none of them.
        """
        if len(self._spans) != 1:
            return
        (span,) = self._spans.values()
        cause = error.cause if isinstance(error, HandlerFailed) else error
        span.record_exception(cause, attributes=_told(cause, secrets))
        span.set_status(Status(StatusCode.ERROR, type(cause).__name__))
        span.end()


def _told(cause: BaseException, secrets: Sequence[str]) -> dict[str, str] | None:
    """What an error says, where it may quote what was opened for its handler: without that. Else as it is."""
    if not secrets:
        return None
    story = "".join(traceback.format_exception(cause))
    return {"exception.message": hiding(str(cause), secrets), "exception.stacktrace": hiding(story, secrets)}


def _within(made: SpanContext) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(made), Context())


def _context(place: str | None) -> SpanContext | None:
    found = traceparent.read(place)
    if found is None:
        return None
    trace_id, span_id, flags = found
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))


def _place(span: Span) -> str:
    context = span.get_span_context()
    return traceparent.written(context.trace_id, context.span_id, context.trace_flags)
