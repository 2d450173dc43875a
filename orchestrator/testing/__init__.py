"""The testing kit for users: given/when/then for one saga, and a harness that runs the real thing in memory.

    from orchestrator.testing import given       the pure machine, a virtual clock: instant
    from orchestrator.testing import Harness     worker, engine, relay and your participants, SQLite in memory

Each name is loaded when it is first asked for: the pytest plugin lives beside this, and is loaded everywhere.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.testing.expectations import ExpectationFailed
    from orchestrator.testing.harness import Harness, NotSettled
    from orchestrator.testing.plugin import Harnesses
    from orchestrator.testing.scenario import Scenario, given
    from orchestrator.testing.virtual_clock import VirtualClock
else:
    _HOMES = {
        "ExpectationFailed": "expectations",
        "Harness": "harness",
        "Harnesses": "plugin",
        "NotSettled": "harness",
        "Scenario": "scenario",
        "VirtualClock": "virtual_clock",
        "given": "scenario",
    }

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = ["ExpectationFailed", "Harness", "Harnesses", "NotSettled", "Scenario", "VirtualClock", "given"]
