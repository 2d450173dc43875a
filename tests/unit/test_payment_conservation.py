"""Conservation of money: the journal's law, and the payment domain under any sequence of commands."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.money import Money
from contracts.payment import AuthorizePayment, CapturePayment, RefundPayment, VoidPayment
from services.payment.domain import Account, Authorization, Books, ContractViolation, Status, Tombstone
from services.payment.journal import Entry, Operation, Posting

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ORDERS = [UUID(int=number) for number in range(1, 5)]
ORDER, OTHER = ORDERS[:2]


def usd(amount: int) -> Money:
    """Minor units of the only currency here."""
    return Money(amount=amount, currency="USD")


def ask(amount: int, order_id: UUID, customer_id: str) -> AuthorizePayment:
    """The command to authorize."""
    return AuthorizePayment(order_id=order_id, customer_id=customer_id, amount=usd(amount))


def new_books() -> Books:
    """Books of ann and bob, who have spent nothing of their 1000."""
    return Books([Account("ann", "USD", 1000), Account("bob", "USD", 1000)], ())


@pytest.mark.parametrize(
    "postings",
    [
        (Posting("holds", 1), Posting("customer:ann", -2)),
        (Posting("holds", 0), Posting("customer:ann", 0)),
        (Posting("holds", 0),),
        (),
    ],
)
def test_an_entry_that_does_not_balance_cannot_be_made(postings: tuple[Posting, ...]) -> None:
    """Postings that do not sum to zero, move nothing or stand alone are no entry."""
    with pytest.raises(ValueError, match="does not balance"):
        Entry(ORDER, Operation.AUTHORIZE, "USD", postings)


def test_an_entry_id_is_derived_from_order_and_operation() -> None:
    """Writing down the same operation of the same order again meets the same primary key."""
    postings = (Posting("holds", 1), Posting("customer:ann", -1))
    first = Entry(ORDER, Operation.VOID, "USD", postings)

    assert Entry(ORDER, Operation.VOID, "USD", postings).id == first.id
    assert Entry(ORDER, Operation.CAPTURE, "USD", postings).id != first.id
    assert Entry(OTHER, Operation.VOID, "USD", postings).id != first.id


AMOUNTS = st.sampled_from([0, 1, 299, 300, 700, 1000, 1001])
COMMANDS = st.one_of(
    st.builds(ask, AMOUNTS, st.sampled_from(ORDERS), st.sampled_from(["ann", "bob"])),
    st.builds(VoidPayment, order_id=st.sampled_from(ORDERS)),
    st.builds(RefundPayment, order_id=st.sampled_from(ORDERS)),
    st.builds(CapturePayment, order_id=st.sampled_from(ORDERS), amount=AMOUNTS.map(usd)),
)


def run(book: Books, command: AuthorizePayment | VoidPayment | RefundPayment | CapturePayment) -> None:
    """Decide one command; a contract violation changes nothing."""
    try:
        match command:
            case AuthorizePayment():
                book.authorize(command, NOW)
            case VoidPayment():
                book.void(command)
            case RefundPayment():
                book.refund(command)
            case CapturePayment():
                book.capture(command)
    except ContractViolation:
        return


@settings(deadline=None)
@given(st.lists(COMMANDS, max_size=30))
def test_no_sequence_of_commands_makes_or_loses_money(
    commands: list[AuthorizePayment | VoidPayment | RefundPayment | CapturePayment],
) -> None:
    """Whatever is asked in whatever order: no limit is exceeded, each operation happens once, and journal,
    authorizations and accounts agree."""
    book = new_books()

    for command in commands:
        run(book, command)
        for customer in ("ann", "bob"):
            account = book.account(f"USD:{customer}")
            assert account.held >= 0
            assert account.captured >= 0
            assert account.open_to_buy >= 0

    balances: Counter[str] = Counter()
    for entry in book.entries():
        assert sum(posting.amount for posting in entry.postings) == 0
        for posting in entry.postings:
            balances[posting.account] += posting.amount
    assert len({entry.id for entry in book.entries()}) == len(book.entries())
    by_status: Counter[Status] = Counter()
    for each in book.opened():
        if isinstance(each, Authorization):
            by_status[each.status] += each.amount.amount
    accounts = [book.account("USD:ann"), book.account("USD:bob")]
    assert balances["holds"] == by_status[Status.HELD] == sum(account.held for account in accounts)
    assert balances["merchant:sales"] == by_status[Status.CAPTURED] + by_status[Status.REFUNDED]
    assert -balances["merchant:refunds"] == by_status[Status.REFUNDED]
    for account in accounts:
        assert balances[f"customer:{account.customer_id}"] == -(account.held + account.captured)


@settings(deadline=None)
@given(st.lists(COMMANDS, max_size=15))
def test_a_batch_decides_like_its_messages_one_by_one(
    commands: list[AuthorizePayment | VoidPayment | RefundPayment | CapturePayment],
) -> None:
    """Commands decided in one batch leave what they leave when each is a batch of its own."""
    together = new_books()
    for command in commands:
        run(together, command)

    accounts = {customer: Account(customer, "USD", 1000) for customer in ("ann", "bob")}
    known: dict[UUID, Authorization | Tombstone] = {}
    entries: list[Entry] = []
    for command in commands:
        alone = Books(accounts.values(), known.values())
        run(alone, command)
        accounts |= {each.customer_id: each for each in alone.changed_accounts()}
        known |= {each.order_id: each for each in (*alone.opened(), *alone.changed())}
        entries += alone.entries()

    assert entries == together.entries()
    assert known == {each.order_id: each for each in together.opened()}
    assert accounts == {customer: together.account(f"USD:{customer}") for customer in ("ann", "bob")}
