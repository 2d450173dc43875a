"""Customers who place orders all the time, whoever is being stopped or replaced, and remember what they were told."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

import httpx

PLACE_SECONDS = 90.0
"""How long a customer tries to place one order before the trial has failed."""
END_SECONDS = 120.0
TIMEOUT = httpx.Timeout(10, connect=1)
"""An address behind which nobody is at the moment does not always refuse: a packet may just get lost there."""
RICH, POOR = 2_933, 60_000
"""Amounts in cents: within the credit limit that accounts begin with, and above it."""


class NotServed(Exception):
    """An order could not be placed, or did not end; says which."""


@dataclass
class Told:
    """What the customers were told. Times in seconds."""

    placed: dict[UUID, float] = field(default_factory=dict)
    """The orders that were confirmed with 201, and when."""
    again: int = 0
    """How often one had to ask again."""
    longest: float = 0.0
    """The longest it took to place an order, asking again included."""


class Customers:
    """So many orders a second until `leave`, each with a key, so that asking again orders nothing twice."""

    def __init__(self, url: str, pace: float, prefix: str) -> None:
        self.told = Told()
        self._url = url
        self._pace = pace
        self._prefix = prefix
        self._leaving = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._come, name="customers")

    def arrive(self) -> None:
        self._thread.start()

    @property
    def there(self) -> bool:
        """Whether they go on placing orders: none has given up."""
        return self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Let them go on for so long."""
        self._thread.join(seconds)

    def leave(self) -> Told:
        """Place no more; what they were told. Raises NotServed where one gave up."""
        self._leaving.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self.told

    def _come(self) -> None:
        try:
            with httpx.Client(base_url=self._url, timeout=TIMEOUT, trust_env=False) as http:
                number = 0
                while not self._leaving.wait(1 / self._pace):
                    number += 1
                    self._place(http, number)
        except (NotServed, httpx.HTTPError) as error:
            self._failure = error

    def _place(self, http: httpx.Client, number: int) -> None:
        # Every tenth customer has spent too much: what was begun for him is undone.
        amount = POOR if number % 10 == 0 else RICH
        order = {
            "customer_id": f"{self._prefix}-{number}",
            "currency": "USD",
            "lines": [{"sku": "CD", "quantity": 1, "amount": amount}],
        }
        began = time.monotonic()
        while True:
            try:
                headers = {"Idempotency-Key": f"{self._prefix}-{number}"}
                answer = http.post("/orders", json=order, headers=headers)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == httpx.codes.CREATED:
                break
            if answer is not None and answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                raise NotServed(f"order {number} was refused: {answer.status_code} {answer.text}")
            if time.monotonic() - began > PLACE_SECONDS:
                raise NotServed(f"order {number} could not be placed within {PLACE_SECONDS:g} s")
            self.told.again += 1
            time.sleep(0.1)
        now = time.monotonic()
        self.told.longest = max(self.told.longest, now - began)
        self.told.placed[UUID(answer.json()["id"])] = now


def ends(url: str, placed: set[UUID]) -> Counter[str]:
    """How the orders have ended, once all have: `completed`, or why not. Raises NotServed after a while."""
    give_up = time.monotonic() + END_SECONDS
    with httpx.Client(base_url=url, timeout=10, trust_env=False) as http:
        while True:
            found = _orders(http)
            missing = placed - found.keys()
            if missing:
                raise NotServed(f"{len(missing)} orders were confirmed and are not there: {sorted(missing)[:3]}")
            under_way = [identity for identity in placed if found[identity] in ("placed", "confirmed")]
            if not under_way:
                return Counter(found[identity] for identity in placed)
            if time.monotonic() > give_up:
                raise NotServed(f"{len(under_way)} orders have not ended, like {under_way[0]}")
            time.sleep(0.5)


def _orders(http: httpx.Client) -> dict[UUID, str]:
    found: dict[UUID, str] = {}
    page: str | None = "/orders?limit=1000"
    while page is not None:
        answer = http.get(page).raise_for_status().json()
        found |= {UUID(each["id"]): each["reason"] or each["status"] for each in answer["orders"]}
        page = answer["next"]
    return found
