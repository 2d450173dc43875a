"""A card gateway behind HTTP.

    POST {url}/v1/payments/{order id}/authorize   {"customer", "amount", "currency"}
    POST {url}/v1/payments/{order id}/capture     {"amount", "currency"}
    POST {url}/v1/payments/{order id}/void        {}
    POST {url}/v1/payments/{order id}/refund      {}

Each with the header `Idempotency-Key`. Answers that we understand: 200 or 201 with the result; 402
`{"reason", "detail"}`, a decline; 409 or 422 `{"code", "detail"}`, a request that must never have been made.
Connection errors, bodies that cannot be decoded, 429 and 5xx are tried again with the same key while the time
limit lasts. Everything else, and a time limit that runs out, is unclear: it may have been charged, and only the
same key can find out.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

import httpx
from pydantic import BaseModel, ValidationError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from contracts.money import MinorUnits, Money
from services.payment.gateway import Approved, Declined, GatewayRefused, GatewayUnclear

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
"""Pauses double from the first to the longest, each shortened at random: callers do not march in step."""

_CALL_AGAIN = frozenset({429, 500, 502, 503, 504})

A = TypeVar("A", bound=BaseModel)


class _Approval(BaseModel):
    authorization_id: str


class _Decline(BaseModel):
    reason: str
    detail: str = ""


class _Done(BaseModel):
    pass


class _Refund(BaseModel):
    amount: MinorUnits
    currency: str


class _Refusal(BaseModel):
    code: str
    detail: str = ""


class _CallAgain(Exception):
    """An attempt got nowhere; another one, with the same key, may."""


class HttpGateway:
    """A `Gateway` at `url`. Use as an async context manager: it keeps connections open between calls.

    `time_limit` bounds one call, its repetitions included. `token` is sent as a bearer token.
    """

    def __init__(self, url: str, *, time_limit: timedelta, token: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._seconds = time_limit.total_seconds()
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._client = httpx.AsyncClient(headers=headers, timeout=self._seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def authorize(self, order_id: UUID, customer_id: str, amount: Money, *, key: UUID) -> Approved | Declined:
        response = await self._call(
            order_id,
            "authorize",
            key,
            {"customer": customer_id, "amount": amount.amount, "currency": amount.currency},
        )
        if response.status_code == httpx.codes.PAYMENT_REQUIRED:
            decline = _read(_Decline, response)
            return Declined(decline.reason, decline.detail)
        return Approved(_result(_Approval, response).authorization_id)

    async def capture(self, order_id: UUID, amount: Money, *, key: UUID) -> None:
        body = {"amount": amount.amount, "currency": amount.currency}
        _result(_Done, await self._call(order_id, "capture", key, body))

    async def void(self, order_id: UUID, *, key: UUID) -> None:
        _result(_Done, await self._call(order_id, "void", key, {}))

    async def refund(self, order_id: UUID, *, key: UUID) -> Money:
        response = await self._call(order_id, "refund", key, {})
        refund = _result(_Refund, response)
        try:
            return Money(amount=refund.amount, currency=refund.currency)
        except ValidationError as error:
            raise _unreadable(response) from error

    async def _call(self, order_id: UUID, action: str, key: UUID, body: dict[str, Any]) -> httpx.Response:
        """The first answer that is worth reading. Raises GatewayUnclear where none came in time."""
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(_CallAgain),
            stop=stop_after_delay(self._seconds),
            wait=wait_random_exponential(multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS),
            reraise=True,
        )
        url = f"{self._url}/v1/payments/{order_id}/{action}"
        last = "no answer"
        try:
            async with asyncio.timeout(self._seconds):
                async for attempt in attempts:
                    with attempt:
                        try:
                            return await self._post(url, key, body)
                        except _CallAgain as error:
                            last = str(error)
                            raise
        except (TimeoutError, _CallAgain) as error:
            raise GatewayUnclear(
                f"{action} of order {order_id}: the gateway gave no clear answer within "
                f"{self._seconds:g} s (last: {last}); it will be asked again with the same key"
            ) from error
        raise AssertionError("tenacity either returns an attempt or raises")

    async def _post(self, url: str, key: UUID, body: dict[str, Any]) -> httpx.Response:
        try:
            response = await self._client.post(url, json=body, headers={"idempotency-key": str(key)})
        except httpx.RequestError as error:
            # Also a body that cannot be decoded: the charge behind it may have happened.
            raise _CallAgain(f"{type(error).__name__} {error}".rstrip()) from error
        if response.status_code in _CALL_AGAIN:
            raise _CallAgain(f"HTTP {response.status_code}")
        return response


def _result(model: type[A], response: httpx.Response) -> A:
    if response.status_code in (httpx.codes.OK, httpx.codes.CREATED):
        return _read(model, response)
    if response.status_code in (httpx.codes.CONFLICT, httpx.codes.UNPROCESSABLE_ENTITY):
        refusal = _read(_Refusal, response)
        raise GatewayRefused(f"the gateway refuses: {refusal.code} {refusal.detail}".rstrip())
    raise _unreadable(response)


def _read(model: type[A], response: httpx.Response) -> A:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise _unreadable(response) from error


def _unreadable(response: httpx.Response) -> GatewayUnclear:
    return GatewayUnclear(
        f"{response.request.url.path}: the gateway answered HTTP {response.status_code} with "
        f"{response.text[:200]!r}, which says neither yes nor no; check PAYMENT_GATEWAY_URL and "
        "PAYMENT_GATEWAY_TOKEN if this lasts"
    )
