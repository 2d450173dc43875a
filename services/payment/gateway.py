"""A card gateway, as far as we need one: what stands outside and is asked one command at a time.

There are two places where money can be, and they have two honest shapes:

* **the ledger in this service's own database** (`services.payment.ledger`) works on a whole batch inside the
  batch's transaction. It needs no idempotency key, no time limit and no retries, because it commits or rolls
  back with the answer. It is not a `Gateway`, and pretending otherwise would cost several statements a
  message.
* **a gateway outside** (this Protocol; `http_gateway.HttpGateway`) is asked outside any transaction, with the
  command's id as idempotency key, within a time limit. What it answered is then written into the same journal
  by the same `domain.Books`, in the transaction that commits our answer.

To connect a real card gateway, implement this Protocol. The payment is named by the order's id (the *merchant
reference*) and not by the gateway's own id, because the void of an authorization whose answer was lost knows
no other name. What a gateway has to promise:

* the same key charges at most once, and a repetition gets the first answer;
* a void of something it never saw is success, and an authorize of that reference is refused afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from contracts.money import Money


class GatewayUnclear(Exception):
    """Nobody knows whether it happened: cut off, timed out, or unreadable. Ask again with the same key."""


class GatewayRefused(Exception):
    """The gateway says that this must never have been asked (a capture of nothing); no use asking again."""


@dataclass(frozen=True, slots=True)
class Approved:
    """The amount is held; `authorization_id` is the gateway's name for it."""

    authorization_id: str


@dataclass(frozen=True, slots=True)
class Declined:
    """A business refusal; `reason` is a word for programs, `detail` a sentence for people."""

    reason: str
    detail: str


class Gateway(Protocol):
    """Every call raises GatewayUnclear where the outcome is unknown, GatewayRefused where asking was wrong.

    `key` makes a repetition harmless. Calls are concurrent. No amount is ever zero: an order that costs nothing
    is settled without a gateway.
    """

    async def authorize(self, order_id: UUID, customer_id: str, amount: Money, *, key: UUID) -> Approved | Declined:
        """Hold the amount for this order."""
        ...

    async def capture(self, order_id: UUID, amount: Money, *, key: UUID) -> None:
        """Take what is held for this order."""
        ...

    async def void(self, order_id: UUID, *, key: UUID) -> None:
        """Let go of what is held for this order; nothing held is success."""
        ...

    async def refund(self, order_id: UUID, *, key: UUID) -> Money:
        """Give back what was captured for this order, and say how much that was (zero included)."""
        ...
