"""`/healthz`: the process answers. `/readyz`: it can do its work, or the list of what keeps it from it. `/metrics`: its
figures, as Prometheus reads them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

_PATHS = ("/healthz", "/readyz", "/metrics")

Check = Callable[[], Awaitable[dict[str, str]]]
"""What stands in the way of being ready: a name and a sentence each; empty when nothing does."""
Figures = Callable[[str], Awaitable[tuple[bytes, str]]]
"""A page of figures and its content type, for what the reader accepts."""


def with_health(service: str, obstacles: Check, figures: Figures, app: ASGIApp | None = None) -> ASGIApp:
    """The service's HTTP face: health and figures beside its own API, to which nothing else stands in the way."""

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"service": service, "status": "ok"})

    async def readyz(_request: Request) -> Response:
        found = await obstacles()
        status = "ready" if not found else "not ready"
        body = {"service": service, "status": status, "waiting_for": found}
        return JSONResponse(body, status_code=503 if found else 200)

    async def metrics(request: Request) -> Response:
        page, kind = await figures(request.headers.get("accept", ""))
        return Response(page, headers={"content-type": kind})

    health = Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])
    if app is None:
        return health
    own = app

    async def face(scope: Scope, receive: Receive, send: Send) -> None:
        asked = health if scope.get("path") in _PATHS else own
        await asked(scope, receive, send)

    return face
