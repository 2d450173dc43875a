"""Placing orders over HTTP and waiting for what becomes of them, while the service may come and go.

Every order has an idempotency key made of its reference, so sending one again places it once.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_all,
    wait_random_exponential,
)

from contracts.money import Money
from services.order.domain import OrderStatus
from services.order.order_file import FileOrder, WrongRow

KEY_PREFIX = "place:"
MAX_KEY = 255
PAGE = 1000

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is, and how much there is to do."""


class ServiceUnavailable(Exception):
    """The order service did not answer for as long as we were willing to wait; says where and why."""


class _TryAgain(Exception):
    """No answer, or one that says nothing about this order."""


class _Failed(_TryAgain):
    """The service itself failed on this request: it is there, but it may never manage."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An order the service has; `before` when it had it already."""

    order_id: UUID
    amount: Money
    before: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of an order: completed with what was captured, or canceled for a reason."""

    status: OrderStatus
    captured: Money | None
    reason: str | None


class OrderClient:
    """The order service behind `http`, asked again for `patience` seconds when it does not answer.

    `unanswered` is told, at every attempt that failed, who does not answer, why, and how long it is tried.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        patience: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        unanswered: Callable[[str], None] | None = None,
    ) -> None:
        self._http = http
        self._patience = patience
        self._sleep = sleep
        self._unanswered = unanswered

    async def check(self, patience: float) -> None:
        """Return when the service answers. Raises ServiceUnavailable after so many seconds."""
        await self._ask("GET", "/orders", patience=patience, params={"limit": 1})

    async def place(self, order: FileOrder) -> Placed | WrongRow:
        """Place it, or find it placed. A refusal is the row's fault; an absent service raises
        ServiceUnavailable.
        """
        key = KEY_PREFIX + quote(order.order_ref, safe="!#$&'()*+,/:;=?@[]~")
        if len(key) > MAX_KEY:
            return WrongRow(order.line, f"order_ref has more than {MAX_KEY - len(KEY_PREFIX)} characters")
        line = {"sku": order.sku, "quantity": order.quantity, "amount": order.amount.amount}
        body = {
            "customer_id": order.customer_id,
            "currency": order.amount.currency,
            "lines": [line],
        }
        try:
            answer = await self._ask("POST", "/orders", json=body, headers={"Idempotency-Key": key})
        except _Failed as failure:
            return WrongRow(order.line, f"{order.order_ref}: {failure}")
        if answer.is_success:
            return Placed(UUID(answer.json()["id"]), order.amount, "Idempotency-Replayed" in answer.headers)
        return WrongRow(order.line, f"{order.order_ref}: {_refusal(answer)}")

    async def page(self, after: UUID, limit: int) -> list[dict[str, Any]]:
        """At most `limit` orders behind this id, in the order of their ids."""
        params: dict[str, str | int] = {"after": str(after), "limit": limit}
        try:
            answer = await self._ask("GET", "/orders", params=params)
        except _Failed as failure:
            raise ServiceUnavailable(f"{self._http.base_url}: {failure}") from failure
        if not answer.is_success:
            raise ServiceUnavailable(f"{self._http.base_url} does not list orders: {_refusal(answer)}")
        found: list[dict[str, Any]] = answer.json()["orders"]
        return found

    async def _ask(self, method: str, path: str, *, patience: float | None = None, **request: Any) -> httpx.Response:
        bound = self._patience if patience is None else patience

        def say(state: RetryCallState) -> None:
            if self._unanswered is not None:
                self._unanswered(f"{self._silent(state)}; trying for {bound:g} s")

        attempts = AsyncRetrying(
            # A first answer that is slow in coming may take all of the time, and is no reason to give up at once.
            stop=stop_all(stop_after_delay(bound), stop_after_attempt(2 if bound else 1)),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            retry=retry_if_exception_type(_TryAgain),
            sleep=self._sleep,
            before_sleep=say,
            retry_error_callback=self._give_up,
        )
        answer: httpx.Response = await attempts(self._once, method, path, request)
        return answer

    async def _once(self, method: str, path: str, request: dict[str, Any]) -> httpx.Response:
        try:
            answer = await self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise _TryAgain(str(error) or type(error).__name__) from error
        if answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR:
            raise _Failed(_refusal(answer))
        if answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise _TryAgain(_refusal(answer))
        return answer

    def _give_up(self, state: RetryCallState) -> httpx.Response:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _Failed):
            raise error
        raise ServiceUnavailable(self._silent(state)) from error

    def _silent(self, state: RetryCallState) -> str:
        error = state.outcome.exception() if state.outcome else None
        return f"{self._http.base_url} does not answer: {error}"


async def place_all(
    client: OrderClient,
    rows: Iterable[FileOrder | WrongRow],
    *,
    total: int,
    concurrency: int,
    progress: Progress,
) -> list[Placed | WrongRow]:
    """Place every row, `concurrency` at a time, in the order of the file as far as that allows.

    Raises ServiceUnavailable when the service stays away.
    """
    waiting = iter(rows)
    results: list[Placed | WrongRow] = []

    async def work() -> None:
        for row in waiting:
            results.append(row if isinstance(row, WrongRow) else await client.place(row))
            progress("placing", len(results), total)

    said: list[ServiceUnavailable] = []
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
    except* ServiceUnavailable as absent:
        # Every worker says the same; one of them is enough. What is raised in here, some Pythons wrap in a group again.
        said.append(_first(absent))
    if said:
        raise said[0]
    return results


async def await_ends(
    client: OrderClient,
    order_ids: Iterable[UUID],
    *,
    seconds: float,
    progress: Progress,
    interval: float = 1.0,
) -> dict[UUID, Ended]:
    """What became of those orders that ended within so many seconds.

    Looks at whole pages of orders and jumps from one that has not ended to the next, so it asks little
    however many other orders there are. Raises ServiceUnavailable when the service stays away.
    """
    unfinished = sorted(set(order_ids))
    total = len(unfinished)
    ended: dict[UUID, Ended] = {}
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    doing = f"waiting up to {seconds:g} s for orders to end, which takes a running orchestrator and payment service"
    while True:
        ended |= await _look(client, unfinished)
        unfinished = [order_id for order_id in unfinished if order_id not in ended]
        progress(doing, len(ended), total)
        left = deadline - loop.time()
        if not unfinished or left <= 0:
            return ended
        await asyncio.sleep(min(interval, left))


async def _look(client: OrderClient, unfinished: list[UUID]) -> dict[UUID, Ended]:
    mine = set(unfinished)
    ended: dict[UUID, Ended] = {}
    at = 0
    while at < len(unfinished):
        before = UUID(int=max(unfinished[at].int - 1, 0))
        page = await client.page(before, min(PAGE, len(unfinished) - at))
        ended |= {order_id: end for order_id, end in _ends(page) if order_id in mine}
        if not page:
            break
        # An order that is not on its page is unknown to the service; go on behind it all the same.
        at = max(at + 1, bisect_right(unfinished, UUID(page[-1]["id"])))
    return ended


def _ends(page: list[dict[str, Any]]) -> Iterator[tuple[UUID, Ended]]:
    for each in page:
        status = OrderStatus(each["status"])
        if status is OrderStatus.COMPLETED:
            captured = Money(amount=each["captured"], currency=each["currency"])
            yield UUID(each["id"]), Ended(status, captured, None)
        elif status is OrderStatus.CANCELED:
            yield UUID(each["id"]), Ended(status, None, each["reason"])


def _refusal(answer: httpx.Response) -> str:
    if answer.headers.get("content-type", "").startswith("application/problem+json"):
        problem = answer.json()
        return f"{problem['title']}: {problem['detail']}"
    return f"HTTP {answer.status_code} {answer.reason_phrase}"


def _first(group: BaseExceptionGroup[ServiceUnavailable]) -> ServiceUnavailable:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
