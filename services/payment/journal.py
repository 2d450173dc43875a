"""The journal's law, without a database: each entry is written once, and its postings sum to zero.

The chart of ledger accounts, and what moves between them (a positive amount arrives, a negative one leaves):

    customer:<id>      counts down from zero as the customer spends; a credit limit is not money
    holds              set aside for an order, not ours yet
    merchant:sales     captured; only ever grows
    merchant:refunds   given back; only ever shrinks

                 customer:<id>    holds    merchant:sales    merchant:refunds
    authorize         -a            +a
    void              +a            -a
    capture                         -a           +a
    refund            +a                                            -a

So the balance of `holds` is what is held, and a customer's limit plus their balance is what is open to buy.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final
from uuid import UUID

from contracts.derived import derived_id
from contracts.money import Money
from contracts.value import value

HOLDS: Final = "holds"
SALES: Final = "merchant:sales"
REFUNDS: Final = "merchant:refunds"
CUSTOMER_PREFIX: Final = "customer:"

_ENTRIES: Final = UUID("5b0b8f6e-3f0c-5d6a-9a57-3d1d6a0a4c11")


class Operation(StrEnum):
    """What can happen to the money of one order, each at most once."""

    AUTHORIZE = "authorize"
    VOID = "void"
    CAPTURE = "capture"
    REFUND = "refund"


def customer_account(customer_id: str) -> str:
    """The ledger account of a customer."""
    return f"{CUSTOMER_PREFIX}{customer_id}"


@value
class Posting:
    """`amount` minor units arriving at (or, negative, leaving) one ledger account."""

    account: str
    amount: int


@value
class Entry:
    """One movement of money of one currency: postings that sum to zero.

    Raises ValueError where they do not, or where one of them moves nothing.
    """

    order_id: UUID
    operation: Operation
    currency: str
    postings: tuple[Posting, ...]

    def __post_init__(self) -> None:
        total = sum(posting.amount for posting in self.postings)
        if total != 0 or len(self.postings) < 2 or any(each.amount == 0 for each in self.postings):
            raise ValueError(
                f"{self.operation} of order {self.order_id} does not balance: "
                f"{', '.join(f'{each.account} {each.amount:+d}' for each in self.postings)}"
            )

    @property
    def id(self) -> UUID:
        """Derived from order and operation: a repetition meets the primary key and not the balance."""
        return derived_id(_ENTRIES, f"{self.order_id}/{self.operation}")


def entry_of(operation: Operation, order_id: UUID, customer_id: str, amount: Money) -> Entry | None:
    """The entry that writes down one operation, or None for an amount of zero, which moves nothing."""
    if amount.amount == 0:
        return None
    customer = customer_account(customer_id)
    match operation:
        case Operation.AUTHORIZE:
            source, target = customer, HOLDS
        case Operation.VOID:
            source, target = HOLDS, customer
        case Operation.CAPTURE:
            source, target = HOLDS, SALES
        case Operation.REFUND:
            source, target = REFUNDS, customer
    postings = (Posting(source, -amount.amount), Posting(target, amount.amount))
    return Entry(order_id, operation, amount.currency, postings)
