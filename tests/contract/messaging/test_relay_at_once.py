"""Committed rows are written at once where nothing stands before them; what the broker says of them is heard later."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from messaging import schema
from messaging.bus import Receipt
from messaging.outbox_rows import Pending
from messaging.transaction import KeptConnection
from messaging.work import Work
from tests.contract.messaging.bench import Bench, append_rows, numbers, row
from tests.contract.messaging.parcels import Pack, done, packer


@pytest.fixture
def prompt(bench: Bench) -> Bench:
    """On a bus that writes when it is told to send now, and waits for the gate before it answers."""
    bench.bus.prompt, bench.bus.gate = True, asyncio.Event()
    return bench


def _gate(bench: Bench) -> asyncio.Event:
    assert bench.bus.gate is not None
    return bench.bus.gate


async def _left(bench: Bench) -> list[int]:
    return sorted(each.message_id.int for each in await bench.rows(schema.outbox))


async def test_rows_are_on_the_wire_before_offer_returns(prompt: Bench) -> None:
    """They stay rows until the broker has confirmed them, and leave then as all do."""
    pending = await append_rows(prompt, row(1, "a"), row(2, "b"), row(3))
    assert prompt.relay.offer(pending)
    assert numbers(prompt.bus.published) == [1, 2, 3]
    assert prompt.relay.confirmed == set()
    assert await _left(prompt) == [1, 2, 3]
    _gate(prompt).set()
    await prompt.flush()
    assert await _left(prompt) == []
    assert prompt.relay.on_their_way == set()
    assert numbers(prompt.bus.published) == [1, 2, 3]


async def test_the_relays_own_task_hears_what_the_broker_says(prompt: Bench) -> None:
    """Nobody has to offer anything else for it."""
    running = asyncio.create_task(prompt.relay.run())
    pending = await append_rows(prompt, row(1, "a"))
    assert prompt.relay.offer(pending)
    _gate(prompt).set()
    await prompt.until(lambda: prompt.relay.confirmed == {pending[0].id}, "it is confirmed")
    prompt.relay.stop()
    async with asyncio.timeout(30):
        while not running.done():
            prompt.clock.advance(60)
            await asyncio.sleep(0)
    await running


async def test_a_relay_is_not_flushed_before_its_own_task_has_heard(prompt: Bench) -> None:
    """What has been confirmed by then is deleted, and not sent again by whoever starts next."""
    running = asyncio.create_task(prompt.relay.run())
    assert prompt.relay.offer(await append_rows(prompt, row(1, "a")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    flushing = asyncio.create_task(prompt.relay.flush())
    await asyncio.sleep(0)
    assert not flushing.done()
    _gate(prompt).set()
    await flushing
    assert await _left(prompt) == []
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("receipt", [Receipt.UNKNOWN, Receipt.UNROUTABLE])
async def test_what_is_not_confirmed_is_swept(prompt: Bench, receipt: Receipt) -> None:
    """And what follows it with its key waits behind it."""
    _gate(prompt).set()
    prompt.bus.says = lambda _message: receipt
    (first,) = await append_rows(prompt, row(1, "a"))
    assert prompt.relay.offer([first])
    await prompt.flush()
    prompt.bus.says = lambda _message: Receipt.CONFIRMED
    (second,) = await append_rows(prompt, row(2, "b"))
    behind = Pending(second.id, second.row, frozenset({first.id}), checked=True)
    assert not prompt.relay.offer([behind])
    await prompt.flush()
    assert numbers(prompt.bus.published) == [1]
    prompt.clock.advance(10)
    await prompt.relay.sweep()
    await prompt.relay.sweep()
    assert sorted(numbers(prompt.bus.published)) == [1, 1, 2]
    assert await _left(prompt) == []


async def test_who_comes_while_something_is_unanswered_waits_for_it(prompt: Bench) -> None:
    """So a row never passes an older one of its key, whatever becomes of that."""
    first = await append_rows(prompt, row(1, "a"))
    assert prompt.relay.offer(first)
    second = await append_rows(prompt, row(2, "a"), row(3, "b"))
    assert [each.after for each in second] == [{first[0].id}, set()]
    assert not prompt.relay.offer(second)
    flushing = asyncio.create_task(prompt.flush())
    await asyncio.sleep(0)
    assert not prompt.relay.offer(await append_rows(prompt, row(4, "c")))
    assert numbers(prompt.bus.published) == [1]
    _gate(prompt).set()
    await flushing
    assert numbers(prompt.bus.published) == [1, 2, 3, 4]
    assert await _left(prompt) == []


async def test_nothing_passes_what_is_unanswered(prompt: Bench) -> None:
    """Also rows of another key, and whether the relay listens to the broker already or not."""
    one, two, three = await append_rows(prompt, row(1, "a"), row(2, "b"), row(3, "c"))
    assert prompt.relay.offer([one])
    assert not prompt.relay.offer([two])
    assert numbers(prompt.bus.published) == [1]
    _gate(prompt).set()
    await prompt.flush()
    _gate(prompt).clear()
    assert prompt.relay.offer([three])
    flushing = asyncio.create_task(prompt.flush())
    await asyncio.sleep(0)
    assert not prompt.relay.offer(await append_rows(prompt, row(4, "d")))
    assert numbers(prompt.bus.published) == [1, 2, 3]
    _gate(prompt).set()
    await flushing
    assert numbers(prompt.bus.published) == [1, 2, 3, 4]
    assert await _left(prompt) == []


async def test_nothing_passes_what_was_offered_before(prompt: Bench) -> None:
    """Whoever waits for the relay's task leaves first."""
    _gate(prompt).set()
    assert not prompt.relay.offer(await append_rows(prompt, row(1, "a"), row(2, "a")))
    assert not prompt.relay.offer(await append_rows(prompt, row(3, "b")))
    assert prompt.bus.published == []
    await prompt.flush()
    assert numbers(prompt.bus.published) == [1, 3, 2]


async def test_nothing_passes_what_the_relay_has_taken(prompt: Bench) -> None:
    """It is in no list any more while the broker has it."""
    assert not prompt.relay.offer(await append_rows(prompt, row(1, "a"), row(2, "a")))
    flushing = asyncio.create_task(prompt.flush())
    await prompt.until(lambda: numbers(prompt.bus.published) == [1], "the first of two is sent")
    assert not prompt.relay.offer(await append_rows(prompt, row(3, "b")))
    assert numbers(prompt.bus.published) == [1]
    _gate(prompt).set()
    await flushing
    assert numbers(prompt.bus.published) == [1, 2, 3]


async def test_nothing_passes_what_a_sweeper_sends(prompt: Bench) -> None:
    """It has its turn; then the relay's own task has its."""
    await prompt.commit_rows([row(1, "a")], available_in=0)
    sweeping = asyncio.create_task(prompt.relay.sweep())
    await prompt.until(lambda: numbers(prompt.bus.published) == [1], "it is being swept")
    async with prompt.relay._turn:
        assert not prompt.relay.offer(await append_rows(prompt, row(2, "b")))
    assert numbers(prompt.bus.published) == [1]
    _gate(prompt).set()
    await sweeping
    await prompt.flush()
    assert numbers(prompt.bus.published) == [1, 2]


async def test_nothing_passes_what_waits_for_a_row_that_is_about_to_be_committed(prompt: Bench) -> None:
    """What follows it has been offered before, and is behind it."""
    _gate(prompt).set()
    first, second, third = await append_rows(prompt, row(1, "a"), row(2, "a"), row(3, "b"))
    prompt.relay.expect([first])
    assert not prompt.relay.offer([Pending(second.id, second.row, frozenset({first.id}), checked=True)])
    await prompt.flush()
    assert not prompt.relay.offer([third])
    assert not prompt.relay.offer([first])
    await prompt.flush()
    assert numbers(prompt.bus.published) == [1, 3, 2]


async def test_a_relay_that_ends_before_the_broker_has_answered_has_nothing_on_its_way(prompt: Bench) -> None:
    """What was written is a row still; whoever sweeps next sends it once more."""
    assert prompt.relay.offer(await append_rows(prompt, row(1, "a")))
    flushing = asyncio.create_task(prompt.flush())
    await asyncio.sleep(0)
    flushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flushing
    assert prompt.relay.on_their_way == set()
    assert await _left(prompt) == [1]
    _gate(prompt).set()
    prompt.clock.advance(10)
    assert await prompt.relay.sweep() == 1
    assert numbers(prompt.bus.published) == [1, 1]


async def test_a_sweeper_passes_over_what_is_unanswered_and_what_follows_it(prompt: Bench) -> None:
    """However long the broker takes, and whoever has written the younger row; other keys need not wait."""
    (first,) = await append_rows(prompt, row(1, "a"))
    assert prompt.relay.offer([first])
    await prompt.commit_rows([row(2, "a"), row(3, "b")], available_in=0)
    prompt.clock.advance(60)
    sweeping = asyncio.create_task(prompt.relay.sweep())
    await prompt.until(lambda: len(prompt.bus.published) > 1, "the other key is swept")
    assert numbers(prompt.bus.published) == [1, 3]
    _gate(prompt).set()
    await sweeping
    await prompt.flush()
    prompt.clock.advance(60)
    await prompt.relay.sweep()
    await prompt.relay.forget_confirmed()
    assert numbers(prompt.bus.published) == [1, 3, 2]
    assert await _left(prompt) == []


async def test_one_after_another_of_a_key_is_not_written_at_once(prompt: Bench) -> None:
    """The second leaves when the first has been confirmed."""
    _gate(prompt).set()
    assert not prompt.relay.offer(await append_rows(prompt, row(1, "a"), row(2, "a")))
    assert prompt.bus.published == []
    await prompt.flush()
    assert [len(each) for each in prompt.bus.calls] == [1, 1]
    assert numbers(prompt.bus.published) == [1, 2]


async def test_what_nobody_has_looked_behind_is_looked_at_first(prompt: Bench) -> None:
    """Another process may have an older row of its key."""
    _gate(prompt).set()
    await prompt.commit_rows([row(1, "a")], available_in=10)
    (ours,) = await prompt.commit_rows([row(2, "a")], available_in=10)
    assert not prompt.relay.offer([Pending(ours, row(2, "a"))])
    await prompt.flush()
    assert prompt.bus.published == []


async def test_nothing_to_send_waits_for_nothing(prompt: Bench) -> None:
    """Whoever offers no row need not let anybody else have a turn."""
    assert prompt.relay.offer([])
    assert prompt.bus.calls == []


async def test_what_a_lone_message_has_committed_leaves_before_its_connection_is_put_away(
    prompt: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COMMIT went along with what was written last, so others need not wait; on SQLite it has to end first."""
    said: list[str] = []
    keep = KeptConnection.keep

    def kept(self: KeptConnection, connection: object) -> bool:
        said.append("put away")
        return keep(self, connection)  # type: ignore[arg-type]

    class Heard(list[object]):
        def extend(self, sent: Sequence[object]) -> None:  # type: ignore[override]
            said.append("sent")
            super().extend(sent)

    _gate(prompt).set()
    await prompt.serve(packer())
    await prompt.handle(prompt.delivery(Pack(parcel="p1")))  # from now on its statements are prepared
    await prompt.flush()
    monkeypatch.setattr(KeptConnection, "keep", kept)
    prompt.bus.published = Heard()  # type: ignore[assignment]
    await prompt.handle(prompt.delivery(Pack(parcel="p2")))
    assert said == (["sent", "put away"] if prompt.database.url.get_backend_name() == "postgresql" else ["sent"])
    await prompt.flush()


async def test_what_was_committed_and_sent_stays_so_where_its_session_does_not_close(
    prompt: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message is handled once, and answered again; what it sent and deleted is neither withdrawn nor kept."""
    close, failed = Work.close, list[Work]()

    async def broken(self: Work) -> None:
        await close(self)
        if not failed:
            failed.append(self)
            raise ConnectionResetError

    _gate(prompt).set()
    await prompt.serve(packer())
    await prompt.handle(prompt.delivery(Pack(parcel="p1")))  # from now on its statements are prepared
    await prompt.flush()
    prompt.bus.published.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Work, "close", broken)
        delivery = prompt.delivery(Pack(parcel="p2"))
        prompt.bus.hand_over([delivery])
        await prompt.pass_time(lambda: delivery.tag in prompt.bus.settled, "it is acknowledged", step=1)
    await prompt.flush()
    await prompt.relay.forget_confirmed()
    assert await done(prompt.database) == [("p1", "packed"), ("p2", "packed")]
    assert [*dict.fromkeys(numbers(prompt.bus.published))] == numbers(prompt.bus.published)[:1]
    expected = 2 if prompt.database.url.get_backend_name() == "postgresql" else 1
    assert len(prompt.bus.published) == expected
    assert prompt.relay.known() == set()
    assert await _left(prompt) == []


async def test_what_a_lone_message_sends_is_made_ready_while_it_is_committed(prompt: Bench) -> None:
    """On SQLite nothing is waited for after it is known what that is."""
    _gate(prompt).set()
    await prompt.serve(packer())
    await prompt.handle(prompt.delivery(Pack(parcel="p1")))  # from now on its statements are prepared
    await prompt.flush()
    prompt.bus.prepared.clear()
    await prompt.handle(prompt.delivery(Pack(parcel="p2")))
    last = prompt.bus.published[-1].message_id
    assert prompt.bus.prepared == ([[last]] if prompt.database.url.get_backend_name() == "postgresql" else [])
    await prompt.flush()


async def test_what_was_made_ready_and_not_committed_is_not_sent(prompt: Bench) -> None:
    """Whatever comes next is sent instead, though it may stand in the same place."""
    prompt.relay.prepare([row(1, "a")])
    await asyncio.sleep(0)
    assert prompt.bus.prepared == [[str(row(1).message_id)]]
    assert prompt.relay.offer(await append_rows(prompt, row(2, "a")))
    assert numbers(prompt.bus.published) == [2]
    _gate(prompt).set()
    await prompt.flush()
    assert numbers(prompt.bus.published) == [2]
    prompt.relay.prepare([])
    await asyncio.sleep(0)
    assert len(prompt.bus.prepared) == 1


async def test_what_fails_while_it_is_written_is_swept(prompt: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are committed, whatever their sender has met."""

    def broken(_messages: object) -> None:
        raise MemoryError

    pending = await append_rows(prompt, row(1, "a"))
    with monkeypatch.context() as patch:
        patch.setattr(prompt.bus, "send_now", broken)
        with pytest.raises(MemoryError):
            prompt.relay.offer(pending)
    assert prompt.relay.on_their_way == set()
    _gate(prompt).set()
    prompt.clock.advance(10)
    assert await prompt.relay.sweep() == 1
    assert numbers(prompt.bus.published) == [1]
