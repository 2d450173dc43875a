"""Why an instance is where it is, on both databases: a test for every cause, with the sentences it is told in."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from sqlalchemy import update

from contracts.message import Event
from messaging import schema
from messaging.bus import Receipt
from messaging.database import Database
from messaging.dead_letters import DeadLetter, bury
from messaging.envelope import CONTENT_TYPE, Envelope, encode
from messaging.memory import MemoryBroker, MemoryBus
from messaging.topology import Queue, Topology
from orchestrator import Delay, Parallel, Retry, Saga, Start, Wait, days, hours, letters, queries, seconds
from orchestrator.catalog import Catalog
from orchestrator.cli.sentences import sections
from orchestrator.cli.why import picture
from orchestrator.diagnosis import gather
from orchestrator.diagnosis.findings import Diagnosis, NearMiss, NobodyReads, NoQueue
from orchestrator.letters import Decision, State
from orchestrator.saga.inputs import Action
from orchestrator.saga.state import Direction, command_id, saga_id
from tests.contract.messaging.bench import NOON, row, statements
from tests.contract.orchestrator.letters import collected, dead_letter
from tests.contract.orchestrator.office import Office
from tests.unit.work import Done, Refused, Undone, Work, approval, pause, pivot, retriable, step, work_saga


@pytest.fixture(autouse=True)
def greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Moments are told in the reader's own time zone: here UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


async def diagnosis(office: Office, identity: UUID, catalog: Catalog | None = None) -> Diagnosis:
    """What is found out about this instance."""
    async with office.database.reading() as connection:
        row = await queries.find(connection, str(identity))
        return await gather.diagnose(connection, row, catalog or office.catalog, office.clock.now())


async def told(office: Office, number: int) -> dict[str, list[str]]:
    """What is told of saga number so and so: the sentences by their headings."""
    return in_words(await diagnosis(office, saga_id("work", number)))


def in_words(found: Diagnosis) -> dict[str, list[str]]:
    """The sentences of a diagnosis by their headings."""
    return {each.title: list(each.lines) for each in sections(found)}


def offered(told: dict[str, list[str]]) -> list[str]:
    """The commands for a person, by name."""
    return [line.split()[1] for line in told["What you can do"] if line.startswith("amends ")]


async def begin(office: Office, *numbers: int) -> None:
    """Start sagas, and let their commands leave."""
    await office.handle(*(office.begun(number) for number in numbers))
    await office.flush()


async def answered_after(office: Office, *lengths: float) -> None:
    """Sagas whose step `dig` took so long; the time ends at noon."""
    for number, length in enumerate(lengths, 101):
        office.clock.moment = NOON - timedelta(seconds=length)
        await begin(office, number)
        office.clock.advance(length)
        await office.handle(office.answer(number, "dig", Done()))
        await office.flush()


async def until_status(office: Office, number: int, wanted: str) -> None:
    """Let deadlines pass until it has this status."""
    async with asyncio.timeout(30):
        while await office.status_of(number) != wanted:
            office.clock.advance(10)
            await asyncio.sleep(0.005)
    await office.flush()


async def until_revision(office: Office, number: int, wanted: int) -> None:
    """Let deadlines pass until it has moved so often."""
    async with asyncio.timeout(30):
        while (await office.sagas())[str(number)].revision < wanted:
            office.clock.advance(1)
            await asyncio.sleep(0.005)
    await office.flush()


class Ordered(Event, type="letter.ordered", key="order"):
    """Somebody wants a letter."""

    order: str


class Signed(Event, type="letter.signed", key="order"):
    """Somebody has signed it."""

    order: str


class Letter(BaseModel):
    """What the saga knows."""

    model_config = ConfigDict(frozen=True)
    order: str


LETTER: Saga[Letter] = Saga(
    name="letter",
    version=1,
    data=Letter,
    starts_on=Start(Ordered, lambda event: Letter(order=event.order), key=lambda event: event.order),
    steps=(Wait(Signed, key=lambda event: event.order, name="signature"), Delay(days(1), name="dry")),
)


def _never_asked(event: Signed) -> str:
    raise ZeroDivisionError(event.order)


UNHEARD: Saga[Letter] = Saga(
    name="letter",
    version=1,
    data=Letter,
    starts_on=LETTER.starts_on,
    steps=(Wait(Signed, key=_never_asked, name="signature"),),
)


# -- waiting ---------------------------------------------------------------------------------------------------


async def test_waiting_within_the_usual_time(office: Office) -> None:
    """Nothing is wrong, and the usual time of the same step of other instances says so."""
    await office.employ(work_saga(step("dig"), approval(), pivot("sign")))
    await answered_after(office, 1, 2, 3, 4)
    await begin(office, 9)
    office.clock.advance(2.5)

    assert await told(office, 9) == {
        "Most likely": ["Nothing is wrong so far: work has been asked and has not answered yet."],
        "Where it is": [
            "dig waits for work to answer work.do since 2026-03-01 12:00:00, for 2.5 s; sent once of 3.",
            "Usually it takes 2 s (p50) to 4 s (p99), by 4 others: that is longer than half of them took.",
        ],
        "Next": ["At 2026-03-01 12:00:32 work.do is sent again (2 of 3)."],
    }


async def test_overdue_without_a_trace(office: Office) -> None:
    """Longer than usual, nothing is found: the participant itself must be looked at, and a person may act."""
    await office.employ(work_saga(step("dig"), approval(), pivot("sign")))
    await answered_after(office, 1, 2, 3, 4)
    await begin(office, 9)
    office.clock.advance(12)
    mine = saga_id("work", 9)

    assert await told(office, 9) == {
        "Most likely": [
            (
                "work does not answer, and nothing here says why. Look at work itself: its /readyz, its log, "
                "its deferred table."
            )
        ],
        "Where it is": [
            "dig waits for work to answer work.do since 2026-03-01 12:00:00, for 12 s; sent once of 3.",
            "Usually it takes 2 s (p50) to 4 s (p99), by 4 others: that is longer than any of them took.",
        ],
        "Next": ["At 2026-03-01 12:00:32 work.do is sent again (2 of 3)."],
        "What you can do": [
            "# send what is awaited again",
            f"amends retry {mine} --reason '…'",
            "# go on with an answer of yours (work.done, its data as JSON)",
            f"amends skip {mine} dig --with @work.done.json --reason '…'",
            "# say that it was done by hand, and how that is known",
            f"amends resolve {mine} dig --evidence '…'",
            "# go back and undo what was done",
            f"amends compensate {mine} --reason '…'",
            "# end it here, as it is",
            f"amends abandon {mine} --reason '…'",
        ],
    }


async def test_the_last_attempt(office: Office) -> None:
    """After it the step is in doubt; without any answered step there is nothing to compare with."""
    await office.employ(work_saga(step("dig", retry=Retry(attempts=2, backoff=seconds(2))), pivot("sign")))
    await begin(office, 9)
    await until_revision(office, 9, 2)

    found = await told(office, 9)
    assert found["Where it is"][0].endswith("; sent 2 times of 2.")
    assert found["Where it is"][1] == "There is no earlier one of this step to compare with."
    assert found["Next"][0].endswith(" dig is taken to be in doubt, and the saga goes back, beginning with it.")


async def test_an_overdue_pivot(office: Office) -> None:
    """It is sent again for ever, and there is no way back to offer."""
    await office.employ(work_saga(step("dig"), pivot("sign", timeout=seconds(5), retry=Retry(backoff=seconds(1)))))
    await begin(office, 9)
    await office.handle(office.answer(9, "dig", Done()))
    await office.flush()
    await until_revision(office, 9, 4)

    found = await told(office, 9)
    assert "; sent 3 times, and again for ever." in found["Where it is"][0]
    assert found["Next"][0].endswith(" work.do is sent again: there is no way back from here, so until it is answered.")
    assert offered(found) == ["retry", "skip", "resolve", "abandon"]


async def test_a_delay(office: Office) -> None:
    """Time passes: nothing is wrong, and it is told until when."""
    await office.employ(work_saga(step("dig"), pause("cool_off", hours(3)), pivot("sign")))
    await begin(office, 9)
    await office.handle(office.answer(9, "dig", Done()))
    await office.flush()
    office.clock.advance(20 * 60)

    assert await told(office, 9) == {
        "Most likely": ["Nothing is wrong: cool_off lets time pass."],
        "Where it is": ["cool_off has let time pass since 2026-03-01 12:00:00, for 20 min."],
        "Next": ["At 2026-03-01 15:00:00 the saga goes on."],
    }


async def test_a_wait_for_an_approval(office: Office) -> None:
    """The event waited for is named, and what happens when it does not come."""
    await office.employ(work_saga(approval(timeout=hours(1)), step("dig"), pivot("sign")))
    await begin(office, 9)
    office.clock.advance(5)

    assert await told(office, 9) == {
        "Most likely": ["Nothing is wrong that can be seen from here: work.approved has not come yet."],
        "Where it is": [
            "approval waits for work.approved since 2026-03-01 12:00:00, for 5 s.",
            "There is no earlier one of this step to compare with.",
        ],
        "Next": ["At 2026-03-01 13:00:00 the saga stops waiting for work.approved and goes back."],
    }


# -- the outbox ------------------------------------------------------------------------------------------------


async def test_a_command_that_no_queue_is_bound_for(office: Office) -> None:
    """The outbox row and its last error come first."""
    await office.employ(work_saga(step("dig"), pivot("sign")))
    office.bus.says = lambda _message: Receipt.UNROUTABLE
    await office.handle(office.begun(9))
    await office.flush()
    office.clock.advance(20)
    await office.relay.sweep()
    (row,) = await office.rows(schema.outbox)

    assert (await told(office, 9))["Most likely"] == [
        (
            f"work.do has not left the outbox: row {row.id}, 20 s old, 1 attempt, last error: unroutable: no queue is "
            "bound for this routing key; start the service that handles it."
        )
    ]


async def test_a_command_behind_an_older_row_of_its_saga(office: Office) -> None:
    """It is told what it stands behind, and why that does not leave."""
    await office.employ(work_saga(step("dig"), pivot("sign")))
    await office.commit_rows([replace(row(77, str(saga_id("work", 9))), type="work.billed")])
    async with office.database.transaction() as connection:
        await connection.execute(update(schema.outbox).values(attempts=4, last_error="unroutable"))
    await office.handle(office.begun(9))
    office.clock.advance(40)
    first, second = await office.rows(schema.outbox)

    assert (await told(office, 9))["Most likely"] == [
        f"work.billed has not left the outbox: row {first.id}, 40 s old, 4 attempts, last error: unroutable."
    ]
    assert (await told(office, 9))["Also"][0] == (
        f"work.do has not left the outbox: row {second.id}, 40 s old. It stands behind row {first.id}, work.billed "
        "(4 attempts, last error: unroutable): messages of one saga leave in order."
    )


async def test_a_command_that_was_just_written_is_no_trouble(office: Office) -> None:
    """A young row is told of last."""
    await office.employ(work_saga(step("dig"), pivot("sign")))
    await office.handle(office.begun(9))
    office.bus.gate = asyncio.Event()
    office.clock.advance(0.5)

    found = await told(office, 9)
    assert found["Most likely"] == ["work.do was written to the outbox 0.5 s ago and is about to leave."]


# -- a row that cannot be read -----------------------------------------------------------------------------------


class Narrow(Work):
    """What cannot hold what a saga was told."""

    log: Annotated[tuple[str, ...], Field(max_length=0)] = ()


def _narrow() -> Saga[Work]:
    definition = work_saga(step("dig"), pivot("sign"))
    object.__setattr__(definition, "data", Narrow)
    return definition


async def test_a_row_that_cannot_be_read(office: Office) -> None:
    """What is wrong with it comes first, then that the saga stands; no deadline is promised that will not be heeded."""
    await office.employ(work_saga(step("dig"), pivot("sign")))
    await office.handle(office.begun(9), office.answer(9, "dig", Done()))
    await office.flush()
    await office.retire()
    reason = (
        "The state of an instance of Saga('work', version=1) cannot be read: log: Tuple should have at most 0 items "
        "after validation, not 1. Deploy a definition of work v1 that reads it, and then retry; or abandon it."
    )
    stands = ["Nothing happens by itself: what comes for it is parked until a person decides."]
    early = in_words(await diagnosis(office, saga_id("work", 9), Catalog([_narrow()])))
    assert (early["Most likely"], early["Next"], offered(early)) == ([reason], stands, ["abandon"])

    await office.employ(_narrow())
    since = office.clock.now()
    await office.handle(office.answer(9, "sign", Done()))
    found = await told(office, 9)
    moment = f"{since:%Y-%m-%d %H:%M:%S}"
    assert found["Most likely"] == [reason]
    assert found["Also"] == [
        f"It is stuck since {moment} and waits for a person.",
        f"work.done came at {moment} and is parked: the row of its saga cannot be read.",
    ]
    assert found["Next"] == stands
    assert found["Where it is"][0].startswith("sign waits for work to answer work.do since ")
    assert offered(found) == ["abandon"]

    repaired = in_words(await diagnosis(office, saga_id("work", 9), Catalog([work_saga(step("dig"), pivot("sign"))])))
    assert repaired["Most likely"] == [
        (
            f"It is stuck since {moment} and waits for a person: the state of an instance of Saga('work', version=1) "
            "cannot be read: log: Tuple should have at most 0 items after validation, not 1. It can be read here: "
            "deploy this definition, and then retry."
        )
    ]
    assert offered(repaired) == ["retry", "skip", "resolve", "abandon"]


# -- what went astray ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "how"),
    [
        ("ORDER-1234-AB", "different only in upper and lower case"),
        (" order-1234-ab ", "different only in whitespace"),
        ("order1234ab", "different only in dashes"),
        ("ORDER 1234 AB", "different only in case, whitespace and dashes"),
        ("order-1234", "the one a beginning of the other"),
        ("order-1235-ab", "one character different"),
        ("order-1243-ab", "two characters different"),
    ],
)
async def test_a_parked_event_whose_key_almost_matches(office: Office, sent: str, how: str) -> None:
    """The event that was meant is named, with both keys and how they differ."""
    await office.employ(LETTER)
    await office.handle(office.delivery(Ordered(order="order-1234-ab"), correlation_id=None))
    await office.handle(office.delivery(Signed(order=sent), correlation_id=None))
    await office.handle(office.delivery(Signed(order="something else"), correlation_id=None))
    found = in_words(await diagnosis(office, saga_id("letter", "order-1234-ab")))

    assert found["Most likely"] == [
        (
            "letter.signed came at 2026-03-01 12:00:00 and is parked (the saga has not started), meant for this "
            f"saga, it seems: its key is {sent!r}, this saga's is 'order-1234-ab', {how}."
        )
    ]
    assert "Also" not in found


async def test_an_event_for_a_neighbor_is_no_near_miss(office: Office) -> None:
    """A key that is one character away belongs to an instance that exists: it is its own."""
    await office.employ(LETTER)
    await office.handle(
        office.delivery(Ordered(order="10023"), correlation_id=None),
        office.delivery(Ordered(order="10024"), correlation_id=None),
    )
    await office.handle(office.delivery(Signed(order="10024"), correlation_id=None))
    await office.handle(office.delivery(Signed(order="10024"), correlation_id=None))

    found = in_words(await diagnosis(office, saga_id("letter", "10023")))
    assert found["Most likely"] == ["Nothing is wrong that can be seen from here: letter.signed has not come yet."]


async def test_a_parked_answer_that_answers_nothing(office: Office) -> None:
    """An answer with the saga's id that names no command of it is parked here, and told of."""
    await office.employ(work_saga(step("dig"), pivot("sign")))
    await begin(office, 9)
    await office.handle(office.answer(9, "dog", Done()))

    found = await told(office, 9)
    assert found["Most likely"] == [
        "work.done came at 2026-03-01 12:00:00 and is parked: it answers no command of this saga."
    ]


async def test_an_answer_with_a_mistyped_correlation_id(office: Office) -> None:
    """It is parked for a saga that does not exist, whose id is one character away from this one's."""
    await office.employ(work_saga(step("dig"), pivot("sign")))
    await begin(office, 9)
    mine = str(saga_id("work", 9))
    typed = mine[:-1] + ("0" if mine[-1] != "0" else "1")
    envelope = Envelope(
        UUID(int=77), "work.done", 1, "worker", NOON, correlation_id=typed, causation_id=str(UUID(int=5))
    )
    await office.handle(office.raw(encode(envelope, Done()).encode(), content_type=CONTENT_TYPE, message_id="77"))

    assert (await told(office, 9))["Most likely"] == [
        (
            "work.done came at 2026-03-01 12:00:00 and is parked (no saga of this id has been started), meant for this "
            f"saga, it seems: its correlation id is '{typed}', this saga's is '{mine}', one character different."
        )
    ]


async def test_two_steps_at_once(office: Office) -> None:
    """The one that is overdue is the one to look at, wherever it stands."""
    await office.employ(work_saga(Parallel(step("dig"), step("fill")), pivot("sign")))
    for number in (101, 102):
        await begin(office, number)
        await office.handle(office.answer(number, "fill", Done()))
        office.clock.advance(20)
        await office.handle(office.answer(number, "dig", Done()))
        await office.flush()
    await begin(office, 9)
    office.clock.advance(5)

    found = await told(office, 9)
    assert found["Most likely"][0].startswith("work does not answer, and nothing here says why.")
    assert [line.split()[0] for line in found["Where it is"]] == ["dig", "Usually", "fill", "Usually"]
    assert len(found["Next"]) == 2


LOST = UUID("7b1e09c2-5d1f-4b5e-8c53-0a1b2c3d4e5f")


def unread(**changed: Any) -> DeadLetter:
    """A signature that the orchestrator could not read, but for what is changed."""
    plain = dead_letter(
        letter=LOST,
        service="orchestrator",
        queue="orchestrator.events",
        reason="invalid",
        error="letter.signed v1: by: Field required",
        message_id="9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d",
        type="letter.signed",
        correlation_id=None,
        exchange="amends.events",
        routing_key="letter.signed",
        body=b'{"order": "order-1234-ab"}',
    )
    return replace(plain, **changed)


def another(number: int, **changed: Any) -> DeadLetter:
    """Another such letter."""
    return unread(letter_id=UUID(int=number), **changed)


async def decided(office: Office, letter: UUID, state: State) -> None:
    """Ann has decided this about a letter, a minute after noon."""
    decision = Decision(state, "ann", "the digger has a spade again", NOON + timedelta(minutes=1))
    async with office.database.transaction() as connection:
        await letters.decide(connection, letters.COLLECTED, decision, [(letter, None)])


async def test_a_dead_letter_of_the_awaited_type(office: Office) -> None:
    """An event that the orchestrator could not read and that has this saga's key is the likely cause."""
    await office.employ(LETTER)
    await office.handle(office.delivery(Ordered(order="order-1234-ab"), correlation_id=None))
    await collected(
        office,
        unread(),
        another(1, body=b"\xff\xfe"),
        another(2, body=b'{"order": "quite another"}'),
        another(3, body=b'{"order": "order-1234-ab", "note": "%s"}' % (b"\x01" * 11_000)),
        another(4, service="archive", queue="archive.events"),
    )
    found = in_words(await diagnosis(office, saga_id("letter", "order-1234-ab")))

    assert found["Most likely"] == [
        (
            "letter.signed came at 2026-03-01 12:00:00 and is a dead letter (invalid): it has this saga's key, "
            "'order-1234-ab'. See amends dead-letters show 7b1e09c2"
        )
    ]
    assert "Also" not in found


async def test_an_event_too_large_to_be_announced_whole(office: Office) -> None:
    """The orchestrator's own letter lies whole beside the collection, and its key is read there."""
    await office.employ(LETTER)
    await office.handle(office.delivery(Ordered(order="order-1234-ab"), correlation_id=None))
    large = unread(body=b'{"order": "order-1234-ab", "note": "%s"}' % (b"x" * 70_000))
    await collected(office, large)
    async with office.database.transaction() as connection:
        await bury(connection, [large])
    found = in_words(await diagnosis(office, saga_id("letter", "order-1234-ab")))

    assert found["Most likely"][0].endswith("See amends dead-letters show 7b1e09c2")


async def test_an_event_that_the_broker_let_expire(office: Office) -> None:
    """The saga's own key function has never seen it and is not called: the field that orders its type is the key."""
    await office.employ(UNHEARD)
    await office.handle(office.delivery(Ordered(order="order-1234-ab"), correlation_id=None))
    await collected(office, unread(reason="expired", body=office.delivery(Signed(order="order-1234-ac")).body))
    found = await diagnosis(office, saga_id("letter", "order-1234-ab"))

    assert [cause.found for cause in found.causes if isinstance(cause, NearMiss)] == ["order-1234-ac"]


async def _died(office: Office) -> None:
    """The command of saga 9 is a dead letter of the service that should have answered it."""
    await office.employ(work_saga(step("dig"), pivot("sign")))
    await begin(office, 9)
    mine = saga_id("work", 9)
    died = dead_letter(
        letter=LOST,
        service="work",
        queue="work.commands",
        type="work.do",
        correlation_id=str(mine),
        message_id=str(command_id(mine, "dig", Direction.ACTION, 1)),
        error="Traceback\nZeroDivisionError: no spade",
    )
    await collected(office, died, replace(died, letter_id=UUID(int=1), correlation_id="another saga's"))


async def test_a_dead_letter_of_its_own_command(office: Office) -> None:
    """The command itself died, in another service: nobody will answer it."""
    await _died(office)

    found = await told(office, 9)
    assert found["Most likely"] == [
        (
            "The command work.do became a dead letter of work at 2026-03-01 12:00:00 (handler_failed): "
            "ZeroDivisionError: no spade. See amends dead-letters show 7b1e09c2"
        )
    ]
    assert "Also" not in found


async def test_what_a_stranger_wrote_moves_no_cursor(office: Office) -> None:
    """Control characters in a letter's error do not reach the terminal."""
    await office.employ(work_saga(step("dig"), pivot("sign")))
    await begin(office, 9)
    await collected(office, dead_letter(correlation_id=str(saga_id("work", 9)), error="gone\x1b[2Jfor good"))
    shown = io.StringIO()
    picture(await diagnosis(office, saga_id("work", 9)), Console(file=shown, width=200))

    assert "(handler_failed): gone\ufffd[2Jfor good." in shown.getvalue()


async def test_a_dead_letter_that_was_sent_again(office: Office) -> None:
    """It matters until something is heard of it, and it is told who has sent it when."""
    await _died(office)
    await decided(office, LOST, State.REDRIVEN)

    assert (await told(office, 9))["Most likely"] == [
        (
            "The command work.do became a dead letter of work at 2026-03-01 12:00:00 (handler_failed): "
            "ZeroDivisionError: no spade. Sent again by ann at 2026-03-01 12:01:00, and nothing has been heard of it "
            "since. See amends dead-letters show 7b1e09c2"
        )
    ]


async def test_a_dead_letter_that_was_discarded(office: Office) -> None:
    """What somebody is done with is no cause."""
    await _died(office)
    await decided(office, LOST, State.DISCARDED)

    assert (await told(office, 9))["Most likely"] == [
        "Nothing is wrong so far: work has been asked and has not answered yet."
    ]


# -- stuck, ended, unattended ------------------------------------------------------------------------------------


def _told_wrongly(data: Work, _event: Done) -> Work:
    return data.told(str(1 // (data.id - 9)))


async def test_stuck_by_an_exception(office: Office) -> None:
    """The exception, the line of the saga's own code, the parked answer, and what can be done."""
    await office.employ(work_saga(step("dig", on_success=_told_wrongly), pivot("sign")))
    await begin(office, 9)
    await office.handle(office.answer(9, "dig", Done()))
    line = _told_wrongly.__code__.co_firstlineno + 1
    mine = saga_id("work", 9)

    assert await told(office, 9) == {
        "Most likely": [
            (
                "It is stuck since 2026-03-01 12:00:00 and waits for a person: its own code raised, "
                "when work.done came, ZeroDivisionError: integer division or modulo by zero "
                f"({__file__}:{line} in _told_wrongly)."
            )
        ],
        "Also": ["work.done came at 2026-03-01 12:00:00 and is parked: its own code raised."],
        "Where it is": [
            "dig waits for work to answer work.do since 2026-03-01 12:00:00, for no time; sent once of 3.",
            "There is no earlier one of this step to compare with.",
        ],
        "Next": ["Nothing happens by itself: what comes for it is parked until a person decides."],
        "What you can do": [
            "# send what is awaited again",
            f"amends retry {mine} --reason '…'",
            "# go on with an answer of yours (work.done, its data as JSON)",
            f"amends skip {mine} dig --with @work.done.json --reason '…'",
            "# say that it was done by hand, and how that is known",
            f"amends resolve {mine} dig --evidence '…'",
            "# go back and undo what was done",
            f"amends compensate {mine} --reason '…'",
            "# end it here, as it is",
            f"amends abandon {mine} --reason '…'",
        ],
    }


async def test_stuck_in_a_compensation(office: Office) -> None:
    """It was sent as often as it may be; there is nothing to go back to."""
    dig = step("dig", compensation_retry=Retry(attempts=2, backoff=seconds(1)), timeout=seconds(5))
    await office.employ(work_saga(dig, step("fill"), pivot("sign")))
    await begin(office, 9)
    await office.handle(office.answer(9, "dig", Done()))
    await office.handle(office.answer(9, "fill", Refused()))
    await until_status(office, 9, "stuck")
    stuck_at = (await office.sagas())["9"].updated_at.strftime("%Y-%m-%d %H:%M:%S")

    found = await told(office, 9)
    assert found["Most likely"] == [
        (
            f"It is stuck since {stuck_at} and waits for a person: the compensation of dig was sent 2 times and never "
            "answered. It is not sent again by itself."
        )
    ]
    assert offered(found) == ["retry", "resolve", "abandon"]
    assert "answer work.undo, its compensation, since" in found["Where it is"][0]


async def test_stuck_because_its_command_never_left(office: Office) -> None:
    """What has not left the outbox explains it, so that comes first; that it is stuck is told next."""
    dig = step("dig", compensation_retry=Retry(attempts=1, backoff=seconds(1)), timeout=seconds(5))
    await office.employ(work_saga(dig, step("fill"), pivot("sign")))
    await begin(office, 9)
    await office.handle(office.answer(9, "dig", Done()))
    await office.flush()
    office.bus.says = lambda _message: Receipt.UNROUTABLE
    await office.handle(office.answer(9, "fill", Refused()))
    await office.flush()
    await until_status(office, 9, "stuck")
    office.clock.advance(20)
    (row,) = await office.rows(schema.outbox)

    found = await told(office, 9)
    assert found["Most likely"][0].startswith(f"work.undo has not left the outbox: row {row.id}, ")
    assert "waits for a person: the compensation of dig was sent once and never answered." in found["Also"][0]


async def test_the_next_deadline_of_a_compensation(office: Office) -> None:
    """Before the last attempt it is sent again; after it the saga gets stuck."""
    await office.employ(work_saga(step("dig", compensation_retry=Retry(attempts=1)), step("fill"), pivot("sign")))
    await begin(office, 9)
    await office.handle(office.answer(9, "dig", Done()))
    await office.handle(office.answer(9, "fill", Refused()))
    await office.flush()

    assert (await told(office, 9))["Next"] == [
        "At 2026-03-01 12:00:30 the saga gets stuck: the compensation of dig was sent as often as it may be."
    ]


async def test_stuck_by_an_answer_against_its_contract(office: Office) -> None:
    """The answer that was not allowed is named."""
    await office.employ(work_saga(step("dig"), pivot("sign"), retriable("bill")))
    await begin(office, 9)
    for name in ("dig", "sign"):
        await office.handle(office.answer(9, name, Done()))
    await office.handle(office.answer(9, "bill", Refused()))
    await office.flush()

    assert (await told(office, 9))["Most likely"] == [
        (
            "It is stuck since 2026-03-01 12:00:00 and waits for a person: bill was answered with work.refused "
            "(no_time), which its contract does not allow there."
        )
    ]


async def test_ended_and_an_event_that_came_late(office: Office) -> None:
    """How and when it ended, and what came afterwards; nothing is offered."""
    await office.employ(work_saga(step("dig"), step("fill"), pivot("sign")))
    await begin(office, 9)
    office.clock.advance(3)
    await office.handle(office.answer(9, "dig", Done()))
    await office.handle(office.answer(9, "fill", Refused()))
    await office.handle(office.answer(9, "dig", Undone(), direction=Direction.COMPENSATION))
    await office.flush()
    office.clock.advance(60)
    await office.handle(office.answer(9, "fill", Done()))

    assert await told(office, 9) == {
        "How it ended": [
            "It is compensated since 2026-03-01 12:00:03, 3 s after it began: fill was refused: work.refused (no_time)."
        ],
        "Late": ["work.done at 2026-03-01 12:01:03: the saga is compensated."],
    }


async def test_a_deadline_that_nobody_acts_on(office: Office) -> None:
    """An orchestrator that does not run is the first thing to be told."""
    await office.employ(work_saga(step("dig"), pivot("sign")))
    await begin(office, 9)
    await office.retire()
    office.clock.moment = NOON + timedelta(seconds=92)

    found = await told(office, 9)
    assert found["Most likely"] == [
        (
            "Its deadline passed at 2026-03-01 12:00:32, 60 s ago, and nobody has acted on it: no orchestrator "
            "runs that knows this saga, or it cannot reach its database."
        )
    ]
    assert found["Next"] == ["Now, since 2026-03-01 12:00:32 has passed, work.do is sent again (2 of 3)."]


async def test_a_definition_that_is_not_loaded(office: Office) -> None:
    """It is said, and what can be told without it is told."""
    await office.employ(work_saga(step("dig"), pivot("sign")))
    await begin(office, 9)
    looked = await diagnosis(office, saga_id("work", 9), Catalog([LETTER]))
    found = in_words(looked)
    assert [each.action for each in looked.repairs] == [Action.ABANDON]

    assert found["Most likely"] == [
        (
            "work v1 is in no module that AMENDS_SAGAS names here. If the running orchestrator has not got it "
            "either, the saga stands still: load its module again."
        )
    ]
    assert found["Where it is"][0] == (
        "dig waits for work to answer work.do since 2026-03-01 12:00:00, for no time; sent once."
    )


# -- the broker ------------------------------------------------------------------------------------------------


async def test_what_the_queues_say(office: Office) -> None:
    """A queue that is missing and one that nobody reads are causes; one that is read and empty is none."""
    await office.employ(work_saga(step("dig"), pivot("sign")))
    await begin(office, 9)
    found = await diagnosis(office, saga_id("work", 9))
    names = gather.queues(found.awaited)
    assert names == ("work.commands", "orchestrator.events")
    bus = MemoryBus(MemoryBroker(), service="tester")
    await bus.start()
    assert await gather.look(bus, names) == (NoQueue("work.commands"), NoQueue("orchestrator.events"))
    await bus.declare(Topology(exchanges=(), queues=(Queue("work.commands"), Queue("orchestrator.events"))))
    await bus.subscribe("orchestrator.events", prefetch=1, deliver=lambda _delivery: None)
    causes = await gather.look(bus, names)
    await bus.close()

    assert causes == (NobodyReads("work.commands", 0),)
    assert in_words(gather.with_causes(found, causes))["Most likely"] == [
        "Nobody reads the queue work.commands (0 messages in it): start work."
    ]


# -- what it costs -----------------------------------------------------------------------------------------------


async def test_few_queries_whatever_there_is(office: Office) -> None:
    """Finding out takes as many statements with a hundred instances as with one."""
    await office.employ(work_saga(step("dig"), approval(), pivot("sign")))
    await answered_after(office, 1)
    await begin(office, 9)
    # Of its own: the worker looks for what is due through the other.
    database = Database(office.database.url)

    async def look() -> Diagnosis:
        async with database.reading() as connection:
            found = await queries.find(connection, str(saga_id("work", 9)))
            return await gather.diagnose(connection, found, office.catalog, office.clock.now())

    with statements(database) as few:
        await look()
    await answered_after(office, *range(1, 40))
    with statements(database) as many:
        found = await look()
    await database.close()

    assert len(few) == len(many) == 9
    assert found.awaited[0].usual is not None
    assert found.awaited[0].usual.sample == 39
