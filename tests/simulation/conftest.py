"""`--seed N` runs one seed of the simulation; AMENDS_SIMULATION_SEEDS says how many the default run takes, and
TEST_SERVER_SEEDS how many it takes on PostgreSQL, where a seed takes five times as long.

Seeds need processors and nothing else, most other tests wait for servers: so the seeds are begun as soon as it is known
that they are wanted and run beside the other tests, behind which they stand back. They live in processes of their own
on virtual time, so that neither notices the other. Where one process runs all tests it looks at the seeds last; where
several do, one of them begins the seeds and waits for them.
"""

from __future__ import annotations

import os
import select
import threading
from pathlib import Path

import pytest

from tests.simulation.crew import Crew

SERVER_SEEDS = int(os.environ.get("TEST_SERVER_SEEDS", "3"))
HERE = Path(__file__).parent
CREW = pytest.StashKey[Crew]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Only known where this folder is named: `pytest tests/simulation --seed 7 -s`."""
    parser.addoption("--seed", type=int, default=None, help="run only this seed of the simulation, and tell its story")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --seed, nothing but that seed; without, the simulation last, unless it has a process to itself."""
    if config.getoption("--seed", default=None) is not None:
        items[:] = [item for item in items if item.name.startswith("test_the_properties_hold")]
    if not _one_of_several(config):
        items.sort(key=lambda item: item.path.parent == HERE)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin what the tests that were chosen will ask for; of several processes, that one does which gets the tests."""
    if not (session.config.option.collectonly or _one_of_several(session.config)):
        _begin(session)


def _one_of_several(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _begin(session: pytest.Session) -> None:
    server = os.environ.get("TEST_DATABASE_URL")
    wanted = [item for item in session.items if item.path.parent == HERE and isinstance(item, pytest.Function)]
    if not wanted:
        return
    crew = session.config.stash[CREW] = Crew(server, SERVER_SEEDS)
    if _one_of_several(session.config):
        # Whoever shares the tests out may be killed: nobody then tells us that the seeds are not wanted any more.
        threading.Thread(target=_give_up_with, args=(os.pidfd_open(os.getppid()), crew), daemon=True).start()
    for item in wanted:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        match params:
            case {"seeds": range() as seeds}:
                crew.report(seeds)
            case {"mutation": str() as mutation}:
                crew.search(mutation)
            case {"server_seeds": range() as seeds} if server:
                crew.report(seeds, served=True)
            case {"server_mutation": str() as mutation} if server:
                crew.search(mutation, served=True)


def _give_up_with(process: int, crew: Crew) -> None:
    select.select([process], [], [])
    crew.close()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Also when the run was cut short, no process stays behind."""
    crew = config.stash.get(CREW, None)
    if crew is not None:
        crew.close()


@pytest.fixture(scope="session")
def crew(request: pytest.FixtureRequest) -> Crew:
    """The processes that run seeds."""
    if CREW not in request.config.stash:
        _begin(request.session)
    return request.config.stash[CREW]
