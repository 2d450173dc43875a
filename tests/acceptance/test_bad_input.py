"""Whatever is wrong with what a command is given: one clear line on stderr, nothing on stdout, the right exit code."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from messaging import migrate
from messaging.database import Database
from orchestrator import versions
from orchestrator.assembly import MIGRATIONS
from orchestrator.cli.app import app
from tests import laying
from tests.acceptance.night import Night

UNKNOWN = "amends: no saga has the id or the key 'shoe'; `amends list` shows what there is\n"
AMBIGUOUS = (
    "amends: '6' fits more than one saga (671c67b0-81f8-5ffc-bed4-27303a823761, 6b815435-dd23-5d4e-a50e-a23145cfbab9); "
    "give more of it\n"
)
CUT = "amends: cut.json ends in the middle, in line 13: it was cut off; export the saga again\n"
EDITED = (
    "amends: edited.json was changed after it was exported: its checksum does not fit what it says; if that was on "
    "purpose, say so with `amends seal edited.json`, otherwise export the saga again\n"
)
NEWER = (
    "amends: newer.json has bundle format 9, made by Amends 0.1.0; this one reads formats up to 1: use that Amends, or "
    "export the saga with this one\n"
)
ODD = 'amends: odd.json is JSON, but no bundle: its "format" is not "amends.bundle"; `amends export` makes one\n'
BYTES = "amends: bytes.json is no text: byte 0 is not UTF-8; name a bundle's file\n"
MISSING = "amends: none.json cannot be read: No such file or directory\n"
A_FILE = "amends: {} names a file, and this looks in the database: give the id or the key of the saga in it\n"
NO_DATABASE = "amends: sqlite:///none.db does not exist; set DATABASE_URL, or run `amends migrate` to make it\n"
AWAY = (
    "amends: postgresql://ann:***@127.0.0.1:1/amends does not answer: [Errno 111] Connect call failed "
    "('127.0.0.1', 1); start it, or set DATABASE_URL\n"
)
NOT_A_DATABASE = "amends: sqlite:///odd.json is no SQLite database; set DATABASE_URL to one\n"

STEPS = "place_order, authorize_payment, confirm_order, capture_payment"
ORDER = (
    '{"order_id": "01a21355-44f7-7dab-a97e-7b8251f58b12", "customer_id": "ann", "items": 1, '
    '"total": {"amount": 1, "currency": "USD"}}'
)
ID_OR_FILE = ("show {}", "replay {}", "replay {} --interactive", "replay {} --pdb 1", "fork {} --at 1", "export {}")
ID_ONLY = (
    "why {}",
    "watch {} --for 1s",
    "retry {} --reason why",
    "skip {} authorize_payment --reason why",
    "resolve {} authorize_payment --evidence why",
    "compensate {} --reason why",
    "cancel {} --reason why",
    "abandon {} --reason why --yes",
    "abandon {} --reason why --dry-run",
    "reschedule {} authorize_payment --to +1h --reason why",
    "dead-letters list --saga {}",
    "dead-letters redrive --saga {} --reason why",
    "dead-letters discard --saga {} --reason why",
)
EVERYTHING = (
    "list",
    "stats",
    "preflight",
    "preflight --accept",
    "replay --all",
    "reindex",
    "prune --older-than 30d --dry-run",
    "parked list",
    "outbox list",
    "deferred list",
    "dead-letters list",
    "dead-letters show 3fa8",
    "dead-letters redrive 3fa8 --reason why",
    "retry --all-stuck --reason why",
    f"start fulfill_order '{ORDER}' --yes",
)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the database of one night, and with bundles that somebody has mishandled."""
    folder = tmp_path_factory.mktemp("night")
    asyncio.run(_night(f"sqlite:///{folder / 'amends.db'}"))
    sagas = {"DATABASE_URL": f"sqlite:///{folder / 'amends.db'}"}
    good = CliRunner().invoke(app, ["export", "9d28"], env=sagas, prog_name="amends").stdout
    (folder / "good.json").write_text(good, "utf-8")
    (folder / "cut.json").write_text(good[:300], "utf-8")
    (folder / "edited.json").write_text(good.replace("out_of_stock", "sold_out"), "utf-8")
    (folder / "newer.json").write_text(good.replace('"format_version": 1', '"format_version": 9'), "utf-8")
    (folder / "odd.json").write_text('{"order": 1}', "utf-8")
    (folder / "bytes.json").write_bytes(b"\xff\xfe\x00")
    (folder / "empty.db").touch()
    return folder


async def _night(url: str) -> None:
    database = Database(url)
    await laying.migrated(database, [migrate.MESSAGING, MIGRATIONS])
    night = Night(database)
    try:
        await night.begin()
        await versions.check(database, night.catalog, (), night.clock.now())
        await night.get_stuck()
    finally:
        await night.close()


@pytest.fixture
def here(places: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In that folder, with the settings that name its database."""
    monkeypatch.chdir(places)
    for name in ("AMENDS_SAGAS", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", "sqlite:///amends.db")
    monkeypatch.setenv("AMQP_URL", "memory://")
    yield
    monkeypatch.undo()


def _typed(line: str) -> Result:
    return CliRunner().invoke(app, shlex.split(line), prog_name="amends")


def _refused(line: str, complaint: str, code: int) -> None:
    ended = _typed(line)
    assert (ended.exit_code, ended.stdout) == (code, ""), (line, ended.output)
    assert ended.stderr == complaint, line
    assert isinstance(ended.exception, SystemExit), (line, ended.exception)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", [*ID_OR_FILE, *ID_ONLY])
@pytest.mark.parametrize(("wanted", "complaint"), [("shoe", UNKNOWN), ("6", AMBIGUOUS)])
def test_an_id_that_is_none_or_not_one(command: str, wanted: str, complaint: str) -> None:
    """Every command that takes an id says that nothing, or more than one, goes by it."""
    _refused(command.format(wanted), complaint, 1)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", [*ID_OR_FILE, "seal {}"])
@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        ("cut.json", CUT),
        ("edited.json", EDITED),
        ("newer.json", NEWER),
        ("odd.json", ODD),
        ("bytes.json", BYTES),
        ("none.json", MISSING),
    ],
)
def test_a_file_that_is_no_bundle_any_more(command: str, file: str, complaint: str) -> None:
    """Every command that takes a file says what is wrong with it; but an edited one is what `seal` is for."""
    if (command, file) != ("seal {}", "edited.json"):
        _refused(command.format(file), complaint, 1)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", [each for each in ID_ONLY if "--saga" not in each])
@pytest.mark.parametrize("file", ["good.json", "none.json"])
def test_a_file_where_only_an_id_will_do(command: str, file: str) -> None:
    """What looks at the broker or changes something is about the saga in the database, and says so."""
    _refused(command.format(file), A_FILE.format(file), 1)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", [*(each.format("9d28") for each in (*ID_OR_FILE, *ID_ONLY)), *EVERYTHING])
def test_no_database(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not there, a server that is away, tables that are missing, bytes that are something else."""
    monkeypatch.setenv("DATABASE_URL", "sqlite:///none.db")
    _refused(command, NO_DATABASE, 69)
    monkeypatch.setenv("DATABASE_URL", "postgresql://ann:secret@127.0.0.1:1/amends")
    _refused(command, AWAY, 69)
    monkeypatch.setenv("DATABASE_URL", "sqlite:///odd.json")
    _refused(command, NOT_A_DATABASE, 78)
    monkeypatch.setenv("DATABASE_URL", "sqlite:///empty.db")
    ended = _typed(command)
    assert (ended.exit_code, ended.stdout, ended.stderr.count("\n")) == (78, "", 1), ended.output
    assert "run `amends migrate` first" in ended.stderr


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", ID_OR_FILE)
def test_a_bundle_needs_no_database(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good one is taken where none is to be had."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://ann:secret@127.0.0.1:1/amends")
    ended = _typed(command.format("good.json"))
    assert (ended.exit_code, ended.stderr.replace("decided: applied, 2 facts\n", "")) == (0, "")
    assert ended.stdout


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("line", "complaint", "code"),
    [
        ("replay", "name one saga (its id, its key or a bundle's file), or all of them: --all", 2),
        ("replay 9d28 --all", "name one saga (its id, its key or a bundle's file), or all of them: --all", 2),
        ("replay 9d28 --saga x", "--saga, --status and --since choose among --all", 2),
        ("replay --all -i", "--interactive and --pdb go through one saga: name it", 2),
        ("replay 9d28 --pdb 99", "there is no transition 99; the history has 1 to 13", 1),
        ("replay --all --saga nope", "there is no saga 'nope'; AMENDS_SAGAS loads fulfill_order", 1),
        ("show 9d28 --mermaid --output json", "--mermaid is text; leave out --output json", 2),
        ("fork 9d28 --at 99", "--at 99: the history has transitions 1 to 13 (0: before the first)", 1),
        ("fork 9d28 --at 1 --edit 3 nonsense", "--edit 3 nonsense: write FIELD=VALUE", 2),
        ("fork 9d28 --at 3 --inject payment.voided @none", "none cannot be read: No such file or directory", 2),
        (
            "fork 9d28 --at 3 --timeout nostep",
            "--timeout nostep: it has no deadline after transition 3; it waits for authorize_payment there",
            1,
        ),
        ("export 9d28 -o none/x.json", "none/x.json cannot be written: No such file or directory", 1),
        ("export 9d28 -o odd.json", "odd.json is there already; give another -o, or --force to write over it", 1),
        ("export 9d28 --as-test -o x.txt", "a test is a Python file: -o x.py", 2),
        ("skip 9d28 --reason why", "name the step: behind the saga's id, or of many with --step", 2),
        (
            "skip 9d28 nostep --with {} --reason why",
            f"fulfill_order v1 has no step 'nostep'; its steps are {STEPS}",
            1,
        ),
        (
            "skip 9d28 confirm_order --with {} --reason why",
            "--with does not fit its contract: order.confirmed v1: order_id: Field required",
            1,
        ),
        ("skip 9d28 confirm_order --with @none --reason why", "none cannot be read: No such file or directory", 2),
        ("retry --reason why", "name one saga by its id or key, or say --all-stuck", 2),
        ("retry 9d28 --reason ' '", "say why: the reason is kept in the history", 2),
        (
            "retry 9d28 --all-stuck --reason why",
            "--all-stuck means many: leave the id out, and name a step with --step",
            2,
        ),
        ("retry 9d28 --saga x --reason why", "--saga narrows --all-stuck; one saga is named by its id or key alone", 2),
        (
            "retry --all-stuck --saga fullfil_order --reason why",
            "there is no saga 'fullfil_order'; AMENDS_SAGAS loads fulfill_order",
            1,
        ),
        (
            "compensate 9d28 --step authorize_payment --reason why",
            "--step narrows --all-stuck; this is about the whole saga",
            2,
        ),
        ("reschedule 9d28 authorize_payment --reason why", "say --to MOMENT or --revoke; one of both", 2),
        (
            "reschedule 9d28 authorize_payment --to noon --reason why",
            "--to 'noon': write +90s, +15m, +2h, +3d, or a moment like 2026-01-31T12:00:00+00:00",
            2,
        ),
        (
            "migrate-instances 9d28 --saga fulfill_order --from 1 --to 2 --reason why",
            "no definition of fulfill_order v2 is loaded; AMENDS_SAGAS loads fulfill_order v1",
            1,
        ),
        (
            "preflight --since noon",
            "--since 'noon': write 90s, 15m, 2h, 3d, or a moment like 2026-01-31T12:00:00+00:00",
            2,
        ),
        ("watch --for noon", "--for 'noon': write 90s, 15m, 2h or 30d", 2),
        ("list --where customer_id", "--where 'customer_id': write NAME=VALUE, like customer_id=42", 2),
        (
            "dead-letters show shoe",
            "no dead letter has the id 'shoe'; `amends dead-letters list --state all` shows them",
            1,
        ),
        (
            "dead-letters redrive",
            "say which: ids, filters, or --all; `amends dead-letters redrive --help` shows them",
            2,
        ),
        ("start nope {}", "there is no saga 'nope'; AMENDS_SAGAS loads fulfill_order", 1),
    ],
)
def test_what_cannot_be_meant(line: str, complaint: str, code: int) -> None:
    """Options that contradict each other, places that are not there, moments that are none."""
    _refused(line, f"amends: {complaint}\n", code)


@pytest.mark.usefixtures("here")
def test_a_definition_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that cannot be loaded is bad configuration, for every command that needs definitions."""
    monkeypatch.setenv("AMENDS_SAGAS", "shop.nowhere")
    for command in ("why {}", "replay {}", "fork {} --at 1", "export {}", "retry {} --reason why"):
        ended = _typed(command.format("9d28"))
        assert (ended.exit_code, ended.stdout, ended.stderr.count("\n")) == (78, "", 1), ended.output
        assert "shop.nowhere" in ended.stderr


@pytest.mark.usefixtures("here")
def test_an_edited_bundle_is_sealed_into_another_file(places: Path) -> None:
    """The edited one stays as it is, and a file that is there is written over only with --force."""
    before = (places / "edited.json").read_text("utf-8")
    assert _typed("seal edited.json --output-file sealed.json").exit_code == 0
    assert _typed("replay edited.json").exit_code == 1
    assert (places / "edited.json").read_text("utf-8") == before
    assert _typed("show sealed.json").exit_code == 0
    there = "amends: sealed.json is there already; give another -o, or --force to write over it\n"
    _refused("seal edited.json -o sealed.json", there, 1)
    assert _typed("seal edited.json -o sealed.json --force").exit_code == 0


FOR_PROGRAMS = (
    "list",
    "show 9d28",
    "why 9d28",
    "watch --for 1s",
    "watch 9d28 --for 1s",
    "stats",
    "replay 9d28",
    "replay --all",
    "replay good.json",
    "fork 9d28 --at 1",
    "preflight",
    "reindex",
    "config show",
    "prune --older-than 30d --dry-run",
    "parked list",
    "outbox list",
    "deferred list",
    "dead-letters list",
    "dead-letters redrive --all --reason why --dry-run",
    "dead-letters discard --all --reason why --dry-run",
    "retry 9d28 --reason why --dry-run",
    "retry --all-stuck --reason why --dry-run",
    "resolve 9d28 authorize_payment --evidence why --dry-run",
    "skip 9d28 authorize_payment --reason why --dry-run",
    "compensate 9d28 --reason why --dry-run",
    "cancel 9d28 --reason why --dry-run",
    "abandon 9d28 --reason why --dry-run",
    "reschedule 9d28 authorize_payment --to +1h --reason why --dry-run",
)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("line", FOR_PROGRAMS)
def test_what_programs_read_is_json(line: str) -> None:
    """Whether it went well (0) or was not possible (1): JSON and nothing else on stdout."""
    ended = _typed(f"{line} --output json")
    assert ended.exit_code in (0, 1), ended.output
    for text in ended.stdout.splitlines() if line.startswith("watch") else [ended.stdout]:
        json.loads(text)
