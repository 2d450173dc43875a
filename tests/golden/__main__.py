"""python -m tests.golden: record the histories that are missing, with the engine and the definitions of this checkout.

What was recorded once stays: a released version goes on replaying as it ran. A new version of a saga gets a folder of
its own, and a new shape its own file. What was migrated lies with the version that it came to.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

from docs.examples.trip.saga import BOOK_TRIP
from orchestrator.saga.definition import Saga
from orchestrator.sagas.fulfill_order import FULFILL_ORDER
from tests.golden.files import FOLDER, write
from tests.golden.moves import MOVES
from tests.golden.moving import MOVE_HOUSE_1, MOVE_HOUSE_2
from tests.golden.orders import ORDERS
from tests.golden.stage import Stage, stage
from tests.golden.trips import TRIPS

Story = Callable[[Stage], Awaitable[None]]


async def record(saga: Saga[Any], story: Story, path: Path) -> None:
    """One story, told to its end and kept; raises FileExistsError."""
    with tempfile.TemporaryDirectory(prefix="amends-golden-") as folder:
        async with stage(Path(folder), saga, story.__name__) as played:
            await story(played)
            write(await played.told(), path)


def main() -> None:
    """Record what is missing and say what was kept."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(30), logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )
    for begins, saga, stories in (
        (FULFILL_ORDER, FULFILL_ORDER, ORDERS),
        (BOOK_TRIP, BOOK_TRIP, TRIPS),
        (MOVE_HOUSE_1, MOVE_HOUSE_2, MOVES),
    ):
        for story in stories:
            path = FOLDER / f"{saga.name}_v{saga.version}" / f"{story.__name__}.json"
            shown = path.relative_to(FOLDER)
            if path.exists():
                sys.stdout.write(f"kept      {shown}\n")
            else:
                asyncio.run(record(begins, story, path))
                sys.stdout.write(f"recorded  {shown}\n")


if __name__ == "__main__":
    main()
