"""What a batch reads of its instances before it folds: asked for at once, locked, and taken in when it has come.

It goes to the database together with the batch's claim in the inbox, in one statement, which sees the tables as they
were when it began, before it waited for anybody. That is enough, because what was locked is newest all the same: a row
that another process has written meanwhile is read as it is after that (`FOR UPDATE`). What is not there yet is found
out when it is written: an instance that another process has started is a Conflict, and so are other parked events than
were seen. What comes for an instance that was not seen is parked, and looked at again in two seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

from messaging.bulk import Outcome
from messaging.plans import plan
from messaging.shapes import Select
from messaging.work import Work
from orchestrator import history, moments, parked, stamping, versions
from orchestrator.catalog import Catalog
from orchestrator.instance import COLUMNS, Instance
from orchestrator.remembered import Remembered
from orchestrator.schema import saga as saga_table
from orchestrator.setting_aside import SetAside, set_aside
from orchestrator.sharding import Placement
from orchestrator.texts import Texts


class Loaded:
    """What a batch is folded over."""

    def __init__(self, remembered: Remembered, ids: Sequence[UUID]) -> None:
        self.remembered = remembered
        self.ids = ids
        self.instances: dict[UUID, Instance] = {}
        self.parked = Outcome()
        """What was parked for these when we looked."""
        self.set_aside: list[SetAside] = []
        """What becomes of those whose row cannot be read."""

    async def hold(self, touched: Sequence[Instance]) -> None:
        """Before these are written, hold what must not change meanwhile: here it is held already."""


class Loading(Loaded):
    """Adds to `work.writes` what it reads; `read` runs them, where nobody else has.

    `starting` names sagas of which an instance may be started: what is written down of the definition that it would
    have stays so until the end of the transaction. So does the shard that this database is.
    """

    def __init__(
        self,
        catalog: Catalog,
        work: Work,
        remembered: Remembered,
        ids: set[UUID],
        starting: Iterable[str] = (),
        placement: Placement | None = None,
    ) -> None:
        super().__init__(remembered, sorted(ids, key=_NUMBER))
        self._catalog = catalog
        self._work = work
        self._placement = placement
        self.written: dict[tuple[str, int], str | None] = {}
        """The fingerprints written down of the definitions (name and version) of instances that have not ended."""
        reads = work.writes
        self._stamp = stamping.hold_with(reads, placement) if placement is not None and ids else None
        self._rows = reads.add(_READ, self.ids)
        self.parked = parked.look(reads, self.ids)
        self._held = [saga for name in sorted(set(starting)) if (saga := catalog.newest(name)) is not None]
        """Definitions that nobody changes until the end of the transaction."""
        self._definitions = versions.hold_with(reads, self._held)

    async def read(self) -> None:
        """Take in what has come; raises WrongShard where this database is not the shard it was to be."""
        await self._work.writes.run(self._work.connection)
        if self._stamp is not None and self._placement is not None:
            await stamping.compare(self._work.connection, self._stamp, self._placement)
        self.written.update(versions.written_of(self._definitions, self._held))
        for row in self._rows.rows:
            found = self.instances[row.id] = self._instance(row)
            if not found.ended:
                self.written[row.name, row.version] = row.fingerprint
        for event in parked.events(self.parked):
            instance = self.instances.get(event.saga_id)
            if instance is None:
                saga = self._catalog.newest(event.name)
                instance = self.instances[event.saga_id] = Instance(event.saga_id, event.name, saga, "")
            instance.parked.append(event)

    def has_read(self, expected: tuple[Instance, Texts] | None) -> bool:
        """Whether the one row that has come is this instance's, with these texts, or (None) no row has.

        Only where nothing is parked for it, and where the definition and the shard are still the ones; False says no
        more than that `read` has to look.
        """
        found = self._rows.rows
        if self._rows.waits or self.parked.rows or len(found) != (expected is not None):
            return False
        if self._stamp is not None and (self._placement is None or not stamping.same(self._stamp, self._placement)):
            return False
        if not versions.same(versions.written_of(self._definitions, self._held), self._held):
            return False
        return expected is None or _is_row_of(found[0], *expected)

    async def hold(self, touched: Sequence[Instance]) -> None:
        """What was parked may start an instance, too: hold its definition like those that were foreseen."""
        starting = [each.saga for each in touched if each.saga is not None and not each.loaded_revision]
        if not starting:
            return
        unheld = {id(each): each for each in starting if not any(each is held for held in self._held)}
        if unheld:
            await versions.hold(self._work.connection, unheld.values())

    def _instance(self, row: Any) -> Instance:
        saga = self._catalog.get(row.name, row.version)
        instance = Instance(row.id, row.name, saga, row.key, None, row.revision, row.revision, row.started_at)
        instance.version, instance.status, instance.moved_at = row.version, row.status, row.updated_at
        instance.traceparent = instance.place = row.traceparent
        if saga is None:
            return instance
        texts = Texts(row.status, row.reason, row.data, row.progress)
        instance.state = self.remembered.take(row.id, saga, texts)
        if instance.state is not None:
            instance.written = row.data
            return instance
        try:
            instance.state = history.load_state(
                saga, status=row.status, reason=row.reason, data=row.data, progress=row.progress
            )
        except history.CorruptHistory as error:
            # Nobody's message is to blame: what comes for it is parked until its row can be read.
            instance.saga, instance.unreadable = None, "the row of its saga cannot be read"
            instance.unreadable_because = str(error)
            aside = set_aside(row, error, moments.taken_up(self._work.now, instance.moved_at))
            if aside is not None:
                self.set_aside.append(aside)
        return instance


_NUMBER = attrgetter("int")  # what UUIDs compare by, at a fraction of the price
_COLUMNS = tuple(saga_table.c[name] for name in COLUMNS if name != "deadline")
_READ = plan(Select, _COLUMNS, saga_table.c.id, "ORDER BY id FOR UPDATE", versions.FINGERPRINT)


def _is_row_of(row: Any, instance: Instance, texts: Texts) -> bool:
    """Whether the row says what was written of the instance, and that its definition is still the one."""
    state, saga = instance.state, instance.saga
    if state is None or saga is None:
        return False
    written = (
        instance.id,
        instance.name,
        instance.version,
        instance.key,
        texts.status,
        state.waits_for,
        texts.reason,
        texts.data,
        texts.progress,
        instance.revision,
        instance.started_at,
        instance.moved_at,
        instance.traceparent,
    )
    # Its last cell is the fingerprint, which is none where nobody has written one down.
    return bool(row[:-1] == written) and (row[-1] is None or versions.same({versions.key(saga): row[-1]}, (saga,)))
