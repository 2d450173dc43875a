"""python -m benchmarks.peers.dbos_saga DATABASE_URL COUNT CONCURRENCY: the saga as a workflow of DBOS Transact.

One process on PostgreSQL, with DBOS's own settings but for what is said.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from importlib.metadata import version
from typing import Any

import psutil
from dbos import DBOS

from benchmarks.peers.work import Outcome, OutOfStock, findings, move, own_cpu, saga

WARM = 50


@DBOS.step()
async def carry_out(step: str, number: int) -> int:
    """One step; its result is kept before the next begins."""
    return move(step, number)


@DBOS.workflow()
async def fulfill_order(number: int) -> dict[str, int | str]:
    """The saga."""
    return await saga(carry_out, number, (OutOfStock,))


async def run(count: int, concurrency: int) -> list[dict[str, int | str]]:
    """So many workflows, so many at a time."""
    numbers = iter(range(count))
    results = []

    async def some() -> None:
        for number in numbers:
            handle = await DBOS.start_workflow_async(fulfill_order, number)
            results.append(await handle.get_result())

    await asyncio.gather(*(some() for _ in range(concurrency)))
    return results


async def unfinished() -> list[str]:
    """What DBOS itself says of the workflows, beside what they returned."""
    pending: list[Any] = await DBOS.list_workflows_async(status="PENDING")
    return [f"{len(pending)} workflows have not ended"] if pending else []


def postgres_cpu() -> float:
    """CPU seconds that PostgreSQL (POSTGRES_PID) and its backends have used; 0 where it is not named."""
    pid = os.environ.get("POSTGRES_PID")
    if pid is None:
        return 0.0
    process = psutil.Process(int(pid))
    own = process.cpu_times()
    backends = [child.cpu_times() for child in process.children(recursive=True)]
    # What a backend that has ended had used is told by its parent.
    return float(own.children_user + own.children_system + sum(each.user + each.system for each in (own, *backends)))


async def main(url: str, count: int, concurrency: int) -> None:
    """Warm up, measure, print."""
    DBOS(config={"name": "saga", "system_database_url": url, "log_level": "WARNING", "enable_otlp": False})
    DBOS.launch()
    try:
        await run(WARM, concurrency)
        used, theirs, began = own_cpu(), postgres_cpu(), time.monotonic()
        results = await run(count, concurrency)
        seconds = time.monotonic() - began
        cpu = {"dbos": own_cpu() - used, "PostgreSQL": postgres_cpu() - theirs}
        settings = {"dbos": version("dbos"), "workflows at a time": str(concurrency), "else": "its defaults"}
        wrong = [*findings(results, count), *await unfinished()]
        Outcome(count / seconds, cpu, wrong, settings).say()
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
