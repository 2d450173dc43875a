"""When a payment is authorized, and what becomes of it. Pure: knows no broker, no SQL, no clock.

                     capture              refund
    (none) ─► held ───────────► captured ────────► refunded
      │         │
      │ void    │ void
      ▼         ▼
    tombstone  voided       an authorize that comes after either is refused

Every decision may be asked for again: a repetition changes nothing and gives the same answer. A business
refusal is an answer (`PaymentFailed`), "not now" is a `PutOff`, and what must never have been asked is a
`ContractViolation`.

`Books` holds the accounts and authorizations a batch of commands touches, decides one command after the
other, and remembers what has changed, so that whoever keeps the rows writes them once for all commands
together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from contracts.derived import derived_id
from contracts.money import Money
from contracts.payment import (
    AuthorizePayment,
    CapturePayment,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentFailed,
    PaymentRefunded,
    PaymentVoided,
    RefundPayment,
    VoidPayment,
)
from contracts.value import value
from services.payment.journal import Entry, Operation, entry_of

CARD_DECLINED: Final = "card_declined"
ACCOUNT_ON_HOLD: Final = "account_on_hold"
ALREADY_AUTHORIZED: Final = "already_authorized"
VOIDED: Final = "voided"
REFUNDED: Final = "refunded"
INVALID_AMOUNT: Final = "invalid_amount"
INVALID_CUSTOMER: Final = "invalid_customer"

REVIEW_RETRY: Final = timedelta(seconds=2)
"""How long an authorization on an account under review is put off at most: four tries take six seconds."""

REVIEW_ATTEMPTS: Final = 4
"""How often such an authorization is tried in all before it is refused."""

ISSUER_RETRY: Final = timedelta(seconds=5)
"""How long an authorization is put off at most while the issuer is offline; the saga decides when to give up.
"""

MAX_CUSTOMER_ID: Final = 200
"""Characters. Longer ids are refused before they reach an index, whose entries are bounded."""

NO_CURRENCY: Final = "XXX"
"""ISO 4217's code for "no currency is involved": the refund of an order nothing is known of."""

_AUTHORIZATIONS: Final = UUID("0a4b1c8e-6a3f-5c6b-8a0d-6f2f3b9d7e21")


class Status(StrEnum):
    """Where an authorization is in its life."""

    HELD = "held"
    CAPTURED = "captured"
    VOIDED = "voided"
    REFUNDED = "refunded"


class ContractViolation(Exception):
    """Something was asked that the contract rules out; a person must look, nobody may try again.

    `order_id` is the order it was asked for.
    """

    def __init__(self, order_id: UUID, problem: str) -> None:
        super().__init__(f"payment of order {order_id}: {problem}")
        self.order_id = order_id


@dataclass(frozen=True, slots=True)
class PutOff:
    """Not now: try the command again `after` this long, `attempts` times in all (None: as long as it takes).

    `otherwise` is the answer when the attempts are used up.
    """

    reason: str
    after: timedelta
    attempts: int | None = None
    otherwise: PaymentFailed | None = None


def account_id(customer_id: str, currency: str) -> str:
    """A customer has one account for each currency; the currency's three letters come first."""
    return f"{currency}:{customer_id}"


@value
class Account:
    """What one customer may spend in one currency. All amounts are minor units.

    `held` is set aside by authorizations, `captured` is taken and not refunded. Until `held_until` the
    account is under review and authorizations are put off; until `issuer_offline_until` nobody can be asked.
    """

    customer_id: str
    currency: str
    credit_limit: int
    held: int = 0
    captured: int = 0
    held_until: datetime | None = None
    issuer_offline_until: datetime | None = None

    @property
    def id(self) -> str:
        return account_id(self.customer_id, self.currency)

    @property
    def open_to_buy(self) -> int:
        """What can still be authorized; negative after the limit was lowered below what is spent."""
        return self.credit_limit - self.held - self.captured

    def moved(self, *, held: int = 0, captured: int = 0) -> Account:
        """The account once so much more is held and captured."""
        return Account(
            self.customer_id,
            self.currency,
            self.credit_limit,
            self.held + held,
            self.captured + captured,
            self.held_until,
            self.issuer_offline_until,
        )


@value
class Authorization:
    """The hold on a customer's account for one order, and what became of it."""

    order_id: UUID
    authorization_id: str
    customer_id: str
    amount: Money
    status: Status = Status.HELD

    @property
    def account_id(self) -> str:
        return account_id(self.customer_id, self.amount.currency)

    def become(self, status: Status) -> Authorization:
        """The same hold, of which this has become."""
        return Authorization(self.order_id, self.authorization_id, self.customer_id, self.amount, status)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Voided before anything was authorized: an authorize of this order that comes later is refused."""

    order_id: UUID


def authorization_id(order_id: UUID) -> str:
    """The id of an order's authorization in our own ledger, the same however often it is asked for."""
    return str(derived_id(_AUTHORIZATIONS, str(order_id)))


def objection(command: AuthorizePayment) -> PaymentFailed | None:
    """The refusal of a command that no account could satisfy, or None where an account has to be asked."""
    if command.amount.amount < 0:
        return PaymentFailed(
            order_id=command.order_id,
            reason=INVALID_AMOUNT,
            detail=f"an amount below zero cannot be authorized: {command.amount}",
        )
    if not 1 <= len(command.customer_id) <= MAX_CUSTOMER_ID:
        return PaymentFailed(
            order_id=command.order_id,
            reason=INVALID_CUSTOMER,
            detail=f"a customer id has 1 to {MAX_CUSTOMER_ID} characters, not {len(command.customer_id)}",
        )
    return None


class Books:
    """The accounts and authorizations a batch needs, as the decisions so far have left them.

    The account of every authorization, and of every customer in an `AuthorizePayment` without `objection`,
    has to be among `accounts`; a missing one is a KeyError.
    """

    def __init__(self, accounts: Iterable[Account], authorizations: Iterable[Authorization | Tombstone]) -> None:
        self._accounts = {account.id: account for account in accounts}
        self._known = {each.order_id: each for each in authorizations}
        self._before_accounts = dict(self._accounts)
        self._before_known = dict(self._known)
        self._entries: list[Entry] = []

    def authorize(self, command: AuthorizePayment, now: datetime) -> PaymentAuthorized | PaymentFailed | PutOff:
        """Hold the amount on the customer's account, refuse, or put it off."""
        known = self._known.get(command.order_id)
        if known is not None:
            return authorize_again(command, known)
        refusal = objection(command)
        if refusal is not None:
            return refusal
        account = self._accounts[account_id(command.customer_id, command.amount.currency)]
        # An amount of zero needs nobody's consent: it holds nothing.
        if command.amount.amount > 0:
            obstacle = _obstacle(command, account, now)
            if obstacle is not None:
                return obstacle
        return self.hold(command, authorization_id(command.order_id))

    def hold(self, command: AuthorizePayment, authorization_id: str) -> PaymentAuthorized:
        """Write down an authorization that was granted, here or by a gateway; no limit is looked at.

        An order that is known already stays as it is: a gateway repeats its old consent after a void.
        """
        if command.order_id not in self._known:
            authorization = Authorization(command.order_id, authorization_id, command.customer_id, command.amount)
            self._known[command.order_id] = authorization
            self._move(authorization, Operation.AUTHORIZE, held=command.amount.amount)
        return PaymentAuthorized(order_id=command.order_id, authorization_id=authorization_id, amount=command.amount)

    def void(self, command: VoidPayment) -> PaymentVoided:
        """Let go of what is held. Raises ContractViolation for a captured payment: that takes a refund."""
        match self._known.get(command.order_id):
            case None:
                self._known[command.order_id] = Tombstone(command.order_id)
            case Authorization(status=Status.HELD) as authorization:
                self._known[command.order_id] = authorization.become(Status.VOIDED)
                self._move(authorization, Operation.VOID, held=-authorization.amount.amount)
            case Authorization(status=Status.CAPTURED) as authorization:
                raise ContractViolation(
                    command.order_id,
                    f"{authorization.amount} is captured and can no longer be voided; send payment.refund",
                )
            case Tombstone() | Authorization():
                pass
        return PaymentVoided(order_id=command.order_id)

    def capture(self, command: CapturePayment) -> PaymentCaptured:
        """Take what is held. Raises ContractViolation where nothing is, or another amount than asked for."""
        authorization = self._known.get(command.order_id)
        if not isinstance(authorization, Authorization):
            raise ContractViolation(
                command.order_id,
                "nothing was authorized that could be captured; authorize it first",
            )
        if authorization.amount != command.amount:
            raise ContractViolation(
                command.order_id,
                f"{authorization.amount} is authorized, not the {command.amount} to be captured; "
                "capture exactly what is held",
            )
        match authorization.status:
            case Status.HELD:
                amount = authorization.amount.amount
                self._known[command.order_id] = authorization.become(Status.CAPTURED)
                self._move(authorization, Operation.CAPTURE, held=-amount, captured=amount)
            case Status.CAPTURED:
                pass
            case Status.VOIDED | Status.REFUNDED as status:
                raise ContractViolation(
                    command.order_id, f"the authorization was {status} and can no longer be captured"
                )
        return PaymentCaptured(order_id=command.order_id, amount=authorization.amount)

    def refund(self, command: RefundPayment) -> PaymentRefunded:
        """Give back what was captured; nothing captured is an amount of zero, and a hold stays as it is."""
        authorization = self._known.get(command.order_id)
        match authorization:
            case Authorization(status=Status.CAPTURED):
                self._known[command.order_id] = authorization.become(Status.REFUNDED)
                self._move(authorization, Operation.REFUND, captured=-authorization.amount.amount)
                amount = authorization.amount
            case Authorization(status=Status.REFUNDED):
                amount = authorization.amount
            case Authorization():
                amount = Money(amount=0, currency=authorization.amount.currency)
            case _:
                amount = Money(amount=0, currency=NO_CURRENCY)
        return PaymentRefunded(order_id=command.order_id, amount=amount)

    def account(self, id: str) -> Account:
        """An account as it is now. Raises KeyError where it was not given."""
        return self._accounts[id]

    def known(self, order_id: UUID) -> Authorization | Tombstone | None:
        """What is known of an order now."""
        return self._known.get(order_id)

    def changed_accounts(self) -> list[Account]:
        """The accounts whose sums are no longer what they were."""
        return [each for key, each in self._accounts.items() if each != self._before_accounts[key]]

    def opened(self) -> list[Authorization | Tombstone]:
        """What was first heard of in this batch, as it is now."""
        return [each for key, each in self._known.items() if key not in self._before_known]

    def changed(self) -> list[Authorization]:
        """The authorizations that were known before and have another status now."""
        return [
            each
            for key, each in self._known.items()
            if isinstance(each, Authorization) and self._before_known.get(key, each) != each
        ]

    def entries(self) -> list[Entry]:
        """What goes into the journal, in the order in which it was decided."""
        return list(self._entries)

    def _move(self, authorization: Authorization, operation: Operation, *, held: int = 0, captured: int = 0) -> None:
        account = self._accounts[authorization.account_id]
        self._accounts[authorization.account_id] = account.moved(held=held, captured=captured)
        entry = entry_of(operation, authorization.order_id, authorization.customer_id, authorization.amount)
        if entry is not None:
            self._entries.append(entry)


def authorize_again(command: AuthorizePayment, known: Authorization | Tombstone) -> PaymentAuthorized | PaymentFailed:
    """The answer for an order of which something is known already; it changes nothing."""
    if isinstance(known, Tombstone) or known.status is Status.VOIDED:
        reason, detail = VOIDED, "the payment of this order was voided; place a new order"
    elif known.status is Status.REFUNDED:
        reason, detail = REFUNDED, "the payment of this order was refunded; place a new order"
    elif (known.customer_id, known.amount) != (command.customer_id, command.amount):
        reason = ALREADY_AUTHORIZED
        detail = (
            f"{known.amount} of {known.customer_id} is authorized for this order, "
            f"not {command.amount} of {command.customer_id}; void it first"
        )
    else:
        return PaymentAuthorized(order_id=known.order_id, authorization_id=known.authorization_id, amount=known.amount)
    return PaymentFailed(order_id=command.order_id, reason=reason, detail=detail)


def _obstacle(command: AuthorizePayment, account: Account, now: datetime) -> PaymentFailed | PutOff | None:
    if account.issuer_offline_until is not None and now < account.issuer_offline_until:
        return PutOff(
            f"the issuer of {account.customer_id} is offline until {_in_words(account.issuer_offline_until)}",
            after=min(account.issuer_offline_until - now, ISSUER_RETRY),
        )
    if account.held_until is not None and now < account.held_until:
        why = f"the account of {account.customer_id} is under review until {_in_words(account.held_until)}"
        return PutOff(
            why,
            after=min(account.held_until - now, REVIEW_RETRY),
            attempts=REVIEW_ATTEMPTS,
            otherwise=PaymentFailed(order_id=command.order_id, reason=ACCOUNT_ON_HOLD, detail=why),
        )
    if command.amount.amount > account.open_to_buy:
        open_to_buy = Money(amount=max(account.open_to_buy, 0), currency=account.currency)
        return PaymentFailed(
            order_id=command.order_id,
            reason=CARD_DECLINED,
            detail=f"{command.amount} is more than the {open_to_buy} {account.customer_id} has open to buy",
        )
    return None


def _in_words(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds")
