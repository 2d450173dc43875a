"""The pytest plugin: a fixture that makes harnesses, and the timeline of a failed test's sagas in its report.

It comes with the package and needs no configuration. A test that uses nothing of the kit costs nothing: whatever is
needed is imported when it is needed.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from contracts.message import Message
    from messaging.participant import Participant
    from orchestrator.saga.definition import Saga
    from orchestrator.testing.crew import Tables
    from orchestrator.testing.harness import Harness
    from orchestrator.testing.virtual_clock import VirtualClock

_HOMES = {"Scenario": "orchestrator.testing.scenario", "Harness": "orchestrator.testing.harness"}


class Harnesses:
    """Makes the harnesses of one test: `async with saga_harness(sagas=[...], participants=[...]) as harness`.

    It takes what `Harness` takes. The seed, where none is given, is made from the test's name: another one for each
    test, the same in each run.
    """

    def __init__(self, test: str) -> None:
        self._seed = zlib.crc32(test.encode())
        self.made: list[Harness] = []

    def __call__(
        self,
        *,
        sagas: Iterable[Saga[Any]],
        participants: Iterable[Participant] = (),
        tables: Mapping[str, Tables] | None = None,
        seed: int | None = None,
        messages: Iterable[type[Message]] = (),
        clock: VirtualClock | None = None,
        batch_size: int = 100,
    ) -> Harness:
        from orchestrator.testing.harness import Harness

        harness = Harness(
            sagas=sagas,
            participants=participants,
            tables=tables,
            seed=self._seed if seed is None else seed,
            messages=messages,
            clock=clock,
            batch_size=batch_size,
        )
        self.made.append(harness)
        return harness


@pytest.fixture
def saga_harness(request: pytest.FixtureRequest) -> Harnesses:
    """Makes harnesses: the real orchestrator and your participants, in memory, on a virtual clock."""
    return Harnesses(request.node.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the timelines of what a failed test has played with into its report."""
    report = yield
    if report.failed and call.excinfo is not None:
        said = str(call.excinfo.value)
        for title, timeline in _timelines(item, call.excinfo):
            if timeline not in said:
                report.sections.append((title, timeline))
    return report


def _timelines(item: pytest.Item, failure: pytest.ExceptionInfo[BaseException]) -> Iterator[tuple[str, str]]:
    """Of every scenario and harness in the frames the test failed in, and of those its fixture made."""
    kinds = tuple(getattr(sys.modules[home], name) for name, home in _HOMES.items() if home in sys.modules)
    if not kinds:
        return
    found: dict[int, Any] = {}
    given = getattr(item, "funcargs", {}).values()
    for each in (*given, *(value for entry in failure.traceback for value in entry.frame.f_locals.values())):
        # By their true class: a proxy or a mock may claim any other.
        for one in each.made if type(each) is Harnesses else (each,):
            if issubclass(type(one), kinds):
                found.setdefault(id(one), one)
    for one in found.values():
        yield f"amends {type(one).__name__.lower()}", one.timeline
