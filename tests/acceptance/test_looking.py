"""The commands that list, count, watch and prune: what they print, where, and how they end."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from messaging import migrate
from messaging.__main__ import app as messaging_app
from messaging.database import Database
from messaging.dead_letters import bury
from orchestrator import search
from orchestrator.archive import recorded_in
from orchestrator.assembly import MIGRATIONS
from orchestrator.catalog import Catalog
from orchestrator.cli.app import app
from orchestrator.replay.recorded import Recorded
from tests import laying
from tests.acceptance.programs import AMENDS, BOUND, environment, eventually
from tests.contract.messaging.bench import NOON, Bench, row
from tests.contract.orchestrator.letters import collected, dead_letter
from tests.contract.orchestrator.office import Office
from tests.contract.orchestrator.records import store
from tests.unit.begun import RecordedPlay
from tests.unit.work import Done, Refused, pivot, step, work_saga

Amends = Callable[..., Result]
SAGA = work_saga(step("dig"), pivot("sign"), search=("id",))


def _histories() -> list[Recorded]:
    """Number 1 completed, 2 compensated, 3 stuck, 4 under way: all in March 2026."""
    one, two, three, four = (RecordedPlay(SAGA, number) for number in range(1, 5))
    one.at(2).answer("dig", Done())
    one.at(3).answer("sign", Done())
    two.at(4).answer("dig", Refused(reason="no_time"))
    three.at(5).answer("dig", Done())
    three.fails(three.arrival(Done()))
    return [each.recorded for each in (one, two, three, four)]


async def _prepare(url: str) -> None:
    database = Database(url)
    await laying.migrated(database, [migrate.MESSAGING, MIGRATIONS])
    await search.declare(database, Catalog([SAGA]), NOON)
    histories = _histories()
    await store(database, histories)
    async with database.transaction() as connection:
        await search.index(connection, {each.id: {"id": each.key} for each in histories})
    bench = Bench(database)
    await bench.commit_rows([row(1, "a"), row(2, "a")])
    await bench.close()


@pytest.fixture
def amends(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Amends:
    """The command on a database with four sagas in it."""
    asyncio.run(_prepare(database_url))
    monkeypatch.chdir(tmp_path)
    for name in ("COLUMNS", "AMENDS_SAGAS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", database_url)
    return lambda *arguments: CliRunner().invoke(app, arguments, prog_name="amends")


def test_sagas_are_found_by_attribute(amends: Amends) -> None:
    """With other conditions, in JSON with the attributes; an unknown name is told with those that there are."""
    found = amends("list", "--where", "id=3", "--status", "stuck", "--output", "json")
    assert found.exit_code == 0, found.stderr
    assert [(each["key"], each["attributes"]) for each in json.loads(found.stdout)] == [("3", {"id": "3"})]
    assert found.stderr == ""
    none = amends("list", "--where", "id=3", "--since", "1h", "--output", "json")
    assert json.loads(none.stdout) == []
    unknown = amends("list", "--where", "customer=3")
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert unknown.stderr == "amends: --where customer: no attribute is called that; known: id\n"
    wrong = amends("list", "--where", "id")
    assert (wrong.exit_code, wrong.stderr) == (2, "amends: --where 'id': write NAME=VALUE, like customer_id=42\n")


def test_figures_are_shown_for_people_and_for_programs(amends: Amends) -> None:
    """`stats` tells counts and steps; a saga that nobody knows is exit code 1."""
    found = amends("stats", "--output", "json")
    assert found.exit_code == 0, found.stderr
    (figures,) = json.loads(found.stdout)
    assert figures["statuses"] == {"compensated": 1, "completed": 1, "running": 1, "stuck": 1}
    (dig, sign) = figures["steps"]
    assert (dig["step"], dig["sent"], dig["answered"], dig["reasons"]) == ("dig", 4, 3, {"no_time": 1})
    assert (sign["step"], sign["sent"], sign["duration"]["p50"]) == ("sign", 2, 1.0)
    shown = amends("stats", "--saga", "work")
    assert "dig refused: 1 no_time" in shown.stdout
    assert amends("stats", "--saga", "nix").exit_code == 1


def test_what_waits_is_listed(amends: Amends) -> None:
    """The second row of a key stands behind the first; what is not older than asked for is left out."""
    found = amends("outbox", "list", "--output", "json")
    first, second = json.loads(found.stdout)
    assert first["stands_behind"] is None
    assert second["stands_behind"]["id"] == first["id"]
    assert "2 shown of 2 in the outbox" in amends("outbox", "list", "--older-than", "1d").stdout
    assert amends("parked", "list").stdout == "nothing is parked\n"
    assert amends("deferred", "list", "--output", "json").stdout == "[]\n"
    wrong = amends("outbox", "list", "--older-than", "soon")
    assert (wrong.exit_code, wrong.stderr) == (2, "amends: --older-than 'soon': write 90s, 15m, 2h or 30d\n")


def test_watching_ends_when_it_is_told_to(amends: Amends) -> None:
    """After --for with 0; with --until-ended with 1 while something is under way, and where a saga is stuck."""
    looked = amends("watch", "--interval", "0.1", "--for", "1s")
    assert looked.exit_code == 0, looked.stderr
    lines = looked.stdout.splitlines()
    assert len(lines) >= 2
    assert all("running=1 compensating=0 completed=1 compensated=1 stuck=1 abandoned=0" in line for line in lines)
    assert amends("watch", "--interval", "0.1", "--for", "1s", "--until-ended").exit_code == 1
    one = amends("watch", "1", "--until-ended")
    assert one.exit_code == 0, one.stderr
    assert one.stdout.splitlines()[1:] == [
        "#1 +0.00s test: work.begun; dig: sent -> work.do",
        "#2 +2.00s test: work.done; dig: succeeded; sign: sent -> work.do",
        "#3 +3.00s test: work.done; sign: succeeded; completed -> work.finished",
        "completed",
    ]
    followed = amends("watch", "1", "--interval", "0.1", "--for", "1s")
    assert (followed.exit_code, followed.stdout) == (0, one.stdout)
    stuck = amends("watch", "3", "--until-ended", "--output", "json")
    assert stuck.exit_code == 1
    assert [json.loads(line)["seq"] for line in stuck.stdout.splitlines()] == [1, 2]
    unknown = amends("watch", "nix")
    assert (unknown.exit_code, unknown.stdout) == (1, "")


def test_watching_ends_by_interrupt_without_a_traceback(amends: Amends, database_url: str, tmp_path: Path) -> None:
    """Ctrl-C is exit code 130 and nothing on stderr but an empty line."""
    assert amends("list").exit_code == 0
    log = tmp_path / "watch.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            (*AMENDS, "watch", "--interval", "0.1"),
            cwd=tmp_path,
            env=environment(DATABASE_URL=database_url),
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert eventually(lambda: "running=1" in log.read_text())
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=BOUND)
    assert process.returncode == 130
    assert complaints.strip() == ""


def test_what_is_old_is_pruned_after_a_dry_run_and_a_question(amends: Amends, tmp_path: Path) -> None:
    """A dry run and a refusal change nothing; then the ended ones go into the archive, and the others stay."""
    ages = ("--older-than", f"{(datetime.now(UTC) - NOON - timedelta(days=1)).days}d")
    dry = amends("prune", *ages, "--dry-run")
    assert (dry.exit_code, dry.stdout) == (
        0,
        "would remove 2 sagas with 5 transitions, 0 inbox entries, 0 dead letters of its own, 0 collected\n",
    )
    refused = amends("prune", *ages)
    assert refused.exit_code == 1
    assert len(json.loads(amends("list", "-o", "json").stdout)) == 4
    done = amends("prune", *ages, "--archive", "kept", "--yes")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(
        "removed 2 sagas with 5 transitions, 0 inbox entries, 0 dead letters of its own, 0 collected; archived in "
    )
    assert "has not ended; a participant's inbox must keep what came since then" in done.stderr
    (archive,) = (tmp_path / "kept").iterdir()
    assert sorted(each.key for each in recorded_in(archive)) == ["1", "2"]
    loaded = {"AMENDS_SAGAS": "tests.contract.orchestrator.digging", "DATABASE_URL": "sqlite:///none.db"}
    replayed = CliRunner().invoke(app, ["replay", str(archive), "-o", "json"], env=loaded)
    told = json.loads(replayed.stdout)
    assert (replayed.exit_code, told["instances"], told["transitions"], told["different"]) == (0, 2, 5, 0)
    torn = archive.with_name("torn.jsonl.gz")
    torn.write_bytes(b"no archive")
    broken = CliRunner().invoke(app, ["replay", str(torn)], env=loaded)
    assert (broken.exit_code, broken.stdout, broken.stderr.count("\n")) == (1, "", 1)
    one = CliRunner().invoke(app, ["show", str(archive)], env=loaded)
    assert (one.exit_code, one.stdout) == (1, "")
    assert f"{archive} is an archive of many sagas, and this looks at one; `amends replay {archive}`" in one.stderr
    left = json.loads(amends("list", "-o", "json").stdout)
    assert sorted(each["key"] for each in left) == ["3", "4"]
    assert amends("prune", *ages, "--yes").stdout == "nothing is that old\n"
    wrong = amends("prune", "--older-than", "long")
    assert (wrong.exit_code, wrong.stderr) == (2, "amends: --older-than 'long': write 12h or 30d\n")


def test_old_letters_about_which_nobody_has_decided_are_told_of_and_stay(amends: Amends, database_url: str) -> None:
    """The orchestrator's and a service's command say how many stay and what to do; --undecided removes them."""

    async def fail() -> None:
        bench = Bench(Database(database_url))
        async with bench.database.transaction() as connection:
            await bury(connection, [dead_letter()])
        await bench.close()
        office = Office(Database(database_url))
        await collected(office, dead_letter())
        await office.close()

    asyncio.run(fail())
    ages = ("--older-than", f"{(datetime.now(UTC) - NOON - timedelta(days=1)).days}d", "--yes")
    advice = (
        "undecided dead letters that old stay (1); `amends dead-letters redrive` or `discard` decides about "
        "them, --undecided removes them\n"
    )
    kept = CliRunner().invoke(messaging_app, ["prune", *ages])
    assert (kept.exit_code, kept.stdout, kept.stderr) == (0, "nothing is that old\n", f"python -m messaging: {advice}")
    first = amends("prune", *ages)
    assert "0 dead letters of its own, 0 collected" in first.stdout
    assert f"amends: {advice}" in first.stderr
    second = amends("prune", *ages, "--undecided")
    assert second.stdout == (
        "removed 0 sagas with 0 transitions, 0 inbox entries, 1 dead letter of its own, 1 collected\n"
    )
    assert "undecided" not in second.stderr
