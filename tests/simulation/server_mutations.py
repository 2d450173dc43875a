"""Deliberate breakages of what is done only on PostgreSQL, as `mutations` has them of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from messaging import bulk, driver, lane, plans
from messaging.plans import Guard, Part
from messaging.transaction import Transaction
from orchestrator.loading import Loading
from tests.simulation.mutations import MUTATIONS, Mutation, Patch


class _Unguarded(Guard):
    """A guard that is never in the way, and still takes its parameters."""

    def words(self, _part: Part, _cell: str, _known: str) -> str:
        """True, whatever came of the part."""
        return "true"


def _commit_without_a_guard() -> Patch:
    joined = plans.joined.__wrapped__

    def heedless(parts: tuple[Part, ...], guards: tuple[Guard | None, ...] = ()) -> str:
        return joined(parts, tuple(each and _Unguarded(each.rows, each.known, each.proven) for each in guards))

    return bulk, "joined", heedless


def _forget_the_careful_try() -> Patch:
    return lane, "there_already", lambda _error: False


def _take_the_statements_answer_for_the_commits() -> Patch:
    async def early(
        within: Any, adapter: Any, line: Any, statement: Any, parameters: Sequence[Any]
    ) -> Sequence[Sequence[Any]]:
        rows: Sequence[Sequence[Any]] = await line.fetch(statement, parameters)
        adapter._transaction = None
        within.get_transaction().commit()
        return rows

    return driver, "_commit_with", early


def _believe_that_a_transaction_has_begun() -> Patch:
    async def not_begun(adapter: Any, line: Any, statement: Any, parameters: Sequence[Any]) -> Sequence[Sequence[Any]]:
        adapter._transaction = driver._Transaction(line)
        found: Sequence[Sequence[Any]] = await line.fetch(statement, parameters)
        return found

    return driver, "_begin_with", not_begun


def _keep_a_connection_that_has_failed() -> Patch:
    leave = Transaction.__aexit__

    async def careless(self: Transaction, kind: Any, error: Any, trace: Any) -> None:
        within = self._connection.sync_connection
        if error is None or within is None or within.invalidated or self._kept.resting:
            await leave(self, kind, error, trace)
            return
        adapter: Any = within.connection.dbapi_connection
        adapter._transaction = None
        self._begun.rollback()
        driver.leave(self._begun)
        self._kept._resting, self._kept._driver = self._connection, adapter.driver_connection
        self._kept._begun = driver.begin(self._connection)

    return Transaction, "__aexit__", careless


def _take_a_draft_whatever_was_read() -> Patch:
    def blind(self: Loading, _expected: Any) -> bool:
        return not self._rows.waits

    return Loading, "has_read", blind


SERVER_MUTATIONS = {
    "commit without a guard": Mutation(_commit_without_a_guard, "before the older row", begin=1),
    "forget the careful try": Mutation(_forget_the_careful_try, "messages the broker gave up", begin=4),
    "take the statement's answer for the commit's": Mutation(
        _take_the_statements_answer_for_the_commits, "which is not committed", begin=4
    ),
    "believe that a transaction has begun": Mutation(
        _believe_that_a_transaction_has_begun, "violates foreign key", begin=4
    ),
    "keep a connection that has failed": Mutation(
        _keep_a_connection_that_has_failed, "not quiet", begin=4, vary=lambda plan: replace(plan, patience=150.0)
    ),
    # What it writes is bound to a revision that is not there: nothing wrong comes of it, and nothing else.
    "take a draft whatever was read": Mutation(
        _take_a_draft_whatever_was_read, "not quiet", vary=lambda plan: replace(plan, patience=150.0)
    ),
    "acknowledge before the commit": replace(MUTATIONS["acknowledge before the commit"], begin=5),
    "publish before the commit": replace(MUTATIONS["publish before the commit"], begin=4),
}
