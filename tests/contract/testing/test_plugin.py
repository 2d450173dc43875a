"""The pytest plugin, as another project meets it: in a pytest of its own, in a directory of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ("pytester",)

SAGA = """
from unittest.mock import Mock
from typing import Never
from pydantic import BaseModel, ConfigDict
from contracts import Command, Event
from messaging.participant import Participant
from orchestrator import Saga, Start, Step
from orchestrator.testing import Harness, given
import pytest

class Asked(Event, type="cake.asked", key="id"):
    id: int

class Baked(Event, type="cake.baked"):
    pass

class Bake(Command[Baked, Never], type="cake.bake"):
    id: int

class Cake(BaseModel):
    model_config = ConfigDict(frozen=True)
    id: int

def begin(event: Asked) -> Cake:
    return Cake(id=event.id)

def bake(cake: Cake) -> Bake:
    return Bake(id=cake.id)

CAKE = Saga(name="cake", version=1, data=Cake, steps=(Step("bake", bake),),
            starts_on=Start(Asked, begin, key=lambda event: event.id))
oven = Participant("oven")

@oven.handles(Bake)
async def do_bake(command: Bake, db: object) -> Baked:
    return Baked()
"""


def test_a_failed_test_tells_the_timeline_of_its_scenario(pytester: pytest.Pytester) -> None:
    """Also where the assertion that failed was the test's own; a passing test and an unrelated one say nothing."""
    pytester.makepyfile(
        SAGA
        + """
def test_fails():
    cake = given(CAKE, Asked(id=7)).answers(Baked())
    stranger = Mock(spec=Harness)
    assert cake.status == "burnt"

def test_passes():
    given(CAKE, Asked(id=7)).answers(Baked()).expect_completed()

def test_other():
    assert 1 == 2
"""
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        ["*- amends scenario -*", "saga cake v1, key 7", "*-> Bake()", "*+0 s  Baked()", "*now: completed"]
    )
    assert str(result.stdout).count("amends scenario") == 1


def test_an_expectation_that_fails_tells_its_timeline_once_and_no_frame_of_the_kit(pytester: pytest.Pytester) -> None:
    """In the error itself, which names the line of the test."""
    pytester.makepyfile(SAGA + "\ndef test_fails():\n    given(CAKE, Asked(id=7)).expect(Bake(id=8))\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-rN")
    text = str(result.stdout)
    result.stdout.fnmatch_lines(["*id   expected 8   sent 7"])
    assert (text.count("saga cake v1"), text.count("amends scenario"), text.count("scenario.py:")) == (1, 0, 0)


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_the_fixture_makes_harnesses_in_both_modes_of_pytest_asyncio(pytester: pytest.Pytester, mode: str) -> None:
    """And a failing test tells what was said."""
    pytester.makepyfile(
        SAGA
        + """
@pytest.mark.asyncio
async def test_runs(saga_harness):
    async with saga_harness(sagas=[CAKE], participants=[oven]) as harness:
        await harness.publish(Asked(id=7))
        await harness.settle()
        assert (await harness.saga(7)).status == "completed"

async def bakes(saga_harness):
    async with saga_harness(sagas=[CAKE], participants=[oven]) as harness:
        await harness.publish(Asked(id=7))
        await harness.settle()
        return (await harness.saga(7)).status

@pytest.mark.asyncio
async def test_fails(saga_harness):
    assert await bakes(saga_harness) == "burnt"
"""
    )
    pytester.makeini(f"[pytest]\nasyncio_mode={mode}\nasyncio_default_fixture_loop_scope=function\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*- amends harness -*", "harness of orchestrator, oven", "*oven -> Baked()"])


def test_a_project_that_does_not_use_it_pays_next_to_nothing(tmp_path: Path) -> None:
    """The plugin is loaded in every pytest of the environment, and with it nothing but itself and its packages."""
    (tmp_path / "test_other.py").write_text(
        "import sys\n"
        "def test_other():\n"
        "    ours = {'contracts', 'messaging', 'orchestrator', 'services', 'deploy', 'sqlalchemy', 'pydantic'}\n"
        "    found = {name for name in sys.modules if name.partition('.')[0] in ours}\n"
        "    assert found == {'orchestrator', 'orchestrator.testing', 'orchestrator.testing.plugin'}\n",
        encoding="utf-8",
    )
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout


def test_the_kit_needs_no_pytest() -> None:
    """It is a library; only the plugin imports pytest."""
    program = (
        "import sys; sys.modules['pytest'] = None\n"
        "from orchestrator.testing import ExpectationFailed, Harness, NotSettled, Scenario, given"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_what_the_kit_does_not_have_is_an_attribute_error() -> None:
    """Names are loaded when they are asked for; unknown ones are unknown."""
    import orchestrator
    from orchestrator import testing

    for package in (orchestrator, testing):
        assert all(getattr(package, name) is not None for name in package.__all__)
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            getattr(package, "nothing")  # noqa: B009 - a type checker would refuse the attribute
