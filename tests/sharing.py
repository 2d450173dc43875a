"""How several processes share the tests: `pytest -n auto`, which `make test` says for all of them.

Each takes one test after the other, so that all end at about the same time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer

HERE = Path(__file__).parent
_LONGEST_FIRST = ("simulation", "chaos", "integration", "acceptance", "typing", "contract")
MOST_PROCESSORS = 8
"""They share a broker and a PostgreSQL that takes 200 connections."""
TOGETHER = (
    # Whoever begins the seeds waits for them.
    "tests/simulation/test_simulation.py",
    # What a module's fixture makes takes long.
    "tests/acceptance/test_demo.py",
    "tests/chaos/test_inspection.py",
    "tests/integration/test_broker_permissions.py",
    "tests/integration/test_database_roles.py",
    "tests/contract/rabbitmq/test_tls.py",
    "tests/contract/messaging/test_database_tls.py",
)


AT_THE_USUAL_PORTS = ("tests/acceptance/test_up.py", "tests/acceptance/test_readme.py")
"""Start services where users do, at 8000 and the next two: two at once would find the same ports free, and one take
them.
"""


class Sharing(LoadScopeScheduling):  # type: ignore[misc]  # xdist says no types
    """One test at a time, but of some files all tests by one process."""

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)


def unit(nodeid: str) -> str:
    """What a test is done with: its file or its like where these belong together, otherwise itself."""
    file = nodeid.partition("::")[0]
    if file in AT_THE_USUAL_PORTS:
        return "at the usual ports"
    return file if file in TOGETHER else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Sharing:
    """Ours, whatever `--dist` says; in the order in which the tests were collected."""
    config.option.loadscopereorder = False
    return Sharing(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One a processor, and the one that waits for the simulation; none where all tests would share one vhost."""
    shared = os.environ.get("TEST_AMQP_URL") and not os.environ.get("TEST_RABBITMQCTL")
    return 0 if shared else min(os.cpu_count() or 1, MOST_PROCESSORS) + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests, none is left alone at the end with one that takes long."""
    if hasattr(config, "workerinput"):
        items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    folder = item.path.relative_to(HERE).parts[0]
    return _LONGEST_FIRST.index(folder) if folder in _LONGEST_FIRST else len(_LONGEST_FIRST)
