"""`--seed N` runs one seed of the simulation; AMENDS_SIMULATION_SEEDS says how many the default run takes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor

import pytest

MOST_PROCESSES = 8


def pytest_addoption(parser: pytest.Parser) -> None:
    """Only known where this folder is named: `pytest tests/simulation --seed 7 -s`."""
    parser.addoption("--seed", type=int, default=None, help="run only this seed of the simulation, and tell its story")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --seed, nothing but that seed."""
    if config.getoption("--seed", default=None) is not None:
        items[:] = [item for item in items if item.name.startswith("test_the_properties_hold")]


@pytest.fixture(scope="session")
def crew() -> Iterator[Executor]:
    """Processes that run seeds: fresh ones, because a simulation takes structlog and the hash seed as it finds them."""
    workers = min(os.cpu_count() or 1, MOST_PROCESSES)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor
