"""Seeds run by several processes at once; what comes back is small unless something is wrong."""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache

from tests.simulation.files import Files
from tests.simulation.mutations import MUTATIONS, broken
from tests.simulation.plan import draw
from tests.simulation.simulate import Simulator


@dataclass(frozen=True)
class Failure:
    """A seed under which something was wrong."""

    seed: int
    problems: tuple[str, ...]
    story: str


@dataclass(frozen=True)
class Report:
    """What became of some seeds: those that failed, and how many sagas ended how in all of them."""

    failures: tuple[Failure, ...]
    ends: dict[str, int]


MOST_PROCESSES = 8
NICENESS = 5
"""The other tests wait for servers and go on at once when they answer; seeds take what is left of the processors."""
ENOUGH = 80
"""Seeds within which every mutation has to be noticed."""


class Crew:
    """The processes that run seeds, begun before anybody asks for the result.

    Fresh processes, because a simulation takes structlog and the hash seed as it finds them.
    """

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(
            min(os.cpu_count() or 1, MOST_PROCESSES),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_stand_back,
        )
        self._reports: dict[Sequence[int], Future[Report]] = {}
        self._searches: dict[str, Future[tuple[int | None, list[str]]]] = {}

    def report(self, seeds: Sequence[int]) -> Future[Report]:
        """What becomes of these seeds; the second question gets the first one's answer."""
        if seeds not in self._reports:
            self._reports[seeds] = self._pool.submit(run_seeds, seeds)
        return self._reports[seeds]

    def search(self, mutation: str) -> Future[tuple[int | None, list[str]]]:
        """Which seed notices a mutation, and what was seen instead."""
        if mutation not in self._searches:
            begin = MUTATIONS[mutation].begin
            self._searches[mutation] = self._pool.submit(find, mutation, range(begin, begin + ENOUGH))
        return self._searches[mutation]

    def stories(self, seed: int) -> tuple[str, str]:
        """The digests of a seed that is run twice by one process."""
        return self._pool.submit(tell_twice, seed).result()

    def close(self) -> None:
        """Let go of the processes, and of what was not asked for."""
        self._pool.shutdown(cancel_futures=True)


def _stand_back() -> None:
    """Leave the processors to others, and do not outlive whoever asked, however that one ends."""
    os.nice(NICENESS)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


@cache
def simulator() -> Simulator:
    """This process's own, with the template databases it copies for each seed."""
    made = Simulator(Files())
    atexit.register(made.close)
    return made


def run_seeds(seeds: Sequence[int]) -> Report:
    """Run them one after the other."""
    failures = []
    ends: dict[str, int] = {}
    for seed in seeds:
        run = simulator().run(seed)
        for status, number in run.ends.items():
            ends[status] = ends.get(status, 0) + number
        if run.problems:
            failures.append(Failure(seed, run.problems, run.story(draw(seed))))
    return Report(tuple(failures), ends)


def tell(seed: int) -> tuple[str, str]:
    """A seed's digest and story."""
    run = simulator().run(seed)
    return run.digest, run.story(draw(seed))


def tell_twice(seed: int) -> tuple[str, str]:
    """The digests of two runs in one process."""
    return tell(seed)[0], tell(seed)[0]


def find(mutation: str, seeds: Sequence[int]) -> tuple[int | None, list[str]]:
    """The first seed that notices a mutation for what it is, and all that was noticed up to then."""
    seen: list[str] = []
    with broken(mutation):
        for seed in seeds:
            problems = simulator().run(seed, MUTATIONS[mutation].vary).problems
            seen += problems
            if any(MUTATIONS[mutation].sign in problem for problem in problems):
                return seed, seen
    return None, seen
