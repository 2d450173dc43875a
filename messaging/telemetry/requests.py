"""A service's HTTP interface, each request with its span."""

from __future__ import annotations

from opentelemetry.trace import Span, Status, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from messaging.telemetry.tracing import Tracing

_FAILED = 500
_OWN_OF_FASTAPI = "fastapi.telemetry"
"""Where FastAPI keeps the span that it would begin itself."""


class TracedRequests:
    """An ASGI application as it is; what it emits while it answers a request is part of that request's trace."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        scope.setdefault(_OWN_OF_FASTAPI, None)
        with self._tracing.request(scope, headers) as span:

            async def told(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _tell(span, scope, message["status"])
                await send(message)

            await self._app(scope, receive, told)


def _tell(span: Span, scope: Scope, status: int) -> None:
    """What is known once the answer begins: the route, as the application has written it down, and the status."""
    route = getattr(scope.get("route"), "path", None)
    if isinstance(route, str):
        span.update_name(f"{scope['method']} {route}")
        span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", status)
    if status >= _FAILED:
        span.set_status(Status(StatusCode.ERROR))
