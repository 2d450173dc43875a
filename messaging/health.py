"""`/healthz`: the process answers. `/readyz`: it can do its work, or the list of what keeps it from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

Check = Callable[[], Awaitable[dict[str, str]]]
"""What stands in the way of being ready: a name and a sentence each; empty when nothing does."""


def with_health(service: str, obstacles: Check, app: ASGIApp | None = None) -> Starlette:
    """The service's HTTP face: health beside its own API."""

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"service": service, "status": "ok"})

    async def readyz(_request: Request) -> Response:
        found = await obstacles()
        status = "ready" if not found else "not ready"
        body = {"service": service, "status": status, "waiting_for": found}
        return JSONResponse(body, status_code=503 if found else 200)

    routes: list[Route | Mount] = [Route("/healthz", healthz), Route("/readyz", readyz)]
    if app is not None:
        routes.append(Mount("/", app))
    return Starlette(routes=routes)
