"""What lies in the database of facts, commands and progress, byte for byte: a replay compares these texts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args
from uuid import UUID

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from contracts.money import Money
from contracts.payment import PaymentCaptured, VoidPayment
from orchestrator.history import dump_facts, dump_input, dump_progress, dump_sends
from orchestrator.saga import facts as f
from orchestrator.saga.inputs import EventArrived, known_as
from orchestrator.saga.state import Direction, SagaState, Send, Status, StepState, StepStatus

ID = UUID("6d1c6f4e-8a9b-4a53-9d52-0b8f5a3e7c11")
NOON = datetime(2026, 3, 1, 12, 0, 0, 7000, tzinfo=UTC)


class Order(BaseModel):
    number: int
    note: str = ""


DATA = Order(number=7, note='say "no"')

WRITTEN: tuple[tuple[f.Fact, str], ...] = (
    (f.Started(DATA), r'{"fact":"started","data":{"number":7,"note":"say \"no\""}}'),
    (f.DataChanged(DATA), r'{"fact":"data_changed","data":{"number":7,"note":"say \"no\""}}'),
    (
        f.CommandSent("pay", Direction.COMPENSATION, 1, 2, NOON),
        (
            '{"fact":"command_sent","step":"pay","direction":"compensation","round":1,"attempt":2,'
            '"due":"2026-03-01T12:00:00.007000Z"}'
        ),
    ),
    (f.WaitBegun("sign", None), '{"fact":"wait_begun","step":"sign","due":null}'),
    (f.StepSucceeded("pay"), '{"fact":"step_succeeded","step":"pay"}'),
    (f.StepSkipped("pay"), '{"fact":"step_skipped","step":"pay"}'),
    (f.StepRefused("pay"), '{"fact":"step_refused","step":"pay"}'),
    (f.StepInDoubt("pay"), '{"fact":"step_in_doubt","step":"pay"}'),
    (f.StepCompensated("pay"), '{"fact":"step_compensated","step":"pay"}'),
    (f.CompensationBegun("late"), '{"fact":"compensation_begun","reason":"late"}'),
    (f.BecameStuck("odd", ("pay",)), '{"fact":"became_stuck","reason":"odd","gave_up":["pay"]}'),
    (f.Resumed(), '{"fact":"resumed"}'),
    (f.DeadlineMoved("pay", NOON), '{"fact":"deadline_moved","step":"pay","due":"2026-03-01T12:00:00.007000Z"}'),
    (
        f.Migrated(1, 2, DATA, {"pay": "charge"}, {}),
        (
            r'{"fact":"migrated","from_version":1,"to_version":2,"data":{"number":7,"note":"say \"no\""},'
            r'"renamed":{"pay":"charge"},"made_from":{}}'
        ),
    ),
    (f.Completed(), '{"fact":"completed"}'),
    (f.Compensated(), '{"fact":"compensated"}'),
    (f.Abandoned("bea: why"), '{"fact":"abandoned","reason":"bea: why"}'),
    (f.CameLate("why"), '{"fact":"came_late","why":"why"}'),
)


@pytest.mark.parametrize(("fact", "text"), WRITTEN, ids=lambda each: type(each).__name__)
def test_a_fact_is_written_so(fact: f.Fact, text: str) -> None:
    """Also where it is one of several."""
    assert dump_facts([fact]) == f"[{text}]"
    assert dump_facts([fact, fact]) == f"[{text},{text}]"


def test_every_kind_of_fact_is_above() -> None:
    """Whoever adds one says how it is written."""
    assert {type(fact) for fact, _ in WRITTEN} == set(get_args(f.Fact))


def test_no_facts_and_no_commands() -> None:
    """Empty lists."""
    assert (dump_facts([]), dump_sends([])) == ("[]", "[]")


def test_names_are_quoted_and_moments_keep_their_zone() -> None:
    """Whatever a step is called, and wherever a clock stands."""
    east = NOON.replace(microsecond=0, tzinfo=timezone(timedelta(hours=2)))
    assert dump_facts([f.StepSucceeded('a"\n\\é')]) == r'[{"fact":"step_succeeded","step":"a\"\n\\é"}]'
    assert '"due":"2026-03-01T12:00:00+02:00"' in dump_facts([f.CommandSent("a", Direction.ACTION, 1, 1, east)])


def test_data_that_is_no_json_is_refused() -> None:
    """The transition fails; nothing half is written."""

    class Loose(BaseModel):
        thing: Any

    with pytest.raises(PydanticSerializationError, match="Unable to serialize unknown type"):
        dump_facts([f.Started(Loose(thing=object()))])


def test_messages_are_written_so() -> None:
    """A command, what undoes one, and an event that announces the end."""
    order = UUID(int=5)
    sends = (
        Send(ID, VoidPayment(order_id=order), "pay", UUID(int=6)),
        Send(ID, PaymentCaptured(order_id=order, amount=Money(amount=5, currency="USD"))),
    )
    assert dump_sends(sends) == (
        '[{"id":"6d1c6f4e-8a9b-4a53-9d52-0b8f5a3e7c11","step":"pay","kind":"command",'
        '"compensates":"00000000-0000-0000-0000-000000000006","type":"payment.void","version":1,'
        '"data":{"order_id":"00000000-0000-0000-0000-000000000005"}},'
        '{"id":"6d1c6f4e-8a9b-4a53-9d52-0b8f5a3e7c11","step":null,"kind":"event","compensates":null,'
        '"type":"payment.captured","version":1,'
        '"data":{"order_id":"00000000-0000-0000-0000-000000000005","amount":{"amount":5,"currency":"USD"}}}]'
    )


def test_progress_is_written_so() -> None:
    """Steps by name; what few instances have comes last."""
    steps = {
        "pay": StepState(StepStatus.RUNNING, 1, 2, NOON, 1, DATA),
        "ship": StepState(StepStatus.IN_DOUBT, sent_as="send"),
    }
    assert dump_progress(SagaState(Status.STUCK, DATA, steps, "odd", Status.RUNNING, "")) == (
        r'{"before":"running","reason_before":"","steps":{'
        r'"pay":["running",1,2,"2026-03-01T12:00:00.007000Z",1,{"number":7,"note":"say \"no\""}],'
        r'"ship":["in_doubt",1,0,null,0,null,false,"send"]}}'
    )


def test_what_is_made_of_another_does_not_know_the_others_text() -> None:
    """Of a fact with other data, and of an event with another id, the text is made anew; the first is as it was."""
    other = Order(number=8)
    for fact in (f.started(DATA, '{"n":7}'), f.data_changed(DATA, '{"n":7}')):
        assert '"data":{"n":7}' in dump_facts([fact])
        assert '"data":{"number":8,"note":""}' in dump_facts([replace(fact, data=other)])

    captured = PaymentCaptured(order_id=ID, amount=Money(amount=1, currency="EUR"))
    given = known_as(EventArrived(NOON, ID, captured, "payment"), "an id")
    assert '"message_id":"an id"' in dump_input(given)
    assert '"message_id":"00000000-0000-0000-0000-000000000001"' in dump_input(replace(given, message_id=UUID(int=1)))
