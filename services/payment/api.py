"""The payment service's HTTP API: accounts and their limits, what became of a payment, and the audit.

Amounts are integers of minor units (2933 USD is 29.33 dollars). Money itself moves only by commands.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import FastAPI, Path
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictInt

from contracts.money import Money
from messaging.database import Database
from services.payment.audit import Audit, audit
from services.payment.domain import MAX_CUSTOMER_ID, Account, Authorization, Tombstone
from services.payment.problems import BodyLimit, Problem, answer_with_problems
from services.payment.store import accounts_of_customer, authorization_of, journal_of, put_account

MAX_BODY_BYTES = 64 * 1024

CustomerId = Annotated[str, Path(min_length=1, max_length=MAX_CUSTOMER_ID, pattern=r"^[^\x00]+$")]


class Terms(BaseModel):
    """What an account may spend, and when nobody may be asked; replaces the account's terms as a whole."""

    model_config = ConfigDict(extra="forbid")

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["USD"])]
    credit_limit: Annotated[StrictInt, Field(ge=0, lt=2**63, description="In minor units.")]
    held_until: AwareDatetime | None = Field(
        default=None,
        description="The account is under review: authorizations are put off until then, and refused "
        "with account_on_hold when that takes too long.",
    )
    issuer_offline_until: AwareDatetime | None = Field(
        default=None, description="Nobody can be asked: authorizations wait, without an answer, until then."
    )


class AccountView(BaseModel):
    """One account of a customer, in minor units."""

    customer_id: str
    currency: str
    credit_limit: int
    open_to_buy: int
    """What is left of the limit after `held` and `captured`."""
    held: int
    captured: int
    """Taken and not refunded."""
    held_until: datetime | None
    issuer_offline_until: datetime | None


class CustomerView(BaseModel):
    """A customer's accounts, one for each currency."""

    customer_id: str
    accounts: list[AccountView]


class PostingView(BaseModel):
    """An amount arriving at (or, negative, leaving) a ledger account."""

    account: str
    amount: int
    currency: str


class EntryView(BaseModel):
    """One journal entry; its postings sum to zero."""

    id: UUID
    operation: str
    at: datetime
    postings: list[PostingView]


class PaymentView(BaseModel):
    """What became of the payment of one order."""

    order_id: UUID
    status: str
    """held, captured, voided or refunded; voided as well where nothing had been authorized."""
    customer_id: str | None
    authorization_id: str | None
    amount: Money | None
    journal: list[EntryView]


def create_app(database: Database, *, now: Callable[[], datetime]) -> FastAPI:
    """The API over this database; `now` says when an account was opened."""
    # The interactive pages of FastAPI load their scripts from a network; /openapi.json does not.
    app = FastAPI(title="Amends: payment service", version="1", docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit, limit=MAX_BODY_BYTES)
    answer_with_problems(app)

    @app.put("/accounts/{customer_id}", summary="Open an account or change its terms")
    async def put_terms(customer_id: CustomerId, terms: Terms) -> AccountView:
        wanted = Account(
            customer_id=customer_id,
            currency=terms.currency,
            credit_limit=terms.credit_limit,
            held_until=terms.held_until,
            issuer_offline_until=terms.issuer_offline_until,
        )
        async with database.transaction() as db:
            return _account_view(await put_account(db, wanted, now=now()))

    @app.get("/accounts/{customer_id}", summary="A customer's accounts")
    async def get_accounts(customer_id: CustomerId) -> CustomerView:
        async with database.reading() as db:
            accounts = await accounts_of_customer(db, customer_id)
        if not accounts:
            raise Problem(
                HTTPStatus.NOT_FOUND,
                f"{customer_id} has no account yet; the first order opens one, and so does PUT",
                kind="unknown-customer",
                title="There is no such customer",
            )
        return CustomerView(customer_id=customer_id, accounts=[_account_view(each) for each in accounts])

    @app.get("/payments/{order_id}", summary="What became of an order's payment")
    async def get_payment(order_id: UUID) -> PaymentView:
        async with database.reading() as db:
            known = await authorization_of(db, order_id)
            journal = await journal_of(db, order_id)
        if known is None:
            raise Problem(
                HTTPStatus.NOT_FOUND,
                f"nothing was authorized or voided for order {order_id}; a refusal leaves no trace here",
                kind="unknown-payment",
                title="There is no such payment",
            )
        entries = [
            EntryView(
                id=entry.id,
                operation=entry.operation.value,
                at=at,
                postings=[
                    PostingView(account=each.account, amount=each.amount, currency=entry.currency)
                    for each in entry.postings
                ],
            )
            for at, entry in journal
        ]
        return _payment_view(known, entries)

    @app.get("/audit", summary="Is all the money where the journal says it is?")
    async def get_audit() -> Audit:
        return await audit(database)

    return app


def _account_view(account: Account) -> AccountView:
    return AccountView(
        customer_id=account.customer_id,
        currency=account.currency,
        credit_limit=account.credit_limit,
        open_to_buy=account.open_to_buy,
        held=account.held,
        captured=account.captured,
        held_until=account.held_until,
        issuer_offline_until=account.issuer_offline_until,
    )


def _payment_view(known: Authorization | Tombstone, journal: list[EntryView]) -> PaymentView:
    if isinstance(known, Tombstone):
        return PaymentView(
            order_id=known.order_id,
            status="voided",
            customer_id=None,
            authorization_id=None,
            amount=None,
            journal=journal,
        )
    return PaymentView(
        order_id=known.order_id,
        status=known.status.value,
        customer_id=known.customer_id,
        authorization_id=known.authorization_id,
        amount=known.amount,
        journal=journal,
    )
