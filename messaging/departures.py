"""What a process knows of its outbox rows beyond what the table says: which are about to be committed, on their way,
sent, failed.

The lanes of a worker, the relay and its sweeper tell each other here. Each has transactions of its own, and one may see
in the table what another has just committed and not told yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from messaging import schema
from messaging.bulk import Writes
from messaging.claims import Claimed
from messaging.outbox_rows import Pending
from messaging.plans import plan
from messaging.shapes import Delete

_DELETE = plan(Delete, schema.outbox.c.id, False)
MOST_FAILED = 20_000
"""Failed rows that are remembered one by one."""


class Departures:
    """The rows of one service's outbox that this process has in hand."""

    def __init__(self) -> None:
        self.on_their_way: set[int] = set()
        """Rows that this process is sending, or is about to commit and send then."""
        self.confirmed: set[int] = set()
        """Rows that are sent and not deleted yet."""
        self._expected: set[int] = set()
        self._leaving: set[int] = set()
        self._failed: dict[int, None] = {}
        self._forgotten = 0
        """No failed row with a higher number than this has been forgotten."""

    # -- before they are offered -----------------------------------------------------------------------------

    def expect(self, ids: Sequence[int]) -> None:
        """These are written and about to be committed; `come` or `withdraw` follows."""
        self.on_their_way.update(ids)
        self._expected.update(ids)

    def come(self, ids: Sequence[int]) -> None:
        """These are committed and will be sent."""
        self.on_their_way.update(ids)
        self._expected.difference_update(ids)

    def withdraw(self, ids: Sequence[int]) -> None:
        """Nobody here sends these, and whether they are committed nobody knows: what follows them is left, too."""
        self._expected.difference_update(ids)
        self.on_their_way.difference_update(ids)
        for identity in ids:
            self.fail(identity)

    def part(self, taken: Sequence[Pending], behind: list[Pending], held: set[str | None]) -> list[Pending]:
        """Those that may leave; `behind` gets what follows a row of its key that is expected, `held` those keys."""
        if not self._expected and not held:
            return list(taken)
        ready = []
        for each in taken:
            if (each.row.key is not None and each.row.key in held) or not self._expected.isdisjoint(each.after):
                held.add(each.row.key)
                behind.append(each)
            else:
                ready.append(each)
        return ready

    def free(self, claimed: Sequence[Claimed]) -> Sequence[Claimed]:
        """Those that nobody here sends or has sent, and that are not behind one of their key that is on its way.

        What is offered here and only waits for its turn is not overtaken by younger rows of its key.
        """
        ids = {each.id for each in claimed}
        if self.on_their_way.isdisjoint(ids) and self.confirmed.isdisjoint(ids):
            return claimed
        busy = {each.key for each in claimed if each.key is not None and each.id in self.on_their_way}
        taken = self.confirmed | self.on_their_way
        return [each for each in claimed if each.id not in taken and each.key not in busy]

    # -- when they were sent ---------------------------------------------------------------------------------

    def fail(self, identity: int) -> None:
        """It was not confirmed, or is left to the sweepers."""
        self._failed[identity] = None
        while len(self._failed) > MOST_FAILED:
            # In a long outage more rows fail than memory should hold. What follows one as old as those is left to the
            # sweeper, which looks in the table: that costs it its grace, not its place.
            forgotten = next(iter(self._failed))
            del self._failed[forgotten]
            self._forgotten = max(self._forgotten, forgotten)

    def arrived(self, ids: Collection[int]) -> None:
        """These were confirmed, or answered, some perhaps after they had failed: nothing waits for them any more."""
        self.confirmed.update(ids)
        if self._failed:
            for identity in ids:
                self._failed.pop(identity, None)

    def may_be_pending(self, ids: Iterable[int]) -> bool:
        """Whether one of these may not have been sent yet."""
        return any(
            identity <= self._forgotten or identity in self._failed or identity in self.on_their_way for identity in ids
        )

    # -- deleting --------------------------------------------------------------------------------------------

    def delete_with(self, writes: Writes) -> set[int]:
        """Delete what is confirmed and no other transaction is deleting, together with what else the caller writes.

        Returns the ids, for `deleted` or `kept`: one of them follows.
        """
        ids = self.confirmed - self._leaving
        self._leaving |= ids
        writes.add(_DELETE, sorted(ids))
        return ids

    def leaving(self, ids: Collection[int]) -> bool:
        """Whether a transaction is deleting one of these at the moment: it may fail, and then they are still there."""
        return not self._leaving.isdisjoint(ids)

    def deleted(self, ids: set[int]) -> None:
        """The transaction that deleted these rows has committed."""
        self.confirmed -= ids
        self._leaving -= ids

    def kept(self, ids: set[int]) -> None:
        """The transaction that was to delete these rows has failed: the next one does."""
        self._leaving -= ids
