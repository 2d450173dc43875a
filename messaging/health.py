"""`/healthz`: the process answers. `/readyz`: it can do its work, or the list of what keeps it from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

_PATHS = ("/healthz", "/readyz")

Check = Callable[[], Awaitable[dict[str, str]]]
"""What stands in the way of being ready: a name and a sentence each; empty when nothing does."""


def with_health(service: str, obstacles: Check, app: ASGIApp | None = None) -> ASGIApp:
    """The service's HTTP face: health beside its own API, to which nothing else stands in the way."""

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"service": service, "status": "ok"})

    async def readyz(_request: Request) -> Response:
        found = await obstacles()
        status = "ready" if not found else "not ready"
        body = {"service": service, "status": status, "waiting_for": found}
        return JSONResponse(body, status_code=503 if found else 200)

    health = Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz)])
    if app is None:
        return health
    own = app

    async def face(scope: Scope, receive: Receive, send: Send) -> None:
        asked = health if scope.get("path") in _PATHS else own
        await asked(scope, receive, send)

    return face
