"""Deliberate breakages of the real code: a simulation that does not notice them proves nothing.

Each is a mistake somebody could make, put in place by replacing one function for as long as a block lasts, with words
that one of the problems it leads to must contain: it has to be found for what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from messaging import bulk, deferred, outbox_rows, schema, serving
from messaging.claiming import Claim
from messaging.departures import Departures
from messaging.lane import Lane
from messaging.outbox_rows import Pending
from messaging.received import Received
from messaging.relay import Relay
from messaging.serving import ParticipantConsumer
from messaging.work import Work
from orchestrator import moments, parked
from orchestrator.saga import facts as f
from orchestrator.saga.moving import Moving
from orchestrator.saga.state import Direction
from tests.simulation.plan import ORCHESTRATOR, Crash, Plan

Patch = tuple[Any, str, Callable[..., Any]]


@dataclass(frozen=True)
class Mutation:
    """One breakage: what to put in the place of what, and how a problem it causes is worded."""

    patch: Callable[[], Patch]
    sign: str
    begin: int = 0
    """The seed to begin with: for a mistake that few seeds notice, one of them."""
    vary: Callable[[Plan], Plan] | None = None
    """What makes the plans of its seeds harder, for a mistake that hardly any seed would notice as it is drawn."""


def _acknowledge_before_commit() -> Patch:
    transact = Lane._transact

    async def early(self: Lane, arrivals: Any, act: Any, *, alone: bool, careful: bool) -> None:
        await self._settle(arrivals)
        await transact(self, arrivals, act, alone=alone, careful=careful)

    return Lane, "_transact", early


def _forget_what_was_handled() -> Patch:
    made = Claim.made

    async def all_of_them(self: Claim) -> Any:
        fresh, repeated = await made(self)
        return [*fresh, *(each for each, _ in repeated)], []

    return Claim, "made", all_of_them


def _publish_before_commit() -> Patch:
    write = Work.write

    async def hasty(self: Work, relay: Relay, grace: Any, *, alone: bool) -> list[Pending]:
        pending = await write(self, relay, grace, alone=alone)
        relay.offer(pending)
        return []

    return Work, "write", hasty


def _leave_no_tombstone() -> Patch:
    async def heedless(_self: ParticipantConsumer, _work: Work, fresh: Sequence[Received]) -> list[Received]:
        return list(fresh)

    return ParticipantConsumer, "_heed_compensations", heedless


def _lose_what_is_parked() -> Patch:
    def nothing(_self: parked.Changes, _writes: Any) -> None:
        return

    return parked.Changes, "write", nothing


def _forget_what_was_put_off() -> Patch:
    async def nothing(_connection: Any, _consumer: str, _rows: Any) -> None:
        return

    return deferred, "put_off", nothing


def _take_silence_for_confirmation() -> Patch:
    def believe(self: Relay, pending: Pending, _held: Any) -> None:
        self.confirmed.add(pending.id)

    return Relay, "_leave", believe


def _ignore_the_order_of_a_key() -> Patch:
    return outbox_rows, "waves", lambda pending: [list(pending)]


def _take_silence_for_refusal() -> Patch:
    establish = Moving._fact

    def refused(self: Moving, fact: f.Fact) -> None:
        establish(self, f.StepRefused(fact.step) if isinstance(fact, f.StepInDoubt) else fact)

    return Moving, "_fact", refused


def _name_a_repeated_command_anew() -> Patch:
    send = Moving._send

    def renamed(self: Moving, step: Any, direction: Direction, number: int, attempt: int) -> None:
        send(self, step, direction, number + (attempt > 1), attempt)

    return Moving, "_send", renamed


def _undo_the_first_step_first() -> Patch:
    go_back = Moving._go_back

    def forward(self: Moving) -> None:
        groups = self.saga.groups
        try:
            self.saga.groups = groups[::-1]
            go_back(self)
        finally:
            self.saga.groups = groups

    return Moving, "_go_back", forward


def _put_off_what_is_undone() -> Patch:
    return serving, "_forget_undone", lambda _work, _fresh: None


def _look_only_behind_the_oldest_of_a_key() -> Patch:
    async def without_older(self: Relay, taken: Sequence[Pending]) -> list[Pending]:
        mine = {each.id for each in taken}
        keys = sorted({each.row.key for each in taken if not each.checked and each.row.key is not None})
        first = {each.row.key: each.id for each in reversed(taken)}
        async with self._database.reading() as connection:
            rows = await bulk.select(connection, (schema.outbox.c.key, schema.outbox.c.id), schema.outbox.c.key, keys)
        others = [(key, number) for key, number in rows if number not in self.confirmed and number not in mine]
        held = {key for key, number in others if number < first[key]}
        return [each for each in taken if each.row.key not in held]

    return Relay, "_without_older", without_older


def _give_numbers_out_again() -> Patch:
    deleted = Departures.deleted

    def late(self: Departures, ids: set[int]) -> None:
        # As SQLite would, without AUTOINCREMENT, where a commit succeeds and is reported as failed.
        deleted(self, ids)
        self.confirmed.update(number + 1 for number in ids)

    return Departures, "deleted", late


def _go_by_the_own_clock() -> Patch:
    return moments, "taken_up", lambda now, _last: now


def _clocks_are_set_at_each_start(plan: Plan) -> Plan:
    restarts = tuple(Crash(float(at), ORCHESTRATOR, "", 1, 0.1) for at in range(2, 30, 3))
    return replace(plan, unsteady=20.0, crashes=restarts)


def _commits_in_doubt_while_the_broker_is_slow(plan: Plan) -> Plan:
    # A row whose commit was reported as failed is offered by nobody; it has to fall between two of its key that are.
    return replace(plan, uncertain_commits=0.2, timeout=1.0, weather=replace(plan.weather, delay=1.5))


def _nobody_answers_for_a_while(plan: Plan) -> Plan:
    # A command has to be put off in the very batch that it comes in with its compensation.
    dans = tuple(replace(wish, customer="dan", at=0.0) for wish in plan.wishes)
    offline = tuple(replace(each, offline=20.0) if each.customer == "dan" else each for each in plan.accounts)
    slow = replace(plan.weather, delay=1.5)
    harder = replace(plan, timeout=1.0, attempts=1, batch_size=100, latency=0.3)
    return replace(harder, wishes=dans, accounts=offline, weather=slow)


MUTATIONS = {
    "acknowledge before the commit": Mutation(_acknowledge_before_commit, "has no memory of it", begin=14),
    "forget what was handled": Mutation(_forget_what_was_handled, "took effect twice"),
    "publish before the commit": Mutation(_publish_before_commit, "which is not committed"),
    "leave no tombstone": Mutation(_leave_no_tombstone, "though it was undone before"),
    "lose what is parked": Mutation(_lose_what_is_parked, "in no history: expected", begin=3),
    "forget what was put off": Mutation(_forget_what_was_put_off, "unsettled inbox"),
    "take silence for confirmation": Mutation(_take_silence_for_confirmation, "instances: expected"),
    "ignore the order of a key": Mutation(_ignore_the_order_of_a_key, "before the older row"),
    "take silence for refusal": Mutation(_take_silence_for_refusal, "holds left"),
    "name a repeated command anew": Mutation(_name_a_repeated_command_anew, "took effect twice"),
    "undo the first step first": Mutation(_undo_the_first_step_first, "way back"),
    # What the simulation has found in earlier versions of the code:
    "put off what is undone in the same batch": Mutation(
        _put_off_what_is_undone, "though it was undone before", begin=13, vary=_nobody_answers_for_a_while
    ),
    "look only behind the oldest row of a key": Mutation(
        _look_only_behind_the_oldest_of_a_key,
        "before the older row",
        begin=90,
        vary=_commits_in_doubt_while_the_broker_is_slow,
    ),
    "go by the own clock whatever came before": Mutation(
        _go_by_the_own_clock, "moments of history", vary=_clocks_are_set_at_each_start
    ),
    "delete rows that took a confirmed one's number": Mutation(_give_numbers_out_again, "instances: expected"),
}


@contextmanager
def broken(mutation: Mutation) -> Iterator[None]:
    """The real code with one of the mutations in it."""
    where, attribute, replacement = mutation.patch()
    original = getattr(where, attribute)
    setattr(where, attribute, replacement)
    try:
        yield
    finally:
        setattr(where, attribute, original)
