"""A lone event, folded beforehand: while the database is still looking for the instance that it concerns.

What is written of an event follows from values alone: the event, and the rows that are read. A process knows the
instances that it has moved last, and so what it is going to read. It folds the event over that, into a draft, while it
would only wait. Nothing is believed because of it: the rows are locked and read as ever. Where they are to the letter
what was expected, the draft is what would be written now; otherwise it is as if it had never been, and the event is
folded over what was read.

A definition's functions are then called once more, as they are when a transaction is begun anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from contracts.value import value
from messaging.received import Received
from messaging.work import Work
from orchestrator import moments
from orchestrator.catalog import Catalog, Target
from orchestrator.folding import Folding
from orchestrator.instance import Instance
from orchestrator.loading import Loaded, Loading
from orchestrator.metering import SagaMeter
from orchestrator.remembered import Remembered
from orchestrator.texts import Texts


@value
class _Draft:
    """What a message does where this is what is read of its instance; None: that there is none."""

    received: Received
    expected: tuple[Instance, Texts] | None
    work: Work


class Foresight:
    """What is foreseen of one batch, where that is one event for one instance."""

    def __init__(self, catalog: Catalog, patience: timedelta, meter: SagaMeter, remembered: Remembered) -> None:
        self._catalog = catalog
        self._patience = patience
        self._meter = meter
        self._remembered = remembered
        self._draft: _Draft | None = None

    def look_soon(self, work: Work, target: Target, received: Received) -> None:
        """Have it foreseen as soon as the caller waits for something: the database, which has its statement then."""
        asyncio.get_running_loop().call_soon(partial(self.look, work, target, received))

    def look(self, work: Work, target: Target, received: Received) -> None:
        """Foresee it, where that can be done; raises nothing."""
        if work.over:
            return
        expected = self._remembered.last(target.saga_id)
        if (expected is None and not target.starts) or _goes_back(expected, work):
            return
        draft = Work(work.connection, work.now, work.service, work.consumer, careful=work.careful)
        loaded = Loaded(self._remembered, [target.saga_id])
        if expected is not None:
            loaded.instances[target.saga_id] = expected[0].as_read()
        plan = Folding(self._catalog, self._patience, draft, loaded, beforehand=True)
        plan.watch = self._meter.watch(draft)
        try:
            plan.event(received, target)
            if plan.draft():
                self._draft = _Draft(received, expected, draft)
        except Exception:  # noqa: BLE001 - a definition's own function: it is asked again in earnest, and told of there
            return

    def of(self, fresh: Sequence[Received], loading: Loading) -> Work | None:
        """What these messages write, if what `loading` has read is what was expected."""
        found = self._draft
        if found is None or len(fresh) != 1 or fresh[0] is not found.received or not loading.has_read(found.expected):
            return None
        return found.work


def _goes_back(expected: tuple[Instance, Texts] | None, work: Work) -> bool:
    """Whether the transition would lie before the last one: somebody is told of that as soon as it is decided."""
    moved_at = None if expected is None else expected[0].moved_at
    return moved_at is not None and moments.taken_up(work.now, moved_at) < moved_at
