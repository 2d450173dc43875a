"""Deliberate changes of fulfill_order, and what replaying the golden histories says of each, to the letter."""

from __future__ import annotations

import re

import pytest

from orchestrator.catalog import Catalog
from orchestrator.replay.replaying import replay
from tests.acceptance.pages import ROOT
from tests.golden.files import FOLDER, read
from tests.unit.changes import CHANGES

EVERY = (
    "canceled_by_customer",
    "card_declined",
    "completed",
    "late_answers",
    "out_of_stock",
    "payment_silent",
    "stuck_void_resolved",
)
PAST_PAYMENT = ("completed", "out_of_stock", "stuck_void_resolved")
NOT_PAST_PAYMENT = ("canceled_by_customer", "card_declined", "late_answers", "payment_silent")
CANCELED = ("canceled_by_customer", "card_declined", "late_answers", "out_of_stock", "payment_silent")
SILENT = ("late_answers", "payment_silent")

VERDICTS: dict[str, dict[str, tuple[str, ...]]] = {
    "nothing": {},
    "reorder": {
        "the steps have another order: confirm_order comes before authorize_payment": PAST_PAYMENT,
        "step confirm_order comes before authorize_payment here: it is new, or came later when this was recorded": (
            NOT_PAST_PAYMENT
        ),
    },
    "rename": {"step authorize_payment is called hold_payment here": EVERY},
    "drop_compensation": {
        "authorize_payment is not compensated any more: payment.void is not sent": (
            "canceled_by_customer",
            "late_answers",
            "out_of_stock",
            "payment_silent",
            "stuck_void_resolved",
        )
    },
    "amount": {"payment.authorize carries another amount.amount": EVERY},
    "add_before_pivot": {
        "step check_fraud is new: it comes after place_order": ("completed",),
        "step check_fraud comes before authorize_payment here: it is new, or came later when this was recorded": (
            *CANCELED,
            "stuck_void_resolved",
        ),
    },
    "add_after_pivot": {"step send_receipt is new: it comes after capture_payment": ("completed",)},
    "timeout": {
        "the answer to attempt 1 of authorize_payment's command is awaited for 47 s instead of 32 s": EVERY,
    },
    "more_attempts": {
        "the answer to attempt 3 of authorize_payment's command is awaited for 38 s instead of 30 s "
        "(recorded as the last attempt, and here it is not)": SILENT,
    },
    "fewer_attempts": {
        "the answer to attempt 2 of authorize_payment's command is awaited for 30 s instead of 34 s "
        "(here it is the last attempt)": SILENT,
    },
    "remove": {"step capture_payment is not in the definition any more": ("completed",)},
    "stores_less": {"the data has no authorization_id any more": PAST_PAYMENT},
    "begin_raises": {"would become stuck: ValueError: not enough values to unpack (expected 2, got 1)": EVERY},
    "no_cancel_on": {
        "would not accept a recorded event: order.cancellation_requested is not a message this process knows": (
            "canceled_by_customer",
        )
    },
    "other_refusal": {
        "would not accept a recorded event: payment.failed is not a message this process knows": ("card_declined",)
    },
    "other_command": {"authorize_payment sends payment.reserve instead of payment.authorize": EVERY},
    "no_failure_kept": {"order.cancel carries another reason; the data has another failure": ("card_declined",)},
    "compensation_text": {"order.cancel carries another reason": (*CANCELED, "stuck_void_resolved")},
    "no_announcement": {"fulfillment.completed is not announced any more": ("completed",)},
    "skips": {"authorize_payment is skipped; recorded: authorize_payment sends payment.authorize": EVERY},
    "key": {"order.created would start an instance with another key": EVERY},
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_gets_the_verdict_that_is_right(name: str) -> None:
    """The sentence, and the histories it is said of; of all others, that they are the same."""
    definitions = Catalog([CHANGES[name].make()])
    found: dict[str, list[str]] = {}
    for shape in EVERY:
        difference = replay(read(FOLDER / "fulfill_order_v1" / f"{shape}.json"), definitions).difference
        if difference is not None:
            found.setdefault(difference.sentence, []).append(shape)
    assert {sentence: tuple(sorted(shapes)) for sentence, shapes in VERDICTS[name].items()} == {
        sentence: tuple(shapes) for sentence, shapes in found.items()
    }


def test_the_page_prints_these_verdicts() -> None:
    """docs/replay.md has a row for each change with the sentence as it is printed, and no other row."""
    page = (ROOT / "docs" / "replay.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) +\| `(.+?)` +\| (\d) of 7 +\|$", page, re.MULTILINE)
    assert rows == [
        (CHANGES[name].words, sentence, str(len(shapes)))
        for name, verdicts in VERDICTS.items()
        for sentence, shapes in verdicts.items()
    ]


def test_every_change_has_a_verdict() -> None:
    """None is left out."""
    assert list(CHANGES) == list(VERDICTS)
