"""The payment domain: decisions by example."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

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
from services.payment.domain import (
    Account,
    Authorization,
    Books,
    ContractViolation,
    PutOff,
    Status,
    Tombstone,
    authorization_id,
)
from services.payment.journal import Entry, Operation, Posting

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ORDER = UUID("00000000-0000-7000-8000-000000000001")
OTHER = UUID("00000000-0000-7000-8000-000000000002")


def usd(amount: int) -> Money:
    """Minor units of the only currency here."""
    return Money(amount=amount, currency="USD")


def ask(amount: int, order_id: UUID = ORDER, customer_id: str = "ann") -> AuthorizePayment:
    """The command to authorize."""
    return AuthorizePayment(order_id=order_id, customer_id=customer_id, amount=usd(amount))


def books(
    *,
    limit: int = 1000,
    known: tuple[Authorization | Tombstone, ...] = (),
    held_until: datetime | None = None,
    issuer_offline_until: datetime | None = None,
    held: int = 0,
    captured: int = 0,
) -> Books:
    """Books of ann, whose account is as given, and of bob, who has spent nothing."""
    account = Account("ann", "USD", limit, held, captured, held_until, issuer_offline_until)
    return Books([account, Account("bob", "USD", limit)], known)


def authorization(status: Status, amount: int = 300) -> Authorization:
    """What is known of ann's order."""
    return Authorization(ORDER, "a-1", "ann", usd(amount), status)


def test_an_authorization_holds_the_amount() -> None:
    """An authorized amount is held on the account and moves from the customer to the holds."""
    book = books()

    answer = book.authorize(ask(300), NOW)

    assert answer == PaymentAuthorized(order_id=ORDER, authorization_id=authorization_id(ORDER), amount=usd(300))
    assert book.changed_accounts() == [Account("ann", "USD", 1000, held=300)]
    assert book.opened() == [Authorization(ORDER, authorization_id(ORDER), "ann", usd(300), Status.HELD)]
    assert book.entries() == [
        Entry(ORDER, Operation.AUTHORIZE, "USD", (Posting("customer:ann", -300), Posting("holds", 300)))
    ]


def test_the_authorization_id_is_derived() -> None:
    """The same order gets the same authorization id in every process, another order another one."""
    assert authorization_id(ORDER) == authorization_id(UUID(str(ORDER)))
    assert authorization_id(ORDER) != authorization_id(OTHER)


@pytest.mark.parametrize(("amount", "reason"), [(1000, None), (1001, "card_declined")])
def test_the_limit_is_the_last_amount_that_is_authorized(amount: int, reason: str | None) -> None:
    """Exactly what is open to buy is authorized, and one unit more is declined."""
    answer = books(limit=2000, held=600, captured=400).authorize(ask(amount), NOW)

    assert (answer.reason if isinstance(answer, PaymentFailed) else None) == reason


def test_a_decline_says_what_was_wrong() -> None:
    """A declined amount is named beside what would have been possible, and nothing is written."""
    book = books(limit=1000, held=800)

    answer = book.authorize(ask(300), NOW)

    assert answer == PaymentFailed(
        order_id=ORDER,
        reason="card_declined",
        detail="3.00 USD is more than the 2.00 USD ann has open to buy",
    )
    assert (book.changed_accounts(), book.opened(), book.entries()) == ([], [], [])


def test_the_second_command_of_a_customer_sees_the_first() -> None:
    """Two orders of one customer in one batch cannot both take what is there only once."""
    book = books(limit=1000)

    answers = [book.authorize(ask(700), NOW), book.authorize(ask(700, OTHER), NOW)]

    assert isinstance(answers[0], PaymentAuthorized)
    assert isinstance(answers[1], PaymentFailed)
    assert book.account("USD:ann").open_to_buy == 300


def test_an_amount_of_zero_moves_nothing() -> None:
    """An order of zero is authorized, captured and refunded without a journal entry, even without credit."""
    book = books(limit=0, held_until=NOW + timedelta(hours=1))

    answers = (
        book.authorize(ask(0), NOW),
        book.capture(CapturePayment(order_id=ORDER, amount=usd(0))),
        book.refund(RefundPayment(order_id=ORDER)),
    )

    assert answers == (
        PaymentAuthorized(order_id=ORDER, authorization_id=authorization_id(ORDER), amount=usd(0)),
        PaymentCaptured(order_id=ORDER, amount=usd(0)),
        PaymentRefunded(order_id=ORDER, amount=usd(0)),
    )
    assert book.entries() == []


def test_a_negative_amount_is_refused() -> None:
    """Nobody can be given credit by an authorization below zero."""
    answer = books().authorize(ask(-1), NOW)

    assert isinstance(answer, PaymentFailed)
    assert answer.reason == "invalid_amount"


@pytest.mark.parametrize("customer_id", ["", "x" * 201])
def test_an_impossible_customer_id_is_refused(customer_id: str) -> None:
    """An id that no index could hold is refused as an answer."""
    answer = books().authorize(ask(1, customer_id=customer_id), NOW)

    assert isinstance(answer, PaymentFailed)
    assert answer.reason == "invalid_customer"


@pytest.mark.parametrize("status", [Status.HELD, Status.CAPTURED])
def test_an_authorize_is_idempotent(status: Status) -> None:
    """A second authorize of the same amount gets the first authorization and holds nothing more."""
    book = books(known=(authorization(status),), held=300)

    answer = book.authorize(ask(300), NOW)

    assert answer == PaymentAuthorized(order_id=ORDER, authorization_id="a-1", amount=usd(300))
    assert (book.changed_accounts(), book.entries()) == ([], [])


@pytest.mark.parametrize("command", [ask(301), ask(300, customer_id="bob")])
def test_a_second_authorize_of_something_else_is_refused(command: AuthorizePayment) -> None:
    """One order is authorized for one amount of one customer."""
    answer = books(known=(authorization(Status.HELD),), held=300).authorize(command, NOW)

    assert isinstance(answer, PaymentFailed)
    assert answer.reason == "already_authorized"


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (Tombstone(ORDER), "voided"),
        (authorization(Status.VOIDED), "voided"),
        (authorization(Status.REFUNDED), "refunded"),
    ],
)
def test_an_authorize_after_the_end_is_refused(known: Authorization | Tombstone, reason: str) -> None:
    """Nothing is held again for an order whose payment was voided or refunded."""
    answer = books(known=(known,)).authorize(ask(300), NOW)

    assert isinstance(answer, PaymentFailed)
    assert answer.reason == reason


@pytest.mark.parametrize(
    ("held_for", "after"),
    [(timedelta(hours=1), timedelta(seconds=2)), (timedelta(seconds=1), timedelta(seconds=1))],
)
def test_an_account_under_review_is_tried_again(held_for: timedelta, after: timedelta) -> None:
    """An account under review is asked again soon, four times in all, and then the answer is a refusal."""
    answer = books(held_until=NOW + held_for).authorize(ask(300), NOW)

    assert isinstance(answer, PutOff)
    assert (answer.after, answer.attempts) == (after, 4)
    assert answer.otherwise is not None
    assert (answer.otherwise.order_id, answer.otherwise.reason) == (ORDER, "account_on_hold")


def test_a_review_that_has_ended_is_no_obstacle() -> None:
    """At the very moment a review ends the account can be charged again."""
    answer = books(held_until=NOW, issuer_offline_until=NOW).authorize(ask(300), NOW)

    assert isinstance(answer, PaymentAuthorized)


def test_an_issuer_offline_is_never_a_refusal() -> None:
    """While the issuer is offline an authorization waits, however often it is tried."""
    answer = books(issuer_offline_until=NOW + timedelta(hours=1)).authorize(ask(300), NOW)

    assert answer == PutOff(
        "the issuer of ann is offline until 2026-03-01 13:00:00+00:00", timedelta(seconds=5), None, None
    )


def test_a_void_lets_go_of_the_hold() -> None:
    """A voided amount is open to buy again, and a second void changes nothing."""
    book = books(known=(authorization(Status.HELD),), held=300)

    answers = [book.void(VoidPayment(order_id=ORDER)) for _ in range(2)]

    assert answers == [PaymentVoided(order_id=ORDER)] * 2
    assert book.changed() == [authorization(Status.VOIDED)]
    assert book.account("USD:ann").open_to_buy == 1000
    assert book.entries() == [
        Entry(ORDER, Operation.VOID, "USD", (Posting("holds", -300), Posting("customer:ann", 300)))
    ]


def test_a_void_of_nothing_leaves_a_tombstone() -> None:
    """A void that overtakes its authorize succeeds, and the authorize that follows is refused."""
    book = books()

    answers = (book.void(VoidPayment(order_id=ORDER)), book.authorize(ask(300), NOW))

    assert answers[0] == PaymentVoided(order_id=ORDER)
    assert isinstance(answers[1], PaymentFailed)
    assert book.opened() == [Tombstone(ORDER)]
    assert book.entries() == []


def test_a_void_of_what_is_captured_is_a_contract_violation() -> None:
    """A captured payment is not voided, and the error names the way out."""
    with pytest.raises(ContractViolation, match=r"3\.00 USD is captured .* send payment\.refund") as caught:
        books(known=(authorization(Status.CAPTURED),), captured=300).void(VoidPayment(order_id=ORDER))

    assert caught.value.order_id == ORDER


def test_a_capture_takes_the_hold_once() -> None:
    """A capture moves the hold to the sales, and a second capture gets the same answer and moves nothing."""
    book = books(known=(authorization(Status.HELD),), held=300)

    answers = [book.capture(CapturePayment(order_id=ORDER, amount=usd(300))) for _ in range(2)]

    assert answers == [PaymentCaptured(order_id=ORDER, amount=usd(300))] * 2
    assert book.changed_accounts() == [Account("ann", "USD", 1000, held=0, captured=300)]
    assert book.entries() == [
        Entry(ORDER, Operation.CAPTURE, "USD", (Posting("holds", -300), Posting("merchant:sales", 300)))
    ]


@pytest.mark.parametrize(
    ("known", "amount", "words"),
    [
        ((), 300, "nothing was authorized"),
        ((Tombstone(ORDER),), 300, "nothing was authorized"),
        ((authorization(Status.HELD),), 299, "3.00 USD is authorized, not the 2.99 USD"),
        ((authorization(Status.VOIDED),), 300, "was voided"),
        ((authorization(Status.REFUNDED),), 300, "was refunded"),
    ],
)
def test_a_capture_without_a_hold_is_a_contract_violation(
    known: tuple[Authorization | Tombstone, ...], amount: int, words: str
) -> None:
    """Only exactly what is held can be captured, and the error says what is the matter."""
    book = books(known=known, held=300)

    with pytest.raises(ContractViolation, match=words):
        book.capture(CapturePayment(order_id=ORDER, amount=usd(amount)))

    assert (book.changed_accounts(), book.changed(), book.entries()) == ([], [], [])


def test_a_refund_gives_back_once() -> None:
    """A refund moves the captured amount back to the customer, and a second one only says so again."""
    book = books(known=(authorization(Status.CAPTURED),), captured=300)

    answers = [book.refund(RefundPayment(order_id=ORDER)) for _ in range(2)]

    assert answers == [PaymentRefunded(order_id=ORDER, amount=usd(300))] * 2
    assert book.changed_accounts() == [Account("ann", "USD", 1000)]
    assert book.entries() == [
        Entry(ORDER, Operation.REFUND, "USD", (Posting("merchant:refunds", -300), Posting("customer:ann", 300)))
    ]


@pytest.mark.parametrize(
    ("known", "currency"),
    [((), "XXX"), ((Tombstone(ORDER),), "XXX"), ((authorization(Status.HELD),), "USD")],
)
def test_a_refund_of_nothing_is_zero(known: tuple[Authorization | Tombstone, ...], currency: str) -> None:
    """Where nothing was captured the refund is zero, and what is held stays held."""
    book = books(known=known, held=300)

    answer = book.refund(RefundPayment(order_id=ORDER))

    assert answer == PaymentRefunded(order_id=ORDER, amount=Money(amount=0, currency=currency))
    assert (book.changed_accounts(), book.opened(), book.changed()) == ([], [], [])


def test_a_gateway_repeating_its_consent_after_a_void_holds_nothing() -> None:
    """What a gateway consented to before the void is not held on our account afterwards."""
    book = books(known=(Tombstone(ORDER),))

    book.hold(ask(300), "card-1")

    assert book.known(ORDER) == Tombstone(ORDER)
    assert (book.changed_accounts(), book.entries()) == ([], [])
