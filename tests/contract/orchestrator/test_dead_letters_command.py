"""`amends dead-letters` on both databases: in the orchestrator's, which has everybody's, and in a service's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import UUID

import pytest
from typer.testing import CliRunner, Result

from contracts import Sealed
from contracts.money import Money
from contracts.order import OrderCreated
from messaging import dead_letters, migrate
from messaging.database import Database
from messaging.dead_letters import letter_id
from orchestrator import letters
from orchestrator.cli.app import app
from orchestrator.saga.state import saga_id
from tests.contract.messaging.bench import statements
from tests.contract.orchestrator.letters import collected
from tests.contract.orchestrator.office import Office
from tests.contract.orchestrator.post import COMMAND, EVENT, GARBAGE, LARGE, OLD, ORDER, SAGA, Post, died, five_letters
from tests.unit.mailing import Ordered

_FILTERS: list[tuple[Sequence[str], list[int]]] = [
    ((), [11, 12, 14, 15, 13]),
    (("--limit", "2"), [11, 12]),
    (("--service", "payment"), [11]),
    (("--type", "payment.failed"), [12, 13]),
    (("--reason", "retries_exhausted"), [13]),
    (("--died-of", "malformed"), [14]),
    (("--older-than", "1h"), [13]),
    (("--since", "25m"), [11, 12]),
    (("--saga", str(SAGA)), [11]),
    (("--saga", str(SAGA)[:9]), [11]),
    (("--saga", "A-1"), [11]),
    (("--saga", str(UUID(int=99))), []),
    (("--state", "discarded"), []),
    (("--state", "all", "--service", "order", "--since", "1h"), [12, 14, 15]),
]


async def test_letters_are_found_by_every_filter(post: Post) -> None:
    """Newest failure first; filters add up."""
    for words, expected in _FILTERS:
        assert (words, await post.listed(*words)) == (words, expected)


async def test_a_letter_is_shown_whole_with_what_its_saga_is_doing(post: Post) -> None:
    """By the beginning of its id or by its message's id."""
    by_message = await post.amends("show", str(COMMAND))
    by_prefix = await post.amends("show", str(letter_id(str(COMMAND), "payment"))[:8], "--output", "json")

    assert by_message.exit_code == 0
    for words in ("payment.authorize in payment", "handler_failed", "ValueError: no gateway", '"customer_id": "c-1"'):
        assert words in by_message.stdout
    assert "fulfill_order A-1 is running, waiting for authorize_payment" in by_message.stdout
    told = json.loads(by_prefix.stdout)
    assert (told["state"], told["saga"]["status"], told["body"]["json"]["data"]["customer_id"]) == (
        "open",
        "running",
        "c-1",
    )


async def test_a_letter_is_looked_for_by_one_index_at_a_time(post: Post) -> None:
    """An OR over its own id and its message's would read the whole table."""
    with statements(post.database) as sent:
        async with post.database.reading() as connection:
            shelf = await letters.shelf_of(connection)
            sent.clear()
            found = await letters.find(connection, shelf, str(COMMAND).upper())

    assert found.message_id == str(COMMAND)
    assert [each for each in sent if " OR " in each] == []
    assert len([each for each in sent if "ORDER BY collected_letter.at DESC" in each]) == 2


async def test_what_is_no_text_is_shown_all_the_same(post: Post) -> None:
    """Bytes as Python writes them, base64 for programs; of what is not here, where it is."""
    garbage = await post.amends("show", str(GARBAGE))
    assert "b'\\xff\\x00'" in garbage.stdout
    program = await post.amends("show", str(GARBAGE), "--output", "json")
    assert json.loads(program.stdout)["body"] == {"base64": "/wA="}
    large = await post.amends("show", str(LARGE))
    assert "whole only in order's own database: set DATABASE_URL to that" in large.stdout


async def test_redrive_puts_the_same_messages_into_the_outbox_and_marks_the_letters(post: Post) -> None:
    """Oldest first, under their own ids, each to its exchange; what cannot be sent stays open and says why."""
    result = await post.amends("redrive", "--all", "--reason", "mended", "--as", "ann", "--yes")

    assert result.exit_code == 1
    sent = [(row.message_id.int, row.exchange, row.type) for row in await post.outbox()]
    assert sent == [
        (13, "amends.events", "payment.failed"),
        (12, "amends.events", "payment.failed"),
        (11, "amends.commands", "payment.authorize"),
    ]
    assert await post.states() == {11: "redriven", 12: "redriven", 13: "redriven", 14: "open", 15: "open"}
    assert "only order's own database has its 70074 bytes whole" in result.stderr
    assert "no reader will ever read it (not UTF-8 at byte 0 (in the body))" in result.stderr
    shown = await post.amends("show", str(COMMAND))
    assert "redriven; sent again by ann at" in shown.stdout
    assert "mended" in shown.stdout


async def test_a_letter_that_is_not_open_is_left_alone_unless_that_is_said(post: Post) -> None:
    """A second redrive finds nothing; --state redriven sends the same message once more."""
    first = await post.amends("redrive", str(COMMAND), "--reason", "mended", "--yes")
    second = await post.amends("redrive", str(COMMAND), "--reason", "mended", "--yes")
    by_filter = await post.amends("redrive", "--service", "payment", "--reason", "mended", "--yes")
    third = await post.amends("redrive", str(COMMAND), "--state", "redriven", "--reason", "again", "--yes")

    assert [each.exit_code for each in (first, second, by_filter, third)] == [0, 1, 1, 0]
    assert "is redriven (by " in second.stderr
    assert "no open dead letter is like that" in by_filter.stderr
    assert [row.message_id.int for row in await post.outbox()] == [11, 11]


async def test_a_key_that_no_saga_has_is_not_taken_for_an_id_unasked(post: Post) -> None:
    """It may be that of a saga that was pruned; what is written as ids are is one."""
    unasked = await post.amends("discard", "--saga", "D-0", "--reason", "x", "--yes")
    asked = await post.amends("discard", "--saga", "D-0", "--reason", "x", typed="n\n")

    assert (unasked.exit_code, unasked.stdout, asked.exit_code) == (2, "", 1)
    assert unasked.stderr == (
        "amends: no saga has the key 'D-0'; d0e4fcfb-7bfd-5d10-892f-681e21c009ce of key 'A-1' begins with its digits: "
        "if that is meant, give 8 digits of its id, or leave --yes out\n"
    )
    assert set((await post.states()).values()) == {"open"}
    assert (await post.amends("discard", "--saga", "d0e4", "--reason", "x", "--yes")).exit_code == 0


async def test_a_dry_run_and_a_no_change_nothing(post: Post) -> None:
    """What would happen is said; nothing is written."""
    dry = await post.amends("redrive", "--service", "payment", "--dry-run")
    no = await post.amends("redrive", "--service", "payment", "--reason", "x", typed="n\n")
    also = await post.amends("discard", "--all", "--dry-run")

    assert (dry.exit_code, no.exit_code, also.exit_code) == (0, 1, 0)
    assert dry.stdout.startswith("would be redriven ")
    assert "send again, as the messages they were: 1 dead letter\n" in no.stderr
    assert await post.outbox() == []
    assert set((await post.states()).values()) == {"open"}


async def test_discarded_letters_are_kept_with_the_reason(post: Post) -> None:
    """They are not listed as open, and can still be shown, and even sent again."""
    result = await post.amends("discard", "--older-than", "1h", "--reason", "nobody needs it", "--yes", "-o", "json")

    assert [each["problem"] for each in json.loads(result.stdout)] == [None]
    assert await post.listed() == [11, 12, 14, 15]
    assert await post.listed("--state", "discarded") == [13]
    assert "discarded by " in (await post.amends("show", str(OLD))).stdout
    sent = await post.amends("redrive", str(OLD), "--state", "discarded", "--reason", "she does", "--yes")
    assert sent.exit_code == 0
    assert [row.message_id.int for row in await post.outbox()] == [13]


async def test_a_corrected_event_is_sent_as_a_new_message(post: Post, tmp_path: Path) -> None:
    """From a field, or from a file; the letter remembers under which id."""
    file = tmp_path / "right.json"
    file.write_text(json.dumps({"order_id": str(ORDER), "reason": "from file"}))
    by_field = await post.amends("redrive", str(EVENT), "--set", "reason=declined", "--reason", "typo", "--yes")
    by_file = await post.amends("redrive", str(OLD), "--edit", f"@{file}", "--reason", "typo", "--yes", "-o", "json")

    assert (by_field.exit_code, by_file.exit_code) == (0, 0)
    first, second = [json.loads(row.body) for row in await post.outbox()]
    assert (first["data"]["reason"], second["data"]["reason"]) == ("declined", "from file")
    assert (first["causationid"], second["causationid"]) == (str(EVENT), str(OLD))
    assert first["redrives"] == str(letter_id(str(EVENT), "order"))
    assert json.loads(by_file.stdout)[0]["sent_as"] == second["id"] != str(OLD)
    assert "a new message" in by_field.stderr
    assert f"sent again as a new message, {first['id']}," in (await post.amends("show", str(EVENT))).stdout


async def test_what_a_correction_changes_is_seen_before_anybody_says_yes(post: Post) -> None:
    """Each changed field before and after, and in JSON the whole data of both; a dry run sends nothing."""
    words = ("redrive", str(EVENT), "--set", "reason=declined", "--set", "code=5", "--reason", "typo")
    asked = await post.amends(*words, typed="n\n")
    assert asked.exit_code == 1
    assert [line.rstrip() for line in asked.stderr.splitlines()][1:6] == [
        f"  in the place of {EVENT}, dead letter {letter_id(str(EVENT), 'order')}",
        '  - reason: "x"',
        '  + reason: "declined"',
        "  + code: 5",
        "go on? [y/N]:",
    ]
    dry = await post.amends(*words, "--dry-run", "-o", "json")
    (told,) = json.loads(dry.stdout)
    assert told["before"] == {"order_id": str(ORDER), "reason": "x", "detail": ""}
    assert told["after"] == {"order_id": str(ORDER), "reason": "declined", "detail": "", "code": 5}
    assert (told["sagas"], await post.outbox()) == ([], [])


async def test_the_saga_of_a_corrected_event_is_named(post: Post) -> None:
    """By the key that the corrected data has, and whether it is started by it."""
    order = UUID(int=5)
    created = OrderCreated(order_id=order, customer_id="c", total=Money(amount=5, currency="USD"), items=1)
    letter = died(created, UUID(int=16), queue="report.events", minutes=1, saga_id="z")
    await collected(Office(post.database), letter)
    words = ("redrive", str(UUID(int=16)), "--set", "customer_id=d", "--reason", "typo", "--yes")
    sent = await post.amends(*words)
    assert f"  for fulfill_order {order}  {saga_id('fulfill_order', order)}, which it starts" in sent.stderr
    shown = (await post.amends("show", str(UUID(int=16)))).stdout
    assert "z, of which this database knows nothing; the new message may be for another" in shown


async def test_what_is_corrected_is_sealed_where_there_are_keys(post: Post, tmp_path: Path) -> None:
    """All that was typed is sent, what no contract knows too, and what was sealed before stays as it was.

    Who is to say yes sees what was typed, and no id that no message will have; without keys it is said.
    """
    keys = {
        "AMENDS_SAGAS": "tests.unit.mailing",
        "AMENDS_SUBJECT_KEYS": f"sqlite:///{tmp_path / 'keys.db'}",
        "AMENDS_MASTER_KEYS": str(tmp_path / "master.json"),
    }
    await asyncio.to_thread(_make_keys, keys)
    token = Sealed("shop.ordered", "email", key="k" * 22, nonce="n", data="d")
    ordered = Ordered(order_id=UUID(int=5), customer_id="c", email=token, phone="1", greeting="hi")
    await collected(Office(post.database), died(ordered, UUID(int=16), queue="report.events", minutes=1, saga_id="z"))
    words = ("redrive", str(UUID(int=16)), "--reason", "typo", "--set", "phone=+43 1 234", "--set", "loyalty=gold")

    plain = await post.amends(*words, "--dry-run", AMENDS_SAGAS="tests.unit.mailing")
    assert "shop.ordered is written in plain text: AMENDS_SUBJECT_KEYS says with which keys" in plain.stderr
    tried = await post.amends(*words, "--dry-run", "-o", "json", **keys)
    refused = await post.amends(*words, typed="n\n", **keys)
    assert "nobody has made a key for 'c'" in (await asyncio.to_thread(_subjects, keys, "show", "c")).stderr
    sent = await post.amends(*words, "--yes", "-o", "json", **keys)

    assert (tried.exit_code, refused.exit_code, sent.exit_code) == (0, 1, 0), sent.stderr
    (would,) = json.loads(tried.stdout)
    assert (would["sent_as"], would["after"]["phone"], would["after"]["loyalty"]) == (None, "<sealed>", "gold")
    assert "send to every reader of shop.ordered a new message\n" in refused.stderr
    (row,) = await post.outbox()
    said = json.loads(row.body)["data"]
    assert said["email"] == token.token
    assert said["loyalty"] == "gold"
    assert said["phone"].keys() == {"$sealed", "type", "field", "key", "nonce", "data"}
    assert '+ phone: "+43 1 234" (sent sealed)\n  + loyalty: "gold"\n' in sent.stderr
    told = json.loads(sent.stdout)[0]
    assert (told["after"], told["sent_as"]) == (said, json.loads(row.body)["id"])
    assert "+43 1 234" not in row.body + sent.stdout + tried.stdout
    assert " of c was made " in (await asyncio.to_thread(_subjects, keys, "show", "c")).stdout


def _make_keys(environment: dict[str, str]) -> None:
    for words in (("master", "new", environment["AMENDS_MASTER_KEYS"], "--id", "one"), ("migrate",)):
        assert _subjects(environment, *words).exit_code == 0


def _subjects(environment: dict[str, str], *words: str) -> Result:
    return CliRunner().invoke(app, ["subjects", *words], env=environment)


_REFUSED: list[tuple[Sequence[str], int, str]] = [
    (
        ("show", "ffffffff"),
        1,
        "no dead letter has the id 'ffffffff'; `amends dead-letters list --state all` shows them",
    ),
    (("show", "zz"), 1, "no dead letter has the id 'zz'"),
    (("list", "--saga", "nobody"), 1, "no saga has the id or the key 'nobody'"),
    (("list", "--since", "yesterday"), 2, "--since 'yesterday': write 90s, 15m"),
    (("list", "--older-than", "x"), 2, "--older-than 'x': write 90s, 15m"),
    (("redrive",), 2, "say which: ids, filters, or --all; `amends dead-letters redrive --help` shows them"),
    (("redrive", "--all", "--yes"), 2, 'say why: --reason "the handler is mended"'),
    (("redrive", "11", "--all", "--reason", "x"), 2, "give ids, or filters, not both"),
    (("discard", "--type", "order.nothing", "--reason", "x", "--yes"), 1, "no open dead letter is like that"),
    (("redrive", "--all", "--edit", "{}", "--reason", "x"), 2, "--edit and --set are about one open dead letter"),
    (("redrive", str(EVENT), "--edit", "{}", "--set", "a=1", "--reason", "x"), 2, "give --edit or --set, not both"),
    (("redrive", str(EVENT), "--edit", "{", "--reason", "x"), 2, "that is no JSON"),
    (("redrive", str(EVENT), "--edit", "@nowhere", "--reason", "x"), 2, "nowhere cannot be read"),
    (("redrive", str(EVENT), "--edit", "editor", "--reason", "x"), 2, "--edit editor needs a terminal"),
    (("redrive", str(EVENT), "--set", "x", "--reason", "x"), 2, "--set 'x': write FIELD=VALUE"),
    (("redrive", str(EVENT), "--set", "a.b=1", "--reason", "x"), 2, "--set a.b: a is no object in this message"),
    (("redrive", str(EVENT), "--set", "order_id=7", "--reason", "x", "--yes"), 1, "it would not fit its contract"),
    (("redrive", str(COMMAND), "--set", "customer_id=x", "--reason", "x"), 1, "a command cannot be edited"),
    (("redrive", str(LARGE), "--set", "a=1", "--reason", "x"), 1, "only order's own database has"),
]


@pytest.mark.parametrize(("words", "code", "said"), _REFUSED, ids=[" ".join(words) for words, _, _ in _REFUSED])
async def test_what_cannot_be_done_is_said_in_one_line(post: Post, words: Sequence[str], code: int, said: str) -> None:
    """The right exit code, nothing on stdout, nothing sent."""
    result = await post.amends(*words)

    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert await post.outbox() == []


@pytest.fixture
async def branch(database_url: str) -> AsyncIterator[Post]:
    """A service's own database with its own letters."""
    database = Database(database_url)
    await migrate.upgrade(database, [migrate.MESSAGING])
    async with database.transaction() as connection:
        await dead_letters.bury(connection, [each for each in five_letters() if each.service == "order"])
    yield Post(database_url, database)
    await database.close()


async def test_a_services_own_database_is_asked_the_same_way(branch: Post) -> None:
    """Whole bodies, the same filters, the same decisions; sent through its own outbox."""
    assert await branch.listed() == [12, 14, 15, 13]
    assert await branch.listed("--type", "payment.failed", "--since", "1h") == [12]
    shown = await branch.amends("show", str(EVENT))
    assert "payment.failed in order" in shown.stdout

    sent = await branch.amends("redrive", "--type", "payment.failed", "--reason", "mended", "--yes")
    gone = await branch.amends("discard", str(GARBAGE), "--reason", "garbage", "--as", "ann", "--yes")

    assert (sent.exit_code, gone.exit_code) == (0, 0), sent.stderr
    assert [row.message_id.int for row in await branch.outbox()] == [13, 12]
    assert await branch.listed() == [15]
    assert "discarded by ann at" in (await branch.amends("show", str(GARBAGE))).stdout


async def test_what_is_too_large_to_be_announced_is_sent_from_its_own_database(branch: Post) -> None:
    """There it lies whole."""
    result = await branch.amends("redrive", str(LARGE), "--reason", "mended", "--yes")

    assert result.exit_code == 0, result.stderr
    (row,) = await branch.outbox()
    assert len(row.body) > 70_000


async def test_a_database_without_letters_is_bad_configuration(database_url: str) -> None:
    """No table of ours in it; with a SQLite file that is not there, it is not available."""
    database = Database(database_url)
    await database.ping()
    result = await Post(database_url, database).amends("list")
    await database.close()

    assert (result.exit_code, result.stdout) == (78, "")
    assert "neither the orchestrator's tables nor a service's; run `amends migrate` first" in result.stderr
