"""The commands by which people decide, run as programs beside an engine, on both databases."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from messaging import schema
from messaging.clock import SystemClock
from orchestrator import versions
from orchestrator.saga.state import saga_id
from orchestrator.schema import saga_history
from tests.acceptance.programs import AMENDS, finished
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.office import Office
from tests.contract.orchestrator.two_versions import FIRST, SECOND
from tests.unit.work import Done, Refused

Amends = Callable[..., Awaitable[subprocess.CompletedProcess[str]]]
SAGAS = "tests.contract.orchestrator.two_versions"


@pytest.fixture
def amends(database_url: str, tmp_path: Path) -> Amends:
    """Run one command; what it prints and how it ends."""

    async def run(*words: str, stdin: str = "", **given: str) -> subprocess.CompletedProcess[str]:
        variables = {"DATABASE_URL": database_url, "AMENDS_SAGAS": SAGAS} | given
        # In a thread: the engine of the test may be in a transaction that has to go on meanwhile.
        return await asyncio.to_thread(finished, (*AMENDS, *words), tmp_path, stdin, **variables)

    return run


async def _stuck(office: Office, *numbers: int) -> None:
    """Sagas whose `dig` was done and cannot be undone; then it is the present, as for the commands."""
    await office.employ(FIRST)
    await office.handle(*[office.begun(number) for number in numbers])
    await office.handle(*[office.answer(number, "dig", Done()) for number in numbers])
    await office.handle(*[office.answer(number, "fill", Refused()) for number in numbers])
    async with asyncio.timeout(30):
        while not all([await office.status_of(number) == "stuck" for number in numbers]):
            office.clock.advance(10)
            await asyncio.sleep(0.005)
    await office.flush()
    office.bus.published.clear()
    await versions.check(office.database, office.catalog, (), office.clock.now())


async def _statuses(office: Office) -> dict[str, str]:
    return {key: row.status for key, row in (await office.sagas()).items()}


def _present(office: Office) -> None:
    """The engine's time catches up with that of the commands."""
    office.clock.moment = SystemClock().now() + timedelta(seconds=1)


async def test_a_stuck_saga_is_resolved_with_evidence_and_tells_so(office: Office, amends: Amends) -> None:
    """Found, resolved, published by the running orchestrator, and told by `show`: who, and where it can be seen."""
    await _stuck(office, 1)
    mine = str(saga_id("work", 1))
    found = await amends("list", "--status", "stuck", "--output", "json")
    assert [each["id"] for each in json.loads(found.stdout)] == [mine]
    ended = await amends("resolve", mine[:8], "dig", "--evidence", "photo 7731", "--as", "bea", "--yes")
    assert (ended.returncode, ended.stderr) == (0, "1 done\n")
    assert "dig: compensated" in ended.stdout

    _present(office)
    await office.relay.sweep()
    assert [each.type for each in office.bus.published] == ["work.amended"]
    assert await _statuses(office) == {"1": "compensated"}
    shown = await amends("show", mine)
    assert "resolve dig: photo 7731" in shown.stdout
    assert "bea" in shown.stdout
    again = await amends("resolve", mine, "dig", "--evidence", "photo 7731", "--yes")
    assert (again.returncode, again.stderr) == (1, "1 refused\n")
    assert "the saga is compensated; nothing can change it" in again.stdout
    assert await office.audit() == 1


async def test_many_are_shown_agreed_to_and_done(office: Office, amends: Amends) -> None:
    """A dry run and a no change nothing; a yes does what was shown; the commands leave with the orchestrator."""
    await _stuck(office, 1, 2)
    words = ("retry", "--all-stuck", "--saga", "work", "--reason", "the spade is back")
    dry = await amends(*words, "--dry-run", "--output", "json")
    assert [each["result"] for each in json.loads(dry.stdout)] == ["possible", "possible"]
    no = await amends(*words, stdin="n\n")
    assert (no.returncode, "retry these 2 sagas as" in no.stderr) == (1, True)
    assert await _statuses(office) == {"1": "stuck", "2": "stuck"}
    assert await office.rows(schema.outbox) == []

    yes = await amends(*words, "--as", "bea", stdin="y\n", COLUMNS="100")
    assert (yes.returncode, await _statuses(office)) == (0, {"1": "compensating", "2": "compensating"})
    _present(office)
    await office.relay.sweep()
    assert office.commands() == [("work.undo", "dig"), ("work.undo", "dig")]
    last = [json.loads(row.input) for row in await office.rows(saga_history) if row.seq == 5]
    assert {(each["action"], each["who"], each["why"]) for each in last} == {("retry", "bea", "the spade is back")}
    none = await amends(*words, "--yes")
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "there is none; nothing to do\n")
    assert await office.audit() == 2


async def test_answers_and_deadlines_are_given_by_hand(office: Office, amends: Amends, tmp_path: Path) -> None:
    """From a file, from standard input, as an event that cancels; a deadline is revoked for all that wait there."""
    await office.employ(FIRST)
    await office.handle(*[office.begun(number) for number in (1, 2)])
    (tmp_path / "done.json").write_text('{"note": " by phone"}')
    put_off = await amends(
        "reschedule", "--all-waiting", "--step", "dig", "--revoke", "--reason", "the bank is down", "-y"
    )
    assert (put_off.returncode, put_off.stderr) == (0, "2 done\n")
    assert {row.deadline for row in (await office.sagas()).values()} == {None}

    one, two = str(saga_id("work", 1)), str(saga_id("work", 2))
    skipped = await amends("skip", one, "dig", "--with", "@done.json", "--reason", "asked them", "-y")
    assert (skipped.returncode, "fill: sent" in skipped.stdout) == (0, True)
    withdrawn = await amends("cancel", two, "--with", "-", "--reason", "rang", "-y", "-o", "json", stdin='{"id": 2}')
    (outcome,) = json.loads(withdrawn.stdout)
    assert (outcome["was"], outcome["status"], outcome["transitions"][0]["input"]["type"]) == (
        "running",
        "compensating",
        "work.withdrawn",
    )
    rows = await office.sagas()
    assert json.loads(rows["1"].data)["log"] == ["dig done by phone"]
    assert json.loads(rows["2"].data)["log"] == ["withdrawn"]
    put_off = await amends("reschedule", one, "fill", "--to", "+2h", "--reason", "the bank is down", "-y")
    assert put_off.returncode == 0
    due = (await office.sagas())["1"].deadline
    assert due is not None
    assert timedelta(hours=1, minutes=58) < due - SystemClock().now() <= timedelta(hours=2)
    assert await office.audit() == 2


async def test_instances_are_migrated_after_all_were_shown(office: Office, amends: Amends) -> None:
    """Without --yes nothing is; with it those that can be, and the others are told with their reasons."""
    await office.employ(FIRST)
    await office.handle(*[office.begun(number) for number in (1, 2)])
    await office.handle(office.answer(2, "dig", Done()))
    await office.retire()
    # Retiring takes time; nothing is to become due for the engine while the commands look.
    office.clock.moment = NOON
    await office.employ(FIRST, SECOND)
    await versions.check(office.database, office.catalog, (), office.clock.now())
    words = (
        "migrate-instances",
        "--saga",
        "work",
        "--from",
        "1",
        "--to",
        "2",
        "--reason",
        "v2 is better",
        "--as",
        "bea",
    )
    shown = await amends(*words)
    assert (shown.returncode, shown.stderr) == (
        1,
        "1 possible, 1 refused\nnothing was changed; with --yes 1 of 2 are migrated\n",
    )
    assert "it has reached fill, which v2 does not have" in shown.stdout
    assert {row.version for row in (await office.sagas()).values()} == {1}
    done = await amends(*words, "--yes", "--output", "json")
    assert done.returncode == 1
    assert {each["key"]: (each["result"], each["version"]) for each in json.loads(done.stdout)} == {
        "1": ("done", 2),
        "2": ("refused", 1),
    }
    await office.handle(office.answer(1, "dig", Done()))
    assert {key: (row.version, row.step) for key, row in (await office.sagas()).items()} == {
        "1": (2, "sign"),
        "2": (1, "fill"),
    }
    assert await office.audit() == 2


WHY = ("--reason", "because")


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (("retry", "9", *WHY), 1, "no saga has the id or the key '9'; `amends list` shows what there is"),
        (("retry", *WHY), 2, "name one saga by its id or key, or say --all-stuck"),
        (("retry", "1", "--reason", " "), 2, "say why: the reason is kept in the history"),
        (
            ("retry", "work-1", "--saga", "work", *WHY),
            2,
            "--saga narrows --all-stuck; one saga is named by its id or key alone",
        ),
        (
            ("skip", "dig", "--all-stuck", "--step", "dig", *WHY),
            2,
            "--all-stuck means many: leave the id out, and name a step with --step",
        ),
        (
            ("abandon", "work-1", "--all-stuck", *WHY),
            2,
            "--all-stuck means many: leave the id out, and name a step with --step",
        ),
        (
            ("compensate", "work-1", "--step", "dig", *WHY),
            2,
            "--step narrows --all-stuck; this is about the whole saga",
        ),
        (("skip", "work-1", *WHY), 2, "name the step: behind the saga's id, or of many with --step"),
        (
            ("skip", "{id}", "dig", "--with", "{{", *WHY),
            2,
            "that is no JSON: Expecting property name enclosed in double quotes at character 1",
        ),
        (
            ("skip", "{id}", "dug", "--with", "{}", *WHY),
            1,
            "work v1 has no step 'dug'; its steps are dig, fill, sign, bill",
        ),
        (("retry", "--all-stuck", "--step", "dug", *WHY), 1, "no saga that AMENDS_SAGAS loads has a step 'dug'"),
        (("abandon", "--all-stuck", "--step", "dug", *WHY), 1, "no saga that AMENDS_SAGAS loads has a step 'dug'"),
        (
            ("reschedule", "--all-waiting", "--step", "dug", "--revoke", *WHY),
            1,
            "no saga that AMENDS_SAGAS loads has a step 'dug'",
        ),
        (("skip", "{id}", "dig", "--with", "@nowhere", *WHY), 2, "nowhere cannot be read: No such file or directory"),
        (("reschedule", "{id}", "dig", *WHY), 2, "say --to MOMENT or --revoke; one of both"),
        (
            ("reschedule", "{id}", "dig", "--to", "noon", *WHY),
            2,
            "--to 'noon': write +90s, +15m, +2h, +3d, or a moment like 2026-01-31T12:00:00+00:00",
        ),
        (
            ("migrate-instances", "--saga", "work", "--from", "7", "--to", "2", *WHY),
            1,
            "work v2 lists no Migration from v7: Saga(..., migrations=(Migration(...),))",
        ),
        (
            ("migrate-instances", "--saga", "work", "--from", "1", "--to", "9", *WHY),
            1,
            "no definition of work v9 is loaded; AMENDS_SAGAS loads work v1, work v2",
        ),
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_mistake_is_one_line(
    office: Office, amends: Amends, words: tuple[str, ...], code: int, complaint: str
) -> None:
    """What was wrong and how to mend it, with the exit code that scripts look at; nothing on stdout."""
    await office.employ(FIRST)
    await office.handle(office.begun(1))
    mine = str(saga_id("work", 1))
    ended = await amends(*[mine if word == "{id}" else word for word in words])
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", f"amends: {complaint}\n")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_number_that_is_no_key_is_not_taken_for_an_id_unasked(office: Office, amends: Amends) -> None:
    """It may be the key of one that was pruned: who is asked sees which it is; eight digits of an id are enough."""
    await office.employ(FIRST)
    await office.handle(office.begun(6))

    unasked = await amends("abandon", "11", *WHY, "--yes")
    asked = await amends("abandon", "11", *WHY, stdin="n\n")
    assert (unasked.returncode, unasked.stdout) == (2, "")
    assert unasked.stderr == (
        "amends: no saga has the key '11'; 11129d8c-cc71-5bba-9c34-5487aa770000 of key '6' begins with its digits: "
        "if that is meant, give 8 digits of its id, or leave --yes out\n"
    )
    assert (asked.returncode, "abandon this saga as" in asked.stderr) == (1, True)
    for typed in ("1-1", "111-29D"):
        assert (await amends("abandon", typed, *WHY, "--yes")).returncode == 2
    assert await office.status_of(6) == "running"
    assert (await amends("abandon", "11129d8c", *WHY, "--yes")).returncode == 0
    assert await office.status_of(6) == "abandoned"


@pytest.mark.parametrize(
    "words",
    [
        ("retry", "{id}", "--step", "dug"),
        ("skip", "{id}", "dug"),
        ("resolve", "{id}", "dug"),
        ("reschedule", "{id}", "dug", "--to", "+2h"),
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_mistyped_step_is_called_one(office: Office, amends: Amends, words: tuple[str, ...]) -> None:
    """Whatever is to be done with it: not that it waits for nothing, but that there is no such step, and which are."""
    await office.employ(FIRST)
    await office.handle(office.begun(1))
    mine = str(saga_id("work", 1))
    ended = await amends(*[mine if word == "{id}" else word for word in words], *WHY, "--yes", "-o", "json")
    (told,) = json.loads(ended.stdout)
    assert (ended.returncode, told["result"]) == (1, "refused")
    assert told["why"] == "work v1 has no step 'dug'; its steps are dig, fill, sign, bill"


async def test_an_answer_that_does_not_fit_its_contract_is_refused(office: Office, amends: Amends) -> None:
    """The line says which field."""
    await office.employ(FIRST)
    await office.handle(office.begun(1))
    ended = await amends("cancel", str(saga_id("work", 1)), "--with", '{"id": "seven"}', *WHY)
    assert (ended.returncode, ended.stderr.startswith("amends: --with does not fit its contract: ")) == (1, True)
    assert "id" in ended.stderr


async def test_a_database_that_is_away_is_said(amends: Amends) -> None:
    """69, as everywhere."""
    ended = await amends("retry", "--all-stuck", *WHY, DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert ended.returncode == 69
    assert "does not answer" in ended.stderr
