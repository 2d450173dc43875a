"""What is written down of definitions: when a process last started with one, and what happens where it is torn."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from orchestrator import CONTINUE, queries, versions
from orchestrator.catalog import Catalog
from orchestrator.preflight.checking import preflight
from orchestrator.preflight.instances import Verdict
from orchestrator.replay.collecting import collected
from orchestrator.saga.fingerprint import describe, fingerprint
from orchestrator.saga.state import saga_id
from orchestrator.schema import saga_definition
from orchestrator.testing.bundles import changes_since
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.office import Office
from tests.unit.work import approval, pivot, step, work_saga

STARTED = work_saga(step("dig"), pivot("sign"), approval(on_timeout=CONTINUE))
CHANGED = work_saga(step("dig"), pivot("seal"), approval(on_timeout=CONTINUE))
"""Another step, but one that no instance has reached."""

TORN = ['{"name": "work", "sta', "[]", '{"stages": {"dig": []}}']
LATER = NOON + timedelta(days=40)


async def _written(office: Office) -> Any:
    async with office.database.reading() as connection:
        return (await connection.execute(select(saga_definition))).one()


async def _tear(office: Office, text: str) -> None:
    async with office.database.transaction() as connection:
        await connection.execute(update(saga_definition).values(description=text))


async def _in_flight(office: Office) -> None:
    await office.employ(STARTED)
    await versions.check(office.database, Catalog([STARTED]), (), NOON)
    await office.handle(office.begun(1))


async def test_it_is_known_when_a_process_last_started_with_a_definition(office: Office) -> None:
    """Each start says so again, and one with a clock that goes behind does not take it back."""
    for moment in (NOON, LATER, NOON + timedelta(days=1)):
        await versions.check(office.database, Catalog([STARTED]), (), moment)
    assert (await _written(office)).seen_at == LATER


@pytest.mark.parametrize("text", TORN)
async def test_a_torn_description_is_written_anew_where_the_definition_is_as_it_was(office: Office, text: str) -> None:
    """The fingerprint decides whether a process may start; the words are only there to say what differs."""
    await _in_flight(office)
    await _tear(office, text)
    assert (await preflight(office.database, Catalog([STARTED]))).fits
    await versions.check(office.database, Catalog([STARTED]), (), NOON)
    assert json.loads((await _written(office)).description) == describe(STARTED)


@pytest.mark.parametrize("text", TORN)
async def test_a_change_behind_a_torn_description_is_refused_in_one_line(office: Office, text: str) -> None:
    """As any other change under instances in flight; what differs is then said not to be known."""
    await _in_flight(office)
    await _tear(office, text)
    with pytest.raises(versions.DefinitionChanged) as refused:
        await versions.check(office.database, Catalog([CHANGED]), (), NOON)
    assert "\n" not in str(refused.value)
    assert (
        "What differs: nobody can say: its description in saga_definition cannot be read; restore that row "
        "from a backup."
    ) in str(refused.value)
    await versions.check(office.database, Catalog([CHANGED]), ("work:1",), NOON)
    assert json.loads((await _written(office)).description) == describe(CHANGED)


@pytest.mark.parametrize("text", TORN)
async def test_a_preflight_lets_no_change_in_that_it_cannot_compare(office: Office, text: str) -> None:
    """What the instance waits for may have changed: only the description could tell."""
    await _in_flight(office)
    await _tear(office, text)
    report = await preflight(office.database, Catalog([CHANGED]))
    assert not report.fits
    assert report.acceptable() == ()
    ((_, _, reason), found) = next(iter(report.findings.items()))
    assert (found.verdict, found.ids) == (Verdict.NEEDS_VERSION, [saga_id("work", 1)])
    assert reason == (
        "nobody can say whether it would notice: its definition has changed, and the description of the one before in "
        "saga_definition cannot be read; restore that row from a backup"
    )
    assert [each.differences for each in report.changed] == [
        ["nobody can say: its description in saga_definition cannot be read; restore that row from a backup"]
    ]


async def test_a_torn_description_that_no_instance_needs_stands_in_nobodys_way(office: Office) -> None:
    """Nothing is in flight: the changed definition takes its place."""
    await versions.check(office.database, Catalog([STARTED]), (), NOON)
    await _tear(office, TORN[0])
    assert (await preflight(office.database, Catalog([CHANGED]))).fits
    await versions.check(office.database, Catalog([CHANGED]), (), NOON)
    assert (await _written(office)).fingerprint == fingerprint(CHANGED)


@pytest.mark.parametrize("text", TORN)
async def test_an_instance_is_exported_in_spite_of_a_torn_description(office: Office, text: str) -> None:
    """From the definition here where that is the one that runs; otherwise with its fingerprint, and no words."""
    await _in_flight(office)
    await _tear(office, text)
    async with office.database.reading() as connection:
        row = await queries.find(connection, "1")
        same, other = await collected(connection, row, STARTED), await collected(connection, row, CHANGED)
    assert same.description == describe(STARTED)
    assert (other.fingerprint, dict(other.description)) == (fingerprint(STARTED), {})
    assert changes_since(other, Catalog([CHANGED])) == [
        "its definition; how it stood when it was exported, the bundle does not tell"
    ]
