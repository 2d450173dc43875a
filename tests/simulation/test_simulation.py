"""A thousand runs of the whole system under faults, and proof that these runs notice what is broken."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.crew import ENOUGH, Crew
from tests.simulation.mutations import MUTATIONS

SEEDS = int(os.environ.get("AMENDS_SIMULATION_SEEDS", "1000"))
CHUNK = 25


def _chunks() -> list[range]:
    return [range(first, min(first + CHUNK, SEEDS)) for first in range(0, SEEDS, CHUNK)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for every few seeds, or for the one that was asked for."""
    if "seeds" in metafunc.fixturenames:
        only = metafunc.config.getoption("--seed", default=None)
        chunks = _chunks() if only is None else [range(only, only + 1)]
        metafunc.parametrize("seeds", chunks, ids=lambda seeds: f"from-{seeds[0]}")


def test_the_properties_hold(seeds: range, crew: Crew) -> None:
    """Whatever is killed, lost, doubled or delayed: money, stock, histories and messages are in order at the end."""
    failures = crew.report(seeds).result().failures
    if failures:
        summary = "\n".join(f"seed {each.seed}: {each.problems[0]}" for each in failures)
        pytest.fail(f"{failures[0].story}\n\n{summary}", pytrace=False)


def test_the_seeds_see_every_end(crew: Crew) -> None:
    """Orders are completed under some seeds and compensated under others, so that both ways are really tried."""
    ends: dict[str, int] = {}
    for seeds in _chunks():
        for status, number in crew.report(seeds).result().ends.items():
            ends[status] = ends.get(status, 0) + number
    assert ends.keys() == {"completed", "compensated"}
    assert min(ends.values()) > sum(ends.values()) / 10


@pytest.mark.parametrize("seed", [11, 255])
def test_a_seed_always_tells_the_same_story(seed: int, crew: Crew) -> None:
    """The same seed gives the same trace, again in the same process and in one with other hashes.

    In the second one a service starts while its database is away.
    """
    program = f"from tests.simulation.crew import tell; import sys; sys.stdout.write(tell({seed})[0])"
    elsewhere = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    assert crew.stories(seed) == (elsewhere, elsewhere)


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_breakage_is_noticed(mutation: str, crew: Crew) -> None:
    """Each of the known mistakes is found, and for what it is, by one of a few seeds."""
    seed, seen = crew.search(mutation).result()
    begin = MUTATIONS[mutation].begin
    assert seed is not None, f"not noticed in {ENOUGH} seeds from {begin}; what was seen instead: {seen[:5]}"
