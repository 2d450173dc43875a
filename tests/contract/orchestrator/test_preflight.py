"""A preflight on real tables: what it finds, what it counts, and how a change is let in."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import update

from messaging.dead_letters import bury
from messaging.schema import outbox
from orchestrator import CONTINUE, letters, versions
from orchestrator.catalog import Catalog
from orchestrator.letters import Decision, State
from orchestrator.preflight.checking import count, preflight
from orchestrator.preflight.instances import Verdict
from orchestrator.saga.state import saga_id
from orchestrator.schema import parked_event
from tests.contract.messaging.bench import NOON, row
from tests.contract.orchestrator.letters import collected, dead_letter
from tests.contract.orchestrator.office import Office
from tests.unit.work import Approved, Done, approval, pivot, step, work_saga

STARTED = work_saga(step("dig"), step("fill"), pivot("sign"), approval(on_timeout=CONTINUE))
CHANGED = work_saga(step("dig"), step("fill"), pivot("seal"), approval(on_timeout=CONTINUE))
"""Another step, but one that no instance has reached."""


async def in_flight(office: Office) -> None:
    """One instance that waits for its first answer, one for its second, and an approval that came early."""
    await office.employ(STARTED)
    await versions.check(office.database, Catalog([STARTED]), (), NOON)
    await office.handle(office.begun(1), office.begun(2))
    await office.handle(office.answer(2, "dig", Done()), office.delivery(Approved(id=1), correlation_id=None))


async def test_an_unchanged_checkout_fits(office: Office) -> None:
    """Everything is looked at, nothing is found, nothing is changed."""
    await in_flight(office)
    report = await preflight(office.database, Catalog([STARTED]))
    assert report.fits
    assert report.changed == ()
    assert dict(report.instances[("work", 1)]) == {Verdict.COMPATIBLE: 2}
    looked_at = dict(report.looked_at)
    assert (looked_at["saga"], looked_at["saga_history"], looked_at["parked_event"]) == (2, 3, 1)
    assert await count(office.database, None) == 2


async def test_a_change_is_let_in_where_nobody_would_notice(office: Office) -> None:
    """The process refuses to start and names the command; the command lets the change in; the process starts."""
    await in_flight(office)
    catalog = Catalog([CHANGED])
    with pytest.raises(versions.DefinitionChanged, match="Run `amends preflight`"):
        await versions.check(office.database, catalog, (), NOON)

    report = await preflight(office.database, catalog)
    assert report.fits
    assert [(each.name, each.version) for each in report.acceptable()] == [("work", 1)]
    async with office.database.transaction() as connection:
        await versions.accept(connection, CHANGED, NOON)
    await versions.check(office.database, catalog, (), NOON)
    assert (await preflight(office.database, catalog)).changed == ()


async def test_instances_that_would_notice_are_named(office: Office) -> None:
    """By reason, with their ids; a change that they would notice cannot be accepted."""
    await in_flight(office)
    report = await preflight(
        office.database, Catalog([work_saga(step("dig"), pivot("sign"), approval(on_timeout=CONTINUE))])
    )
    assert not report.fits
    assert report.acceptable() == ()
    assert {reason: (found.verdict, found.ids) for (_, _, reason), found in report.findings.items()} == {
        "it waits for fill, which is no step of the definition any more": (Verdict.GETS_STUCK, [saga_id("work", 2)])
    }
    assert dict(report.instances[("work", 1)]) == {Verdict.COMPATIBLE: 1, Verdict.GETS_STUCK: 1}


async def test_messages_that_wait_and_do_not_fit_are_named(office: Office) -> None:
    """Those in the outbox and those that are parked, each with its table and row."""
    await in_flight(office)
    strange = (
        '{"specversion":"1.0","id":"01a207e9-785f-73e8-bba0-f41537ca759a","source":"s","type":"work.approved",'
        '"time":"2026-03-01T12:00:00Z","dataversion":1,"data":{"id":"one"}}'
    )
    await office.commit_rows([row(1)])
    async with office.database.transaction() as connection:
        await connection.execute(update(parked_event).values(body=strange))
        await connection.execute(update(outbox).values(body="{"))
    report = await preflight(office.database, Catalog([STARTED]))
    assert not report.fits
    told = {(where, wire_type): sentence for (where, wire_type, sentence) in report.troubles}
    assert told[("parked_event", "work.approved")].startswith("work.approved v1: id: Input should be a valid integer")
    assert told[("outbox", "")].startswith("cannot be read: no JSON: ")


_OUTGROWN = (
    b'{"specversion":"1.0","id":"01a207e9-785f-73e8-bba0-f41537ca759a","source":"s","type":"work.do",'
    b'"time":"2026-03-01T12:00:00Z","dataversion":1,"data":{"note":"%s"}}'
)


async def test_open_dead_letters_of_every_service_are_read(office: Office) -> None:
    """Those that were readable once, whole wherever they lie; neither what nobody could read nor what is done with."""
    await in_flight(office)
    large = dead_letter(
        letter=UUID(int=2),
        service="orchestrator",
        type="work.approved",
        reason="expired",
        body=_OUTGROWN.replace(b"work.do", b"work.approved") % (b"x" * 70_000),
    )
    handled, outgrown = UUID(int=3), _OUTGROWN % b"x"
    await collected(
        office,
        dead_letter(letter=UUID(int=1), service="work", type="work.do", body=outgrown),
        large,
        dead_letter(letter=handled, service="work", type="work.do", body=outgrown),
        dead_letter(letter=UUID(int=4), service="work", type="work.do", body=outgrown, reason="invalid"),
        dead_letter(letter=UUID(int=5), service="work", type="work.do", body=_OUTGROWN % (b"x" * 70_000)),
        dead_letter(letter=UUID(int=6), reason="expired", exchange="amends.events", body=b"{"),
        dead_letter(letter=UUID(int=7), type="shop.closed", body=_OUTGROWN.replace(b"work.do", b"shop.closed") % b"x"),
    )
    async with office.database.transaction() as connection:
        await bury(connection, [large])
        decision = Decision(State.DISCARDED, "ann", "", NOON)
        await letters.decide(connection, letters.COLLECTED, decision, [(handled, None)])
    report = await preflight(office.database, Catalog([STARTED]))

    assert report.looked_at["collected_letter"] == 3
    assert {(where, wire_type): rows.examples for (where, wire_type, _), rows in report.troubles.items()} == {
        ("collected_letter", "work.do"): ["00000000-0000-0000-0000-000000000001"],
        ("collected_letter", "work.approved"): ["00000000-0000-0000-0000-000000000002"],
    }
