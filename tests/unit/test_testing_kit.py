"""The testing kit: what it lets a test say of a saga, and what it says when the saga does something else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict

from contracts import Money
from contracts.fulfillment import FulfillmentCompleted, FulfillmentFailed
from contracts.order import (
    CancelOrder,
    ConfirmOrder,
    OrderCanceled,
    OrderCancellationRequested,
    OrderConfirmed,
    OrderCreated,
    OrderRejected,
)
from contracts.payment import (
    AuthorizePayment,
    CapturePayment,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentFailed,
    PaymentVoided,
    VoidPayment,
)
from orchestrator import Migration, Parallel, Retry, Saga, Start, Step, Wait, hours, minutes, seconds
from orchestrator.sagas.fulfill_order import FULFILL_ORDER, Fulfillment
from orchestrator.testing import ExpectationFailed, Scenario, given
from tests.unit.work import (
    Approved,
    Begun,
    Do,
    Done,
    Finished,
    Refused,
    Undo,
    Undone,
    Withdrawn,
    Work,
    approval,
    cancel_on_withdrawal,
    doing,
    pivot,
    retriable,
    step,
    undoing,
    work_saga,
)

ORDER = UUID("00000000-0000-7000-8000-000000000007")
PRICE = Money(amount=100, currency="USD")
AUTHORIZED = PaymentAuthorized(order_id=ORDER, authorization_id="A-1", amount=PRICE)
DECLINED = PaymentFailed(order_id=ORDER, reason="card_declined")


def placed() -> Scenario[Fulfillment]:
    """An order that was just placed."""
    return given(FULFILL_ORDER, OrderCreated(order_id=ORDER, customer_id="ada", total=PRICE, items=1))


def begun(*steps: Any, **options: Any) -> Scenario[Work]:
    """Work of these steps that has just begun."""
    return given(work_saga(*steps, **options), Begun(id=7))


def complaint(failing: Any) -> str:
    """What the kit says, without the timeline."""
    with pytest.raises(ExpectationFailed) as failed:
        failing()
    return str(failed.value).partition("\n\n")[0]


# -- what a test can say -------------------------------------------------------------------------------------


def test_an_order_goes_all_the_way() -> None:
    """Each command is expected and answered in turn, and the end is announced."""
    order = placed().expect(AuthorizePayment(order_id=ORDER, customer_id="ada", amount=PRICE)).answers(AUTHORIZED)
    assert "A-1" == order.data.authorization_id
    order.expect(ConfirmOrder).answers(OrderConfirmed(order_id=ORDER))
    order.expect(CapturePayment).answers(PaymentCaptured(order_id=ORDER, amount=PRICE))
    order.expect_completed(FulfillmentCompleted(order_id=ORDER, captured=PRICE)).expect_no_others()
    assert ("completed", None, 4) == (order.status, order.due, len(order.transitions))


def test_time_passes_only_when_it_is_told_to() -> None:
    """A command is sent again at its deadline, not a second before, and the deadlines on the way come at their own."""
    order = placed().expect(AuthorizePayment)
    assert seconds(32) == order.due
    order.advance(seconds(31)).expect_nothing().advance(seconds(1)).expect(AuthorizePayment).expect_nothing()
    order.advance(minutes(10))
    moments = [(each.given.at - order.transitions[0].given.at).total_seconds() for each in order.transitions]
    assert [0, 32, 66, 96, 128, 162, 200, 246, 308, 402, 560] == moments
    assert seconds(632) == order.now - order.transitions[0].given.at


def test_silence_lasts_until_something_is_given_up() -> None:
    """An unanswered step is in doubt; unanswered, its compensation makes the saga stuck."""
    order = placed().silent().expect(VoidPayment).expect_nothing()
    assert ({"place_order": "succeeded", "authorize_payment": "compensating"}, "compensating") == (
        order.steps,
        order.status,
    )
    order.silent().expect_stuck("the compensation of authorize_payment was sent 10 times and never answered")


def test_silence_lets_a_wait_run_out_and_a_delay_pass() -> None:
    """Whatever is waited for."""
    begun(approval(timeout=hours(3)), pivot("ship")).silent().expect_compensated()


def test_the_members_of_a_parallel_group_are_expected_in_any_order() -> None:
    """Within one transition; and the command expected last is the one that is answered."""
    work = begun(Parallel(step("left"), step("right")), pivot("ship"))
    work.expect(Do(step="right", seen=())).expect(Do(step="left", seen=())).answers(Done(note=" first"))
    assert {"left": "succeeded", "right": "running"} == work.steps
    work.refuses(Refused()).expect(Undo).answers(Undone()).expect_compensated()


def test_expectations_go_forward_in_time() -> None:
    """What was sent before a message that was expected cannot be expected any more."""
    order = placed().answers(AUTHORIZED).expect(ConfirmOrder)
    assert (
        "expected   AuthorizePayment\n"
        "but nothing more was sent (it was sent earlier, before a message that was expected already: expect it first)"
    ) == complaint(lambda: order.expect(AuthorizePayment))


def test_an_early_event_is_kept_and_heeded_when_its_turn_comes() -> None:
    """As the engine parks it."""
    work = begun(step("dig"), approval(), pivot("ship")).receives(Approved(id=7)).expect_parked().expect_nothing()
    work.answers(Done()).expect_waiting("ship")
    assert ("dig done", "approved by ann") == work.data.log


def test_an_event_turns_the_saga_back() -> None:
    """While there is a way back; afterwards it is late."""
    placed().receives(OrderCancellationRequested(order_id=ORDER)).expect(VoidPayment)
    order = placed().answers(AUTHORIZED).receives(OrderCancellationRequested(order_id=ORDER))
    order.expect_late("the pivot 'confirm_order' has begun").expect_nothing()


def test_a_late_answer_changes_nothing() -> None:
    """It must be said to be late."""
    order = placed().silent().answers_late(AUTHORIZED).expect_late("no longer waited for").expect_nothing()
    order.expect_waiting("authorize_payment")


def test_a_second_start_is_a_duplicate() -> None:
    """Nothing comes of it."""
    again = OrderCreated(order_id=ORDER, customer_id="ada", total=PRICE, items=1)
    assert 1 == len(placed().receives(again).expect_nothing().recorded.transitions)


def test_a_person_repairs_what_is_stuck() -> None:
    """With who and why in the timeline; what is not possible must be said to be refused."""
    order = placed().silent().silent().person("resolve", "authorize_payment", who="bea", why="voided by hand")
    order.expect(CancelOrder).answers(OrderCanceled(order_id=ORDER))
    order.expect_compensated(FulfillmentFailed(order_id=ORDER, reason="payment_timeout"))
    assert "bea: resolve authorize_payment (voided by hand)" in order.timeline
    order.person("retry", refused="nothing can change it")
    placed().person("skip", "authorize_payment", answer=AUTHORIZED).expect(ConfirmOrder)
    placed().person("abandon", why="a test order").expect_abandoned()


def test_a_person_moves_and_revokes_a_deadline() -> None:
    """Due so long from now, or never; other actions move none."""
    order = placed().person("reschedule", "authorize_payment", due=hours(2))
    order.person("reschedule", "authorize_payment", due=hours(2), refused="is due then already")
    revoked = placed().person("reschedule", "authorize_payment")
    assert (order.due, revoked.due) == (hours(2), None)
    with pytest.raises(ValueError, match="retry moves no deadline; due= belongs to reschedule"):
        order.person("retry", due=hours(1))


def test_an_answer_that_comes_twice_to_a_stuck_saga_is_parked_once() -> None:
    """It is one message: when the saga goes on, it is taken up once."""

    def taken(data: Work, event: Done) -> Work:
        raise ZeroDivisionError

    work = begun(step("dig", on_success=taken)).answers(Done()).answers(Done()).expect_stuck("ZeroDivisionError")
    work.person("compensate")
    late = [each for each in work.transitions if each.note == "its command is no longer waited for"]
    assert len(late) == 1


def test_a_saga_whose_own_code_raises_is_stuck() -> None:
    """As in the engine; and what was raised is told and chained when an expectation then fails."""

    def taken(data: Work, event: Done) -> Work:
        raise ZeroDivisionError("no shovel")

    work = begun(step("dig", on_success=taken), pivot("ship")).answers(Done()).expect_stuck("no shovel")
    with pytest.raises(ExpectationFailed, match="own code has raised ZeroDivisionError: no shovel") as failed:
        work.expect(Do(step="ship", seen=()))
    assert isinstance(failed.value.__cause__, ZeroDivisionError)


def test_what_is_recorded_is_what_the_orchestrator_would_store() -> None:
    """The row and its history, as JSON."""
    recorded = placed().refuses(DECLINED).recorded
    assert ("fulfill_order", 1, str(ORDER), "compensating", "place_order") == (
        recorded.name,
        recorded.version,
        recorded.key,
        recorded.status,
        recorded.step,
    )
    assert [1, 2] == [each.seq for each in recorded.transitions]
    assert '"type":"payment.failed"' in recorded.transitions[1].input


class _Loose(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: int
    pair: Any = None


def _loose(begin: Callable[[Begun], _Loose]) -> Saga[_Loose]:
    return Saga(
        name="loose",
        version=1,
        data=_Loose,
        starts_on=Start(Begun, begin, key=lambda event: event.id),
        steps=(Wait(Approved, key=lambda event: event.id),),
    )


def test_data_is_what_the_next_batch_would_read() -> None:
    """The engine reads it back from its row, so a test must not be kinder."""
    playing = given(_loose(lambda event: _Loose(id=event.id, pair=(1, 2))), Begun(id=7))
    assert playing.data == _Loose(id=7, pair=[1, 2])


def test_data_that_could_not_be_read_again_makes_it_stuck() -> None:
    """And the error is told, as any other that a function of the saga raises."""
    playing = given(_loose(lambda event: _Loose(id=event.id).model_copy(update={"id": None})), Begun(id=7))
    with pytest.raises(ExpectationFailed, match="_Loose could not be read again: id: Input should be a valid integer"):
        playing.expect_nothing().expect(CancelOrder(order_id=ORDER, reason="x"))


# -- what it says when it is otherwise -----------------------------------------------------------------------


def test_a_wrong_field_is_named_with_both_values_and_the_story_follows() -> None:
    """The whole message, as a person reads it."""
    wanted = AuthorizePayment(order_id=ORDER, customer_id="bob", amount=Money(amount=120, currency="USD"))
    with pytest.raises(ExpectationFailed) as failed:
        placed().expect(wanted)
    assert (
        "expected   AuthorizePayment(order_id='00000000-0000-7000-8000-000000000007', customer_id='bob', "
        "amount=Money(amount=120, currency='USD'))\n"
        "sent       AuthorizePayment(order_id='00000000-0000-7000-8000-000000000007', customer_id='ada', "
        "amount=Money(amount=100, currency='USD'))\n"
        "           customer_id     expected 'bob'   sent 'ada'\n"
        "           amount.amount   expected 120   sent 100\n"
        "\n"
        "saga fulfill_order v1, key 00000000-0000-7000-8000-000000000007\n"
        "      +0 s  OrderCreated(customer_id='ada', total=Money(amount=100, currency='USD'), items=1)\n"
        "            place_order: succeeded\n"
        "            authorize_payment: sent\n"
        "            -> AuthorizePayment(customer_id='ada', amount=Money(amount=100, currency='USD'))\n"
        "      +0 s  now: running, waits for authorize_payment (next deadline in 32 s)"
    ) == str(failed.value)


def test_what_was_sent_instead_is_listed() -> None:
    """Each with the step it is for."""
    assert (
        "expected   CapturePayment\n"
        "but what was sent and not expected yet is:\n"
        "           ConfirmOrder(order_id='00000000-0000-7000-8000-000000000007')   for step confirm_order"
    ) == complaint(lambda: placed().expect(AuthorizePayment).answers(AUTHORIZED).expect(CapturePayment))


def test_differences_are_found_inside_lists_and_where_one_side_has_nothing() -> None:
    """Down to the place that differs."""
    work = begun(step("dig"), pivot("ship")).answers(Done())
    assert (
        "           seen[1]   expected 'more'   sent nothing"
        == (complaint(lambda: work.expect(Do(step="ship", seen=("dig done", "more")))).splitlines()[-1])
    )


@pytest.mark.parametrize(
    ("failing", "words"),
    [
        (lambda: placed().expect_nothing(), "expected   nothing more to be sent\nbut        these were\n"),
        (lambda: placed().answers(AUTHORIZED).expect(ConfirmOrder).expect_no_others(), "AuthorizePayment(order_id="),
        (lambda: placed().expect(AuthorizePayment).expect(AuthorizePayment), "was sent once, and each was expected"),
        (lambda: placed().answers(DECLINED), "PaymentFailed is how a command is refused; write .refuses(...)"),
        (lambda: placed().refuses(AUTHORIZED), "PaymentAuthorized means success; write .answers(...)"),
        (lambda: placed().answers(OrderConfirmed(order_id=ORDER)), "OrderConfirmed answers no command"),
        (lambda: placed().answers(AUTHORIZED, to="pay"), "there is no step 'pay' in Saga('fulfill_order', version=1)"),
        (lambda: placed().answers(AUTHORIZED, to="confirm_order"), "confirm_order has no command under way"),
        (lambda: placed().answers(AUTHORIZED).answers(AUTHORIZED), "write .answers_late(...)"),
        (lambda: placed().answers_late(AUTHORIZED), "PaymentAuthorized is not late: it is waited for"),
        (lambda: placed().answers(OrderCancellationRequested(order_id=ORDER)), "write .receives(...)"),
        (lambda: placed().receives(AUTHORIZED), "only for OrderCreated, OrderCancellationRequested; to answer a"),
        (
            lambda: placed().receives(OrderCancellationRequested(order_id=UUID(int=8))),
            "is for the instance 00000000-0000-0000-0000-000000000008; this one is 00000000-0000-7000-8000-",
        ),
        (lambda: placed().expect_completed(), "expected   completed\nit is      running, waits for authorize_payment"),
        (lambda: placed().expect_stuck(), "expected   stuck\nit is      running"),
        (lambda: placed().silent().silent().expect_stuck("x"), "it is stuck because of the compensation of auth"),
        (lambda: placed().expect_waiting("confirm_order"), "expected   to wait for confirm_order"),
        (lambda: placed().expect_late(), "expected   what came last to be late\nit was     applied"),
        (lambda: placed().advance(seconds(1)).expect_late(), "but        nothing came"),
        (lambda: placed().answers(AUTHORIZED).silent(), "a pivot step never is: its command is sent again for ever"),
        (lambda: begun(approval(timeout=None)).silent(), "no deadline is set: it waits for ever"),
        (lambda: placed().person("retry", "confirm_order"), "it is refused: confirm_order is not waiting for anything"),
        (lambda: placed().person("abandon", refused="no"), "but        it was possible"),
        (lambda: placed().person("retry", "x", refused="why"), "expected   a refusal because of 'why'"),
        (
            lambda: (
                placed()
                .refuses(DECLINED)
                .answers(OrderCanceled(order_id=ORDER))
                .expect_compensated(FulfillmentFailed(order_id=ORDER, reason="no_money"))
            ),
            "reason   expected 'no_money'   sent 'card_declined'",
        ),
    ],
)
def test_a_failing_expectation_says_what_is_the_case_or_how_to_write_it(failing: Any, words: str) -> None:
    """One line or two that a person can act on."""
    assert words in complaint(failing)


def test_an_answer_that_may_belong_to_several_commands_must_say_to_which() -> None:
    """The step's name decides."""
    parallel = Parallel(step("left"), step("right"))
    assert (
        "Done may answer several commands, of the steps left, right: expect the one you mean just before, "
        'or say to="left"'
    ) == complaint(lambda: begun(parallel, pivot("ship")).answers(Done()))
    assert "succeeded" == begun(parallel, pivot("ship")).answers(Done(), to="right").steps["right"]


def test_the_start_event_must_start_the_saga_and_time_goes_forward() -> None:
    """Both are mistakes of the test."""
    with pytest.raises(ValueError, match="starts on OrderCreated, not on PaymentFailed"):
        given(FULFILL_ORDER, DECLINED)
    with pytest.raises(ValueError, match="time goes forward"):
        placed().advance(-seconds(1))


def test_the_timeline_tells_refusals_repetitions_and_what_is_parked() -> None:
    """Every input, what it moved and what it sent; what repeats the instance's key is left out."""
    work = begun(
        step("dig", timeout=seconds(10), retry=Retry(attempts=2, backoff=timedelta(0))),
        approval(),
        pivot("ship"),
        retriable("bill"),
        cancel_on=cancel_on_withdrawal(),
    )
    work.receives(Approved(id=7)).advance(seconds(10)).refuses(Refused(reason="no_shovel")).receives(Withdrawn(id=7))
    assert (
        "saga work v1, key 7\n"
        "      +0 s  Begun()\n"
        "            dig: sent\n"
        "            -> Do(step='dig', seen=())\n"
        "      +0 s  Approved(by='ann')   [parked: approval is not reached yet]\n"
        "     +10 s  deadline passed\n"
        "            dig: sent again (attempt 2)\n"
        "            -> Do(step='dig', seen=())\n"
        "     +10 s  Refused(reason='no_shovel')\n"
        "            dig: refused\n"
        "            goes back: dig was refused: work.refused (no_shovel)\n"
        "            compensated\n"
        "            -> Amended(log=('dig refused: no_shovel',))\n"
        "     +10 s  Approved(by='ann')   [late: the saga is compensated]\n"
        "     +10 s  Withdrawn()   [late: the saga is compensated]\n"
        "     +10 s  now: compensated: dig was refused: work.refused (no_shovel)"
    ) == work.timeline


def test_the_pivot_may_be_refused() -> None:
    """Then there is a way back, and both amends are expected in order."""
    order = placed().answers(AUTHORIZED).refuses(OrderRejected(order_id=ORDER, reason="out_of_stock"))
    order.expect(VoidPayment).answers(PaymentVoided(order_id=ORDER))
    order.expect(CancelOrder(order_id=ORDER, reason="out_of_stock")).answers(OrderCanceled(order_id=ORDER))
    order.expect_compensated(FulfillmentFailed(order_id=ORDER, reason="out_of_stock"))


def test_an_announcement_can_be_expected_by_its_class() -> None:
    """As any message."""
    begun(pivot("ship")).answers(Done()).expect_completed(Finished).expect_nothing()


# -- another version of the saga -----------------------------------------------------------------------------


def same(data: Work) -> Work:
    """The data is as it was."""
    return data


def renamed(old: Saga[Work]) -> Saga[Work]:
    """Version 2 of stock and money, where stock is called store and something is put on a label at the end."""
    store = Step("store", doing("stock"), compensation=undoing("store"))
    return work_saga(
        store, step("money"), step("label"), version=2, migrations=(Migration(old, same, steps={"stock": "store"}),)
    )


def test_an_instance_goes_on_as_another_version() -> None:
    """What is under way is answered under the step's new name, the rest is the new version's, and so is its record."""
    old = work_saga(step("stock"), step("money"))
    work = given(old, Begun(id=7)).expect(Do).migrates_to(renamed(old)).expect_nothing()
    work.expect_waiting("store").answers(Done(), to="store")
    work.expect(Do(step="money", seen=())).answers(Done()).expect(Do(step="label", seen=("money done",)))
    assert (2, 1) == (work.recorded.version, work.recorded.started_version)
    assert "a person: migrate to v2 (a test)" in work.timeline


def test_what_is_parked_is_looked_at_by_the_version_it_goes_on_as() -> None:
    """An approval that came before the old version's wait is taken by the new one's."""
    old = work_saga(step("stock"), approval())
    new = work_saga(step("stock"), approval(), pivot("ship"), version=2, migrations=(Migration(old, same),))
    work = given(old, Begun(id=7)).receives(Approved(id=7)).expect_parked().expect(Do).migrates_to(new)
    work.answers(Done(), to="stock").expect_waiting("ship")


def test_a_migration_that_is_not_possible_changes_nothing() -> None:
    """Said by the test it is expected, otherwise the test fails; the instance stays with its version."""
    old = work_saga(step("stock"), step("money"))
    work = given(old, Begun(id=7)).expect(Do)
    without = work_saga(step("stock"), version=2)
    assert "it is refused: work v2 has no Migration from v1" in complaint(lambda: work.migrates_to(without))
    work.migrates_to(without, refused="has no Migration")
    assert "it was possible" in complaint(lambda: work.migrates_to(renamed(old), refused="has no Migration"))
    other = given(old, Begun(id=7)).migrates_to(without, refused="has no Migration").answers(Done())
    assert (1, ("money",)) == (other.recorded.version, tuple(other._state.current))


def test_only_another_version_of_the_same_saga_can_be_migrated_to() -> None:
    """Anything else is a mistake of the test's."""
    work = begun(step("stock"))
    with pytest.raises(ValueError, match="'work' cannot migrate to 'play' v2"):
        work.migrates_to(work_saga(step("stock"), name="play", version=2))
    with pytest.raises(ValueError, match=r"a migration needs the definition it goes to: \.migrates_to\(NEW_SAGA\)"):
        work.person("migrate")  # type: ignore[arg-type]  # as an untyped test would
