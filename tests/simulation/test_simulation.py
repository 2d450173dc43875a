"""A thousand runs of the whole system under faults, and proof that these runs notice what is broken."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import pytest

from messaging.plans import UNFORESEEN
from tests.simulation.conftest import SERVER_SEEDS
from tests.simulation.crew import ENOUGH, Crew, Failure
from tests.simulation.mutations import MUTATIONS
from tests.simulation.server_mutations import SERVER_MUTATIONS

UNIQUE = "23505"
SEEDS = int(os.environ.get("AMENDS_SIMULATION_SEEDS", "1000"))
CHUNK = 25
SERVER_CHUNK = 10
EVERY_WAY = (
    "begin goes along",
    "commit goes along",
    "commit goes alone",
    UNFORESEEN,
    UNIQUE,
    "waits for a lock",
    "ended by the server",
    "asked of a server that had hung up",
    "lost before a statement",
    "lost within a statement",
    "lost after a statement",
    "lost after a commit",
)
"""What the seeds of the default run have to meet, or they prove nothing of it; errors by their SQLSTATE."""


def _chunks() -> list[range]:
    return [range(first, min(first + CHUNK, SEEDS)) for first in range(0, SEEDS, CHUNK)]


def _server_chunks() -> list[range]:
    return [range(first, min(first + SERVER_CHUNK, SERVER_SEEDS)) for first in range(0, SERVER_SEEDS, SERVER_CHUNK)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for every few seeds, or for the one that was asked for."""
    only = metafunc.config.getoption("--seed", default=None)
    for name, chunks in (("seeds", _chunks()), ("server_seeds", _server_chunks())):
        if name in metafunc.fixturenames:
            wanted = chunks if only is None else [range(only, only + 1)]
            metafunc.parametrize(name, wanted, ids=lambda seeds: f"from-{seeds[0]}")


def test_the_properties_hold(seeds: range, crew: Crew) -> None:
    """Whatever is killed, lost, doubled or delayed: money, stock, histories and messages are in order at the end."""
    _say(crew.report(seeds).result().failures)


@pytest.mark.usefixtures("databases")
def test_the_properties_hold_on_postgresql(server_seeds: range, crew: Crew) -> None:
    """Also where two transactions are open at once, and connections are lost before, in and after each request."""
    _say(crew.report(server_seeds, served=True).result().failures)


def _say(failures: Sequence[Failure]) -> None:
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


@pytest.mark.usefixtures("databases")
def test_the_seeds_on_postgresql_take_every_way(crew: Crew) -> None:
    """COMMIT and BEGIN go along and alone, guards and unique keys are met, and connections are lost at all places."""
    seen: Counter[str] = Counter()
    for seeds in _server_chunks():
        seen.update(crew.report(seeds, served=True).result().seen)
    rare = [what for what in EVERY_WAY if not seen[what]]
    assert rare == [], seen


@pytest.mark.usefixtures("databases")
@pytest.mark.parametrize("server_mutation", SERVER_MUTATIONS)
def test_a_breakage_is_noticed_on_postgresql(server_mutation: str, crew: Crew) -> None:
    """Each mistake in what only PostgreSQL has is found, and for what it is, by one of a few seeds."""
    seed, seen = crew.search(server_mutation, served=True).result()
    assert seed is not None, f"not noticed; what was seen instead: {seen[:5]}"
