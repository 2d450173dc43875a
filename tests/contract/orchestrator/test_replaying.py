"""Replaying what a database holds: the same answers on SQLite and PostgreSQL, on one core and on several."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update
from typer.testing import CliRunner, Result

from messaging import schema
from messaging.database import Database
from messaging.envelope import CONTENT_TYPE
from orchestrator import Step
from orchestrator.catalog import Catalog
from orchestrator.cli import replaying
from orchestrator.cli.app import app
from orchestrator.replay.difference import Kind
from orchestrator.replay.reading import stream
from orchestrator.replay.replaying import replay
from orchestrator.replay.sweeping import Selection, count, sweep
from orchestrator.replay.tally import Tally
from orchestrator.schema import saga, saga_history
from tests.acceptance.pages import ROOT, blocks
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.conftest import make_tables
from tests.contract.orchestrator.office import Office
from tests.golden.files import MODULES, golden, read, store
from tests.unit.work import Do, Done, Work, pivot, step, work_saga

LOST = "authorize_payment is not compensated any more: payment.void is not sent"


@pytest.fixture
async def histories(database_url: str) -> AsyncIterator[Database]:
    """An orchestrator's database that holds the golden histories."""
    database = Database(database_url)
    await make_tables(database)
    await store(database, *(read(path) for path in golden()))
    yield database
    await database.close()


async def swept(database: Database, *modules: str, processes: int = 1, instances: int = 1, **selected: Any) -> Tally:
    """What replaying all of it comes to."""
    url = database.url.render_as_string(hide_password=False)
    done: list[int] = []
    tally = await asyncio.to_thread(
        sweep,
        url,
        modules or MODULES,
        Selection(**selected),
        instances=instances,
        progress=done.append,
        processes=processes,
    )
    assert sum(done) == tally.instances
    return tally


Counts = dict[str, tuple[int, int, int, dict[Kind, int]]]


def counted(tally: Tally) -> Counts:
    """Instances, transitions, same, and how many differ by kind."""
    return {
        f"{name} v{version}": (each.instances, each.transitions, each.same, dict(each.different))
        for (name, version), each in sorted(tally.counted.items())
    }


ALL_SAME: Counts = {
    "book_trip v1": (5, 29, 5, {}),
    "fulfill_order v1": (7, 45, 7, {}),
    "move_house v2": (3, 16, 3, {}),
}


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in which fulfill_order has lost a compensation."""
    module = tmp_path / "sagas_of_a_checkout.py"
    module.write_text(
        "from tests.unit.changes import CHANGES\n"
        "from docs.examples.trip.saga import BOOK_TRIP\n"
        "from tests.golden.moving import MOVE_HOUSE_1, MOVE_HOUSE_2\n"
        "FULFILL_ORDER = CHANGES['drop_compensation'].make()\n",
        "utf-8",
    )
    # Another process looks for it there, too: spawned ones are told this one's path.
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, module.stem, raising=False)
    return module.stem


async def test_unchanged_code_replays_all_there_is(histories: Database) -> None:
    """In this process and in several, in one range of ids and in many."""
    assert counted(await swept(histories)) == ALL_SAME
    assert counted(await swept(histories, processes=2, instances=9000)) == ALL_SAME
    async with histories.reading() as connection:
        assert list(await connection.execute(select(schema.outbox))) == []


async def test_changed_code_is_found_out_on_both(histories: Database, changed: str) -> None:
    """The same instances, the same sentence, wherever they lie."""
    for processes, instances in ((1, 1), (2, 9000)):
        tally = await swept(histories, changed, processes=processes, instances=instances)
        assert counted(tally) == {
            "book_trip v1": (5, 29, 5, {}),
            # Two differ at transition 2 and 4 of theirs, and so on: what comes after is not folded.
            "fulfill_order v1": (7, 18, 2, {Kind.COMPENSATION: 5}),
            "move_house v2": (3, 16, 3, {}),
        }
        assert {what: finding.instances for what, finding in tally.findings.items()} == {("fulfill_order", 1, LOST): 5}
        ((_, finding),) = tally.findings.items()
        assert len(finding.examples) == 3


async def test_some_can_be_chosen(histories: Database) -> None:
    """By saga, by status, by when they last moved."""
    assert counted(await swept(histories, name="book_trip")) == {"book_trip v1": (5, 29, 5, {})}
    assert counted(await swept(histories, name="fulfill_order", status="completed")) == {
        "fulfill_order v1": (1, 4, 1, {})
    }
    late = Selection(since=NOON.replace(hour=13))
    # Trips that cooled off or waited two days are the later ones; orders took a quarter of an hour at most.
    assert await count(histories, late) == 1
    assert set(counted(await swept(histories, since=late.since))) == {"book_trip v1"}


async def test_a_saga_that_moves_meanwhile_is_read_as_of_one_moment(histories: Database) -> None:
    """A snapshot sees neither half of what another transaction commits after its first query."""
    identity = read(golden()[0]).id
    mine = saga_history.c.saga_id == identity
    async with histories.snapshot() as connection:
        before = (await connection.execute(select(saga.c.status).where(saga.c.id == identity))).scalar_one()
        async with histories.transaction() as other:
            await other.execute(update(saga).where(saga.c.id == identity).values(status="stuck"))
            await other.execute(saga_history.delete().where(mine))
        assert (await connection.execute(select(saga.c.status).where(saga.c.id == identity))).scalar_one() == before
        assert len((await connection.execute(select(saga_history).where(mine))).all()) == 7
    async with histories.snapshot() as connection:
        assert (await connection.execute(select(saga_history).where(mine))).all() == []


# -- the command ---------------------------------------------------------------------------------------------


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that costs every process its life but this one."""
    module = tmp_path / "sagas_that_eat_memory.py"
    module.write_text(
        "import multiprocessing, os, signal\n"
        "from orchestrator.sagas.fulfill_order import FULFILL_ORDER\n"
        "if multiprocessing.parent_process() is not None:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, module.stem, raising=False)
    return module.stem


async def amends(database: Database, *words: str, modules: str = ",".join(MODULES)) -> Result:
    """`amends` with these words."""
    url = database.url.render_as_string(hide_password=False)
    environment = {"DATABASE_URL": url, "AMENDS_SAGAS": modules, "COLUMNS": "120"}
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, list(words), env=environment))


async def test_one_that_is_the_same(histories: Database) -> None:
    """Exit code 0 and one line."""
    completed = read(golden()[7])
    ended = await amends(histories, "replay", str(completed.id)[:8])
    assert ended.exit_code == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        f"fulfill_order v1  {completed.id}  key {completed.key}",
        "same: 4 transitions as recorded",
    ]


async def test_one_that_differs(histories: Database, changed: str) -> None:
    """Exit code 1, the sentence, the place, and both sides."""
    recorded = read(ROOT / "tests/golden/fulfill_order_v1/out_of_stock.json")
    ended = await amends(histories, "replay", recorded.key, modules=changed)
    assert ended.exit_code == 1
    lines = ended.stdout.splitlines()
    assert lines[:3] == [
        f"fulfill_order v1  {recorded.id}  key {recorded.key}",
        f"different: {LOST}",
        "at transition 3: order.rejected (out_of_stock) from order",
    ]
    assert lines[3].split() == ["recorded", "this", "checkout"]
    assert "authorize_payment compensates with payment.void" in ended.stdout
    assert "place_order compensates with order.cancel" in ended.stdout

    told = json.loads((await amends(histories, "replay", recorded.key, "-o", "json", modules=changed)).stdout)
    assert (told["same"], told["transitions"], told["difference"]["seq"]) == (False, 2, 3)
    assert (told["difference"]["kind"], told["difference"]["sentence"]) == ("compensation", LOST)


async def test_all_of_them(histories: Database, changed: str) -> None:
    """A table, the findings, and the exit code of a failed check."""
    ended = await amends(histories, "replay", "--all")
    assert ended.exit_code == 0, ended.stderr
    table = [line.split() for line in ended.stdout.splitlines()]
    assert table[:4] == [
        ["saga", "instances", "transitions", "same", "different", "how"],
        ["book_trip", "v1", "5", "29", "5", "0"],
        ["fulfill_order", "v1", "7", "45", "7", "0"],
        ["move_house", "v2", "3", "16", "3", "0"],
    ]
    assert ended.stdout.splitlines()[-1].endswith(": all the same")

    ended = await amends(histories, "replay", "--all", "--saga", "fulfill_order", modules=changed)
    assert ended.exit_code == 1
    assert ended.stdout.splitlines()[1].split() == ["fulfill_order", "v1", "7", "18", "2", "5", "5", "compensation"]
    assert f"different: {LOST}" in ended.stdout

    ended = await amends(histories, "replay", "--all", "--output", "json", modules=changed)
    told = json.loads(ended.stdout)
    assert (ended.exit_code, told["instances"], told["different"]) == (1, 15, 5)
    assert [(each["sentence"], each["instances"]) for each in told["findings"]] == [(LOST, 5)]


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["replay"], 2, "amends: name one saga (its id, its key or a bundle's file), or all of them: --all\n"),
        (["replay", "x", "--all"], 2, "amends: name one saga (its id, its key or a bundle's file), or all of them"),
        (["replay", "x", "--saga", "y"], 2, "amends: --saga, --status and --since choose among --all\n"),
        (["replay", "0000"], 1, "amends: no saga has the id or the key '0000'; `amends list` shows what there is\n"),
        (["replay", "--all", "--saga", "fulfil"], 1, "amends: there is no saga 'fulfil'; AMENDS_SAGAS loads book_trip"),
        (["replay", "--all", "--since", "soon"], 2, "amends: --since 'soon': write 90s"),
    ],
)
async def test_what_cannot_be_replayed_is_told_in_a_line(
    histories: Database, words: list[str], code: int, complaint: str
) -> None:
    """On stderr, with nothing on stdout."""
    ended = await amends(histories, *words)
    assert (ended.exit_code, ended.stdout) == (code, "")
    assert ended.stderr.startswith(complaint)


async def test_a_process_that_was_killed_is_told_in_a_line(
    histories: Database, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    """As for want of memory: no verdict, so neither of the exit codes that are one; and how to go on."""
    # More than one process, on whatever machine this is.
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(replaying, "count", _many)
    ended = await amends(histories, "replay", "--all", "--output", "json", modules=killed)
    assert (ended.exit_code, ended.stdout) == (70, "")
    assert ended.stderr == (
        "amends: a process that replays ended before its time (killed for want of memory, perhaps), so there is no "
        "verdict; repeat it with less (--saga, --since), or in one process: `taskset -c 0 amends replay --all`\n"
    )


async def _many(_database: Database, _selection: Selection) -> int:
    return 9000


async def test_the_commands_of_the_page_do_what_it_shows(histories: Database, changed: str) -> None:
    """docs/replay.md: its command lines run, and the output it shows is what is printed."""
    page = ROOT / "docs" / "replay.md"
    (commands,) = blocks(page, "sh")
    lines = [shlex.split(line, comments=True) for line in commands.text.splitlines()]
    assert len(lines) == 4
    for words in lines:
        ended = await amends(histories, *words[1:])
        assert (ended.exit_code, ended.stderr) == (0, ""), words
    (shown,) = blocks(page, "text")
    ended = await amends(histories, *lines[0][1:], modules=changed)
    assert [line.rstrip() for line in ended.stdout.splitlines()] == shown.text.splitlines()


# -- what an engine has recorded of its own accord -----------------------------------------------------------


def _shouting(data: Work) -> Do:
    return Do(step="fill", seen=("x" * 300_000,))


def _whispering(data: Work) -> Do:
    return Do(step="fill", seen=())


def _stumbling(data: Work, event: Done) -> Work:
    raise ZeroDivisionError(f"no data for {data.id} \x00 {'so ' * 2000}")


async def test_a_saga_that_somebody_elses_message_has_begun_replays(office: Office) -> None:
    """Its id is any text, here one as long as a UUID's, with quotes and a line break in it."""
    await office.employ(work_saga(step("dig"), pivot("sign")))
    theirs = 'order "7" of 2026-03-01\nof ann, paid'
    assert len(theirs) == len(str(UUID(int=0)))
    begun = {"specversion": "1.0", "id": theirs, "source": "shop", "type": "work.begun", "data": {"id": 1}}
    await office.handle(office.raw(json.dumps(begun).encode(), content_type=CONTENT_TYPE))
    await office.flush()

    async with office.database.snapshot() as connection:
        (found,) = [each async for each in stream(connection)]
    assert replay(found, office.catalog).difference is None
    (sent,) = office.bus.published
    assert json.loads(found.transitions[0].input)["message_id"] == json.loads(sent.body)["causationid"]


async def test_what_made_a_saga_stuck_in_an_engine_does_so_in_a_replay(office: Office) -> None:
    """A message too large to be sent, and an exception too long to be kept; and with mended code it does not."""
    await office.employ(
        work_saga(step("dig"), Step("fill", _shouting), pivot("sign")),
        work_saga(step("dig", on_success=_stumbling), pivot("sign"), name="other"),
    )
    await office.handle(office.begun(1))
    await office.handle(office.answer(1, "dig", Done()), office.answer(1, "dig", Done(), name="other"))
    assert {row.status for row in await office.rows(saga)} == {"stuck"}
    async with office.database.snapshot() as connection:
        histories = [each async for each in stream(connection)]
    assert [replay(each, office.catalog).difference for each in histories] == [None, None]

    mended = Catalog(
        [
            work_saga(step("dig"), Step("fill", _whispering), pivot("sign")),
            work_saga(step("dig"), pivot("sign"), name="other"),
        ]
    )
    found = [replay(each, mended).difference for each in histories]
    assert [each and each.kind for each in found] == [Kind.NO_LONGER_STUCK, Kind.NO_LONGER_STUCK]
