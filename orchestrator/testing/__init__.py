"""The testing kit for users: given/when/then for one saga, and a harness that runs the real thing in memory.

    from orchestrator.testing import given       the pure machine, a virtual clock: instant
    from orchestrator.testing import Harness     worker, engine, relay and your participants, SQLite in memory

Nothing is imported before it is asked for: the pytest plugin lives beside this, and is loaded everywhere.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.testing.expectations import ExpectationFailed
    from orchestrator.testing.harness import Harness
    from orchestrator.testing.scenario import Scenario, given

_HOMES = {
    "ExpectationFailed": "expectations",
    "Harness": "harness",
    "Scenario": "scenario",
    "given": "scenario",
}

__all__ = ["ExpectationFailed", "Harness", "Scenario", "given"]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
