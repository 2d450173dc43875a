"""What went wrong, as RFC 9457 `application/problem+json`: every error this service answers looks like this.

`type` is a stable name for programs, `title` a short sentence, `detail` says what was wrong here and how to
mend it.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import Match

from messaging.database import is_transient

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1
"""How soon a client may try again when the database is away."""

SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "A stable name of this kind of problem."},
        "title": {"type": "string", "description": "The kind of problem in a few words."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What was wrong this time, and how to mend it."},
        "errors": {
            "type": "array",
            "description": "Where a request has several faults: each of them.",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {"type": "string", "description": "Where in the body: `#/lines/0/quantity`."},
                    "parameter": {"type": "string", "description": "Or which header or query parameter."},
                    "detail": {"type": "string", "description": "What is wrong there."},
                },
            },
        },
    },
}

_TITLES = {
    400: ("bad-request", "The request cannot be read"),
    404: ("not-found", "There is nothing at this address"),
    405: ("method-not-allowed", "This address does not answer that method"),
    409: ("conflict", "The request does not fit the present state"),
    413: ("too-large", "The request is too large"),
    415: ("no-json", "The request is not JSON"),
    422: ("invalid-request", "The request does not fit"),
    500: ("internal-error", "The service has made a mistake"),
    503: ("database-away", "The service cannot reach its database"),
}


class Problem(Exception):
    """Raised by a route: ends the request with this answer."""

    def __init__(
        self,
        status: int,
        name: str,
        title: str,
        detail: str,
        *,
        errors: list[dict[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers
        self.body: dict[str, Any] = {
            "type": f"urn:amends:problem:{name}",
            "title": title,
            "status": status,
            "detail": detail,
        }
        if errors:
            self.body["errors"] = errors

    @classmethod
    def of(cls, status: int, detail: str, **more: Any) -> Problem:
        """A problem that an HTTP status says everything about."""
        name, title = _TITLES.get(status, (f"http-{status}", HTTPStatus(status).phrase))
        return cls(status, name, title, detail, **more)

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers, MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route that may end in these problems."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _TITLES[status][1], "content": content} for status in statuses}


def install(app: FastAPI, patterns: Mapping[str, str]) -> None:
    """Make every error of this app a problem; `patterns` says in words what a regular expression asks for."""

    @app.exception_handler(Problem)
    def problem(_request: Request, error: Problem) -> JSONResponse:
        return error.response()

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> JSONResponse:
        return _from_http(request, error).response()

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _from_validation(request, error, patterns).response()

    @app.exception_handler(DBAPIError)
    @app.exception_handler(PoolTimeout)
    @app.exception_handler(OSError)
    def database_error(_request: Request, error: Exception) -> JSONResponse:
        if not is_transient(error):
            raise error
        structlog.get_logger().warning("database_away", error=str(error))
        return Problem.of(
            503,
            "nothing was lost that had been accepted; send the same request again, "
            "with the same Idempotency-Key if it had one",
            headers={"Retry-After": str(RETRY_SECONDS)},
        ).response()

    @app.exception_handler(Exception)
    def unexpected(_request: Request, _error: Exception) -> JSONResponse:
        # The server logs the error itself, after this answer.
        return Problem.of(500, "the fault is not in your request; the service's log says more").response()


def _from_http(request: Request, error: HTTPException) -> Problem:
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    match error.status_code:
        case 404:
            detail = f"{request.url.path} is not an address of this service; /docs lists them all"
        case 405:
            headers["allow"] = ", ".join(_methods(request)) or headers.get("allow", "")
            detail = f"{request.method} is not possible on {request.url.path}, only {headers['allow']}"
        case _:
            detail = error.detail
    return Problem.of(error.status_code, detail, headers=headers)


def _methods(request: Request) -> list[str]:
    """Every method that this path answers, of whichever route."""
    found: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)


def _from_validation(request: Request, error: RequestValidationError, patterns: Mapping[str, str]) -> Problem:
    faults = error.errors()
    for fault in faults:
        if fault["type"] == "json_invalid":
            reason = fault.get("ctx", {}).get("error", "it cannot be parsed")
            return Problem.of(400, f"the body is not JSON: {reason} at character {fault['loc'][-1]}")
    content_type = request.headers.get("content-type", "")
    if faults[0]["loc"] == ("body",) and "json" not in content_type:
        found = f"it says {content_type}" if content_type else "it says nothing"
        return Problem.of(415, f"send the header Content-Type: application/json; {found}")
    errors = [_place(fault["loc"]) | {"detail": _in_words(fault, patterns)} for fault in faults]
    place = errors[0].get("pointer") or " ".join(str(step) for step in faults[0]["loc"])
    first = f"{place}: {errors[0]['detail']}"
    more = f" (and {len(errors) - 1} more, see errors)" if len(errors) > 1 else ""
    return Problem.of(422, first + more, errors=errors)


def _in_words(fault: Mapping[str, Any], patterns: Mapping[str, str]) -> str:
    match fault["type"]:
        case "string_pattern_mismatch":
            return patterns.get(fault["ctx"]["pattern"], fault["msg"])
        case "extra_forbidden":
            return "is not known here; is it misspelled?"
        case "model_attributes_type":
            return "must be a JSON object"
        case _:
            return str(fault["msg"])


def _place(location: tuple[str | int, ...]) -> dict[str, str]:
    """A JSON pointer (RFC 6901) into the body; outside it, the name of the parameter."""
    part, *path = location
    if part == "body":
        steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
        return {"pointer": "#" + "".join(f"/{step}" for step in steps)}
    return {"parameter": ".".join(str(step) for step in path)}
