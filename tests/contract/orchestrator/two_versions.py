"""Sagas for commands that are run as programs: AMENDS_SAGAS names this module."""

from __future__ import annotations

from orchestrator import Migration, Retry, Step
from tests.unit.work import (
    Work,
    cancel_on_withdrawal,
    doing,
    pivot,
    retriable,
    step,
    undoing,
    work_saga,
)


def same(data: Work) -> Work:
    """The data is as it was."""
    return data


FIRST = work_saga(
    step("dig", compensation_retry=Retry(attempts=1)),
    step("fill"),
    pivot("sign"),
    retriable("bill"),
    cancel_on=cancel_on_withdrawal(),
)
SECOND = work_saga(
    Step("dig_hole", doing("dig"), compensation=undoing("the hole")),
    pivot("sign"),
    version=2,
    cancel_on=cancel_on_withdrawal(),
    migrations=(Migration(FIRST, same, steps={"dig": "dig_hole"}),),
)
