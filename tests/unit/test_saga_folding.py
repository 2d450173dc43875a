"""A decision and the state after it are reckoned once, and are what folding its facts gives."""

from __future__ import annotations

from orchestrator.saga.inputs import Action, DeadlinePassed, PersonActed
from orchestrator.saga.machine import Verdict, decide, fold, move
from orchestrator.saga.state import Status
from tests.unit.journey import done, started
from tests.unit.play import NOON
from tests.unit.work import Begun, Done, Refused


def test_what_a_decision_leads_to_is_what_its_facts_fold_to() -> None:
    """For an answer, a refusal, a deadline and a person."""
    fresh, past_stock = started(), done("stock")
    cases = (
        (fresh, fresh.arrival(Begun(id=7))),
        (fresh, fresh.arrival(Done(), fresh.commands("stock")[0].id)),
        (past_stock, past_stock.arrival(Refused(), past_stock.commands("money")[0].id)),
        (fresh, DeadlinePassed(fresh.current.deadline or NOON)),
        (fresh, PersonActed(NOON, Action.RESOLVE, "bea", "she knows", "stock")),
    )
    for play, given in cases:
        transition, state = move(play.saga, play.id, play.state, given)
        assert transition == decide(play.saga, play.id, play.state, given)
        assert state == fold(play.state, transition.facts)


def test_what_was_refused_in_the_end_has_not_happened() -> None:
    """A stuck saga that a person could not move stays stuck, though trying began with going on."""
    play = started()
    play.fails(DeadlinePassed(NOON))
    transition, state = move(play.saga, play.id, play.state, PersonActed(NOON, Action.SKIP, "bea", "why", "nothing"))
    assert (transition.verdict, transition.facts) == (Verdict.REFUSED, ())
    assert state == play.state
    assert state is not None
    assert state.status is Status.STUCK
