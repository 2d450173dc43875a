"""Seeds run by several processes at once; what comes back is small unless something is wrong."""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from tests.simulation.files import Files
from tests.simulation.mutations import MUTATIONS, broken
from tests.simulation.plan import draw
from tests.simulation.server_mutations import SERVER_MUTATIONS
from tests.simulation.simulate import Simulator

P = TypeVar("P")
T = TypeVar("T")


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
    ends: Counter[str]
    seen: Counter[str]
    """How often what was seen on the way to a database server."""


MOST_PROCESSES = 8
NICENESS = 5
"""The other tests wait for servers and go on at once when they answer; seeds take what is left of the processors."""
MANY = 50
"""Seeds on a server that are worth a process for each processor."""
ENOUGH = 80
"""Seeds within which every mutation has to be noticed."""


class Crew:
    """The processes that run seeds, begun before anybody asks for the result.

    Fresh processes, because a simulation takes structlog and the hash seed as it finds them. `server` is the URL of a
    PostgreSQL, for the seeds and mutations that run on one: by a process that makes its database there, or by as many
    as there are processors where the seeds are many.
    """

    def __init__(self, server: str | None = None, server_seeds: int = 0) -> None:
        self._files = _pool(min(os.cpu_count() or 1, MOST_PROCESSES), None)
        self._server = server
        self._serving = _pool(1 if server_seeds < MANY else os.cpu_count() or 1, server)
        self._reports: dict[tuple[Sequence[int], bool], Future[Report]] = {}
        self._searches: dict[tuple[str, bool], Future[tuple[int | None, list[str]]]] = {}

    def report(self, seeds: Sequence[int], *, served: bool = False) -> Future[Report]:
        """What becomes of these seeds; the second question gets the first one's answer."""
        if (seeds, served) not in self._reports:
            self._reports[seeds, served] = self._submit(run_seeds, seeds, served=served)
        return self._reports[seeds, served]

    def search(self, mutation: str, *, served: bool = False) -> Future[tuple[int | None, list[str]]]:
        """Which seed notices a mutation, and what was seen instead."""
        if (mutation, served) not in self._searches:
            self._searches[mutation, served] = self._submit(find, mutation, served=served)
        return self._searches[mutation, served]

    def stories(self, seed: int) -> tuple[str, str]:
        """The digests of a seed that is run twice by one process."""
        return self._files.submit(tell_twice, seed).result()

    def close(self) -> None:
        """Let go of the processes, and of what was not asked for."""
        for pool in (self._files, self._serving):
            pool.shutdown(cancel_futures=True)

    def _submit(self, work: Callable[[P, str | None], T], given: P, *, served: bool) -> Future[T]:
        pool = self._serving if served else self._files
        return pool.submit(work, given, self._server if served else None)


def _pool(processes: int, server: str | None) -> ProcessPoolExecutor:
    # Its processes begin with the first that is asked of it.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_stand_back, initargs=(server,))


def _stand_back(server: str | None) -> None:
    """Leave the processors to others, and do not outlive whoever asked, however that one ends."""
    os.nice(NICENESS)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel, server), daemon=True).start()


def _end_with(sentinel: int, server: str | None) -> None:
    multiprocessing.connection.wait([sentinel])
    try:
        if simulator.cache_info().currsize:
            simulator(server).drop()
    finally:
        os._exit(1)


@cache
def simulator(server: str | None) -> Simulator:
    """This process's own, on files or on a server, with the tables that it empties for each seed."""
    if server is None:
        made = Simulator(Files())
    else:
        from tests.simulation.server import Server

        made = Simulator(Server(server))
    atexit.register(made.close)
    return made


def run_seeds(seeds: Sequence[int], server: str | None = None) -> Report:
    """Run them one after the other."""
    failures = []
    ends, seen = Counter[str](), Counter[str]()
    for seed in seeds:
        run = simulator(server).run(seed)
        ends.update(run.ends)
        seen.update(run.seen)
        if run.problems:
            failures.append(Failure(seed, run.problems, run.story(draw(seed))))
    return Report(tuple(failures), ends, seen)


def tell(seed: int) -> tuple[str, str]:
    """A seed's digest and story."""
    run = simulator(None).run(seed)
    return run.digest, run.story(draw(seed))


def tell_twice(seed: int) -> tuple[str, str]:
    """The digests of two runs in one process."""
    return tell(seed)[0], tell(seed)[0]


def find(name: str, server: str | None = None) -> tuple[int | None, list[str]]:
    """The first seed that notices a mutation for what it is, and all that was noticed up to then."""
    mutation = (MUTATIONS if server is None else SERVER_MUTATIONS)[name]
    seen: list[str] = []
    with broken(mutation):
        for seed in range(mutation.begin, mutation.begin + ENOUGH):
            problems = simulator(server).run(seed, mutation.vary, mutation.sign).problems
            seen += problems
            if any(mutation.sign in problem for problem in problems):
                return seed, seen
    return None, seen
