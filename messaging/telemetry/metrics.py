"""All figures of one service, and the page that shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from platform import python_version
from typing import TYPE_CHECKING, Any

from messaging.bus import Bus
from messaging.clock import Clock
from messaging.database import Database
from messaging.telemetry.families import Family, Look, Meter
from messaging.telemetry.looking import BrokerLook, DatabaseLook, KeptFigures, told

if TYPE_CHECKING:
    from messaging.telemetry.exposition import Page


class Metrics:
    """The figures of one service: of this process, of its database and of its queues.

    Before the first page nothing is looked for, and what would cost something is not counted.
    """

    def __init__(
        self,
        service: str,
        *,
        database: Database,
        bus: Bus,
        clock: Clock,
        looks: Sequence[Look],
        queues: Callable[[], Iterable[str]],
        obstacles: Callable[[], Mapping[str, bool]],
    ) -> None:
        self._service = service
        self._database = database
        self._obstacles = obstacles
        self._meters: list[Meter] = []
        self._looks = (
            KeptFigures("database", DatabaseLook(database, looks, clock), clock),
            KeptFigures("broker", BrokerLook(bus, queues), clock),
        )

    def add(self, meter: Meter) -> None:
        """Show these figures too."""
        self._meters.append(meter)

    async def page(self, accept: str) -> tuple[bytes, str]:
        """The page, and its content type."""
        for meter in self._meters:
            meter.listen()
        families: list[Family] = [self._build(), self._work(), *_pool(self._database)]
        for meter in self._meters:
            families.extend(meter.families())
        for look in self._looks:
            families.extend(await look.fresh())
        families.extend(told(self._looks))
        return self._writer.write(families, accept)

    async def close(self) -> None:
        """Look no more."""
        for look in self._looks:
            await look.close()

    @cached_property
    def _writer(self) -> Page:
        # Its library takes a tenth of a second to load.
        from messaging.telemetry.exposition import Page

        return Page(self._service)

    def _build(self) -> Family:
        labels = ("version", "python")
        return Family(
            "amends_build_info", "What runs here.", "gauge", labels, {(version("amends"), python_version()): 1}
        )

    def _work(self) -> Family:
        return Family(
            "amends_obstacle",
            "1 for what keeps this process, or a batch of its, from work, 0 for what does not.",
            "gauge",
            ("obstacle",),
            {(name,): float(there) for name, there in self._obstacles().items()},
        )


def _pool(database: Database) -> Iterable[Family]:
    """How the connections to the database are used."""
    pool: Any = database.engine.sync_engine.pool
    if not hasattr(pool, "checkedout"):
        return
    most = pool.size() + max(pool._max_overflow, 0)  # noqa: SLF001 - told in no other way
    resting = int(database.kept.resting)  # between two transactions: anybody's as soon as they do not follow each other
    yield Family(
        "amends_db_pool_connections",
        "Connections to the database by what they do.",
        "gauge",
        ("state",),
        {("used",): pool.checkedout() - resting, ("idle",): pool.checkedin() + resting},
    )
    yield Family("amends_db_pool_connections_max", "Connections that there may be.", "gauge", (), {(): most})
