"""How much a request may bring along."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 64 * 1024
"""Bytes in a request's body: a hundred lines with the longest names need a quarter of it."""


class BodyLimit:
    """ASGI middleware: whoever reads more than `limit` bytes of a request gets HTTPException 413 instead."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = 0

        async def receive_some() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise HTTPException(413, f"a request may have {self._limit} bytes; send smaller orders, one a request")
            return message

        await self._app(scope, receive_some, send)
