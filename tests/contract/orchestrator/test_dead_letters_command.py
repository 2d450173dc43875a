"""`amends dead-letters` on both databases: in the orchestrator's, which has everybody's, and in a service's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.engine import Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from typer.testing import CliRunner, Result

from contracts.message import Message
from contracts.money import Money
from contracts.order import OrderCanceled
from contracts.payment import AuthorizePayment, PaymentFailed
from messaging import dead_letters, migrate, schema
from messaging.clock import SystemClock
from messaging.database import Database
from messaging.dead_letters import DeadLetter, letter_id
from messaging.envelope import CONTENT_TYPE, Envelope, encode
from orchestrator import letter_decisions, letters
from orchestrator.assembly import MIGRATIONS
from orchestrator.cli.app import app
from orchestrator.dead_letters import Collector
from orchestrator.letter_decisions import Outcome
from orchestrator.letters import Criteria, Decision, State
from orchestrator.saga.state import saga_id
from orchestrator.schema import collected_letter, saga
from tests.contract.messaging.bench import statements
from tests.contract.orchestrator.letters import announced, collected, dead_letter
from tests.contract.orchestrator.office import Office

SAGA = saga_id("fulfill_order", "A-1")
ORDER = UUID(int=4)
COMMAND, EVENT, OLD, GARBAGE, LARGE = (UUID(int=number) for number in (11, 12, 13, 14, 15))


def _died(
    message: Message, id: UUID, *, queue: str, minutes: float, saga_id: str | None = None, **more: Any
) -> DeadLetter:
    service, now = queue.partition(".")[0], SystemClock().now()
    envelope = Envelope(id, message.wire_type, 1, "tester", now, saga_id, key=message.ordering_key)
    given: dict[str, Any] = {
        "letter": letter_id(str(id), service),
        "at": now - timedelta(minutes=minutes),
        "service": service,
        "queue": queue,
        "type": message.wire_type,
        "routing_key": message.wire_type,
        "message_id": str(id),
        "correlation_id": saga_id,
        "properties": json.dumps({"content_type": CONTENT_TYPE}),
        "body": encode(envelope, message).encode(),
    }
    return dead_letter(**given | more)


def _letters() -> list[DeadLetter]:
    money = Money(amount=1200, currency="USD")
    authorize = AuthorizePayment(order_id=ORDER, customer_id="c-1", amount=money)
    return [
        _died(authorize, COMMAND, queue="payment.commands", minutes=10, saga_id=str(SAGA)),
        _died(PaymentFailed(order_id=ORDER, reason="x"), EVENT, queue="order.events", minutes=20),
        _died(
            PaymentFailed(order_id=ORDER, reason="y"),
            OLD,
            queue="order.events",
            minutes=300,
            reason="retries_exhausted",
        ),
        _died(
            OrderCanceled(order_id=ORDER),
            GARBAGE,
            queue="order.events",
            minutes=30,
            reason="malformed",
            body=b"\xff\x00",
        ),
        _died(
            OrderCanceled(order_id=ORDER),
            LARGE,
            queue="order.events",
            minutes=40,
            type="order.large",
            body=b'{"specversion":"1.0","id":"x","source":"s","type":"order.large","data":"' + b"x" * 70_000 + b'"}',
        ),
    ]


class Post:
    """The command and the database it looks at."""

    def __init__(self, url: str, database: Database) -> None:
        self.url = url
        self.database = database

    async def amends(self, *words: str, typed: str | None = None) -> Result:
        """Run `amends dead-letters …`."""
        environment = {"DATABASE_URL": self.url, "COLUMNS": "140", "AMENDS_SAGAS": "orchestrator.sagas.fulfill_order"}
        return await asyncio.to_thread(CliRunner().invoke, app, ["dead-letters", *words], input=typed, env=environment)

    async def listed(self, *words: str) -> list[int]:
        """Message ids of the listing, as numbers."""
        result = await self.amends("list", "--output", "json", *words)
        assert result.exit_code == 0, result.stderr
        return [UUID(each["message_id"]).int for each in json.loads(result.stdout)]

    async def outbox(self) -> list[Row[Any]]:
        """What is to leave."""
        async with self.database.reading() as connection:
            return list((await connection.execute(select(schema.outbox).order_by(schema.outbox.c.id))).all())

    async def states(self) -> dict[int, str]:
        """The state of every letter by its message's number."""
        async with self.database.reading() as connection:
            rows = (await connection.execute(select(collected_letter.c.message_id, collected_letter.c.state))).all()
        return {UUID(row.message_id).int: row.state for row in rows}


@pytest.fixture
async def post(database_url: str) -> AsyncIterator[Post]:
    """The orchestrator's database with five collected letters and the saga of one of them."""
    database = Database(database_url)
    await migrate.upgrade(database, [migrate.MESSAGING, MIGRATIONS])
    office = Office(database)
    await office.serve(Collector())
    await office.handle(*(announced(office, dead_letters.announcement(each)) for each in _letters()))
    await office.retire()
    async with database.transaction() as connection:
        row = {
            "id": SAGA,
            "name": "fulfill_order",
            "version": 1,
            "key": "A-1",
            "status": "running",
            "step": "authorize_payment",
            "reason": "",
            "data": "{}",
            "progress": '{"steps":{}}',
            "revision": 1,
            "started_at": SystemClock().now(),
            "updated_at": SystemClock().now(),
        }
        await connection.execute(saga.insert(), row)
    yield Post(database_url, database)
    await database.close()


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
    assert "no reader will ever read it (the body is not UTF-8 at byte 0)" in result.stderr
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
    assert f"sent again as {first['id']}" in (await post.amends("show", str(EVENT))).stdout


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
        await dead_letters.bury(connection, [each for each in _letters() if each.service == "order"])
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


async def test_many_letters_are_redriven_page_by_page_and_each_once(post: Post) -> None:
    """More than one transaction takes, with some that cannot be sent between them."""
    office = Office(post.database)
    await office.serve(Collector())
    unreadable: dict[str, Any] = {"body": b"\xff"}
    many = [
        _died(
            PaymentFailed(order_id=ORDER, reason="x"),
            UUID(int=1000 + number),
            queue="order.events",
            minutes=100,
            **(unreadable if number % 50 == 0 else {}),
        )
        for number in range(250)
    ]
    await office.handle(*(announced(office, dead_letters.announcement(each)) for each in many))
    await office.retire()

    result = await post.amends("redrive", "--since", "2h", "--older-than", "80m", "--reason", "mended", "--yes")

    sent = [row.message_id.int for row in await post.outbox()]
    assert sorted(sent) == [1000 + number for number in range(250) if number % 50]
    assert result.exit_code == 1
    assert "and 225 more" in result.stdout
    assert result.stderr.count("no reader will ever read it") == 1


async def _many(post: Post, number: int) -> None:
    """So many letters more, from 1000 on, that failed 100 minutes ago."""
    office = Office(post.database)
    event = PaymentFailed(order_id=ORDER, reason="x")
    await collected(
        office, *(_died(event, UUID(int=1000 + each), queue="order.events", minutes=100) for each in range(number))
    )


def _after_each_commit(monkeypatch: pytest.MonkeyPatch, then: Callable[[Database], Awaitable[None]]) -> None:
    """Let something happen behind every transaction of a command."""
    transaction = Database.transaction

    @asynccontextmanager
    async def followed(self: Database) -> AsyncIterator[AsyncConnection]:
        async with transaction(self) as connection:
            yield connection
        monkeypatch.setattr(Database, "transaction", transaction)
        await then(self)
        monkeypatch.setattr(Database, "transaction", followed)

    monkeypatch.setattr(Database, "transaction", followed)


@pytest.mark.parametrize("name", ["redrive", "discard"])
async def test_a_letter_that_fails_again_meanwhile_is_not_sent_a_second_time(
    post: Post, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Those that were there when the command began, each once; neither one that comes back nor one that is new."""
    await _many(post, 250)
    late = letter_id(str(COMMAND), "payment")
    async with post.database.transaction() as connection:
        await connection.execute(update(collected_letter).where(collected_letter.c.id == late).values(state="handled"))
    pages = 0

    async def fail_again(database: Database) -> None:
        nonlocal pages
        pages += 1
        if pages > 10:
            raise RuntimeError("the command comes to no end")
        again = collected_letter.c.state.in_(("redriven", "discarded", "handled"))
        async with database.transaction() as connection:
            failed = {"state": "open", "at": SystemClock().now() + timedelta(seconds=1)}
            await connection.execute(update(collected_letter).where(again).values(**failed))

    _after_each_commit(monkeypatch, fail_again)
    result = await post.amends(name, "--all", "--reason", "mended", "--yes", "-o", "json")

    outcomes = [UUID(each["letter"]) for each in json.loads(result.stdout)]
    assert (len(outcomes), len(set(outcomes)), late in outcomes) == (254, 254, False), result.exception
    if name == "redrive":
        sent = [row.message_id.int for row in await post.outbox()]
        assert sorted(sent) == [12, 13, *range(1000, 1250)]


class _Deadlock(Exception):
    """As the driver tells of it."""

    sqlstate = "40P01"


async def test_a_page_that_collides_with_somebody_else_is_begun_again(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it was committed, and every letter leaves once."""
    await _many(post, 150)
    decide = letters.decide
    failures = 0

    async def collide(*given: Any) -> None:
        nonlocal failures
        await decide(*given)
        failures += 1
        if failures in (1, 3):
            raise DBAPIError(None, None, _Deadlock("deadlock detected"))

    monkeypatch.setattr(letters, "decide", collide)
    result = await post.amends("redrive", "--type", "payment.failed", "--reason", "mended", "--yes", "-o", "json")

    assert result.exit_code == 0, result.stderr
    assert len(json.loads(result.stdout)) == 152
    assert sorted(row.message_id.int for row in await post.outbox()) == [12, 13, *range(1000, 1150)]


async def test_what_was_done_is_told_when_the_database_goes_away_in_between(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages before are committed, and must be known; the exit code says that the database is away."""
    await _many(post, 150)

    decide = letters.decide
    pages = 0

    async def go_away(*given: Any) -> None:
        nonlocal pages
        pages += 1
        if pages == 2:
            raise DBAPIError(None, None, ConnectionResetError("it has gone"), connection_invalidated=True)
        await decide(*given)

    monkeypatch.setattr(letters, "decide", go_away)
    result = await post.amends("redrive", "--type", "payment.failed", "--reason", "mended", "--yes", "-o", "json")

    assert result.exit_code == 69, result.stderr
    told = [UUID(each["sent_as"]) for each in json.loads(result.stdout)]
    assert ": it has gone; " in result.stderr
    assert told == [row.message_id for row in await post.outbox()]
    assert len(told) == 100


async def test_a_redrive_and_the_collector_wait_for_each_other_in_one_order(postgres_url: str) -> None:
    """Whoever locks letters locks them by id: neither waits for one that the other has while holding what it wants."""
    database = Database(postgres_url)
    await migrate.upgrade(database, [migrate.MESSAGING, MIGRATIONS])
    event = PaymentFailed(order_id=ORDER, reason="x")
    first, second = UUID(int=1), UUID(int=2)
    # By age the other way round than by id.
    await collected(
        Office(database),
        _died(event, UUID(int=11), queue="order.events", minutes=10, letter=first),
        _died(event, UUID(int=12), queue="order.events", minutes=20, letter=second),
    )
    wanted = Criteria(ids=(second, first), states=frozenset({State.OPEN}))
    decision = Decision(State.REDRIVEN, "ann", "mended", SystemClock().now())
    found: list[Outcome] = []
    async with database.transaction() as collecting:
        row = collected_letter.c.id
        await collecting.execute(select(row).where(row == first).with_for_update())
        redriving = asyncio.create_task(letter_decisions.redrive(database, wanted, decision, found, dry_run=False))
        async with database.reading() as looking:
            await _somebody_waits(looking)
        await collecting.execute(select(row).where(row == second).with_for_update(nowait=True))
    await redriving
    await database.close()

    assert [each.sent_as for each in found] == [UUID(int=12), UUID(int=11)]


async def _somebody_waits(connection: AsyncConnection) -> None:
    """Until some other session waits for a row."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    async with asyncio.timeout(20):
        while not (await connection.execute(waiting)).scalar_one():  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.01)
