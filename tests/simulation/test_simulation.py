"""A thousand runs of the whole system under faults, and proof that these runs notice what is broken."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Executor, Future

import pytest

from tests.simulation.crew import Report, find, run_seeds, tell
from tests.simulation.mutations import MUTATIONS

SEEDS = int(os.environ.get("AMENDS_SIMULATION_SEEDS", "1000"))
CHUNK = 25
ENOUGH = 80
"""Seeds within which every mutation has to be noticed."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for every few seeds, or for the one that was asked for."""
    if "first" in metafunc.fixturenames:
        only = metafunc.config.getoption("--seed", default=None)
        firsts = range(0, SEEDS, CHUNK) if only is None else [only]
        metafunc.parametrize("first", firsts, ids=lambda first: f"from-{first}")


@pytest.fixture(scope="session")
def reports(crew: Executor, request: pytest.FixtureRequest) -> dict[int, Future[Report]]:
    """All seeds, begun at once, so that every processor has something to do."""
    only = request.config.getoption("--seed", default=None)
    if only is not None:
        return {only: crew.submit(run_seeds, [only])}
    chunks = {first: range(first, min(first + CHUNK, SEEDS)) for first in range(0, SEEDS, CHUNK)}
    return {first: crew.submit(run_seeds, list(chunk)) for first, chunk in chunks.items()}


def test_the_properties_hold(first: int, reports: dict[int, Future[Report]], request: pytest.FixtureRequest) -> None:
    """Whatever is killed, lost, doubled or delayed: money, stock, histories and messages are in order at the end."""
    failures = reports[first].result().failures
    if failures:
        summary = "\n".join(f"seed {each.seed}: {each.problems[0]}" for each in failures)
        pytest.fail(f"{failures[0].story}\n\n{summary}", pytrace=False)


def test_the_seeds_see_every_end(reports: dict[int, Future[Report]]) -> None:
    """Orders are completed under some seeds and compensated under others, so that both ways are really tried."""
    ends: dict[str, int] = {}
    for report in reports.values():
        for status, number in report.result().ends.items():
            ends[status] = ends.get(status, 0) + number
    assert ends.keys() == {"completed", "compensated"}
    assert min(ends.values()) > sum(ends.values()) / 10


def test_a_seed_always_tells_the_same_story(crew: Executor) -> None:
    """The same seed gives the same trace, again in the same process and in one with other hashes."""
    program = "from tests.simulation.crew import tell; import sys; sys.stdout.write(tell(11)[0])"
    elsewhere = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    again = crew.submit(_twice, 11).result()
    assert again == (elsewhere, elsewhere)


def _twice(seed: int) -> tuple[str, str]:
    return tell(seed)[0], tell(seed)[0]


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_breakage_is_noticed(mutation: str, crew: Executor) -> None:
    """Each of the known mistakes is found, and for what it is, by one of a few seeds."""
    begin = MUTATIONS[mutation].begin
    seed, seen = crew.submit(find, mutation, list(range(begin, begin + ENOUGH))).result()
    assert seed is not None, f"not noticed in {ENOUGH} seeds from {begin}; what was seen instead: {seen[:5]}"
