"""Errors as RFC 9457 problems (`application/problem+json`): what was wrong, where, and how to mend it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from messaging.database import is_transient

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER_SECONDS = 1
"""What a caller is told while the database is away."""

_KINDS: dict[int, tuple[str, str]] = {
    HTTPStatus.BAD_REQUEST: ("bad-request", "The request cannot be read"),
    HTTPStatus.NOT_FOUND: ("not-found", "There is nothing at this address"),
    HTTPStatus.METHOD_NOT_ALLOWED: ("method-not-allowed", "This address does not answer that method"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("too-large", "The request is too large"),
    HTTPStatus.UNPROCESSABLE_ENTITY: ("invalid-request", "The request does not fit"),
    HTTPStatus.INTERNAL_SERVER_ERROR: ("internal-error", "The service has made a mistake"),
    HTTPStatus.SERVICE_UNAVAILABLE: ("database-away", "The service cannot reach its database"),
}


class Problem(Exception):
    """Raised by a route: ends the request with this answer.

    `kind` is a stable name for programs, `title` a few words; both follow from `status` where they are left
    out.
    """

    def __init__(self, status: int, detail: str, *, kind: str | None = None, title: str | None = None) -> None:
        super().__init__(detail)
        usual = _KINDS.get(status, (f"http-{status}", HTTPStatus(status).phrase))
        self.status = status
        self.detail = detail
        self.kind = kind or usual[0]
        self.title = title or usual[1]

    def response(
        self, *, errors: Sequence[dict[str, str]] = (), headers: Mapping[str, str] | None = None
    ) -> JSONResponse:
        """The answer; `errors` says where a request has several faults."""
        body: dict[str, object] = {
            "type": f"urn:amends:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if errors:
            body["errors"] = list(errors)
        return JSONResponse(body, self.status, headers, MEDIA_TYPE)


def answer_with_problems(app: FastAPI) -> None:
    """Let every error of this application leave as a problem."""

    @app.exception_handler(Problem)
    def problem(_request: Request, error: Problem) -> JSONResponse:
        return error.response()

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> JSONResponse:
        return _from_http(request, error)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return _from_validation(error)

    @app.exception_handler(DBAPIError)
    @app.exception_handler(PoolTimeout)
    @app.exception_handler(OSError)
    def database_error(request: Request, error: Exception) -> JSONResponse:
        if not is_transient(error):
            raise error
        structlog.get_logger().warning("database_away", path=request.url.path, error=str(error))
        return Problem(
            HTTPStatus.SERVICE_UNAVAILABLE, "nothing was changed for certain; send the same request again"
        ).response(headers={"Retry-After": str(RETRY_AFTER_SECONDS)})

    @app.exception_handler(Exception)
    def unexpected(_request: Request, _error: Exception) -> JSONResponse:
        # The server logs the error itself, after this answer.
        return Problem(
            HTTPStatus.INTERNAL_SERVER_ERROR, "the fault is not in your request; the service's log says more"
        ).response()


class BodyLimit:
    """Refuses a request body of more than `limit` bytes before all of it is in memory."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._limit:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {self._limit} bytes at most")
            return message

        await self._app(scope, counted, send)


def _from_http(request: Request, error: HTTPException) -> JSONResponse:
    headers = dict(error.headers or {})
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            detail = f"{request.url.path} is not an address of this service; /openapi.json lists them all"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = headers.get("Allow", "other methods")
            detail = f"{request.method} is not possible on {request.url.path}, only {allowed}"
        case _:
            detail = error.detail
    return Problem(error.status_code, detail).response(headers=headers)


def _from_validation(error: RequestValidationError) -> JSONResponse:
    faults = error.errors()
    errors = [_place(each["loc"]) | {"detail": _in_words(each)} for each in faults]
    places = [told.get("pointer") or " ".join(map(str, each["loc"])) for told, each in zip(errors, faults, strict=True)]
    detail = "; ".join(f"{place}: {told['detail']}" for place, told in zip(places, errors, strict=True))
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail).response(errors=errors)


def _in_words(fault: Mapping[str, Any]) -> str:
    return "must be a JSON object" if fault["type"] == "model_attributes_type" else str(fault["msg"])


def _place(location: Sequence[str | int]) -> dict[str, str]:
    """A JSON pointer (RFC 6901) into the body; outside it, the name of the parameter."""
    where, *names = location
    if where == "body":
        steps = (str(name).replace("~", "~0").replace("/", "~1") for name in names)
        return {"pointer": "#" + "".join(f"/{step}" for step in steps)}
    return {"parameter": ".".join(str(name) for name in names)}
