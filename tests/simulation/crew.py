"""Seeds run by several processes at once; what comes back is small unless something is wrong."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

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


@cache
def simulator() -> Simulator:
    """This process's own, with the template databases it copies for each seed."""
    made = Simulator()
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


def find(mutation: str, seeds: Sequence[int]) -> tuple[int | None, list[str]]:
    """The first seed that notices a mutation for what it is, and all that was noticed up to then."""
    seen: list[str] = []
    with broken(mutation):
        for seed in seeds:
            problems = simulator().run(seed).problems
            seen += problems
            if any(MUTATIONS[mutation].sign in problem for problem in problems):
                return seed, seen
    return None, seen
