"""Two shards on a real broker and two databases: every event finds its instance, wherever it came in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from messaging import schema
from messaging.database import Database
from messaging.rabbitmq import RabbitBus
from messaging.service import Service
from orchestrator.cli.app import app
from orchestrator.saga.state import saga_id
from orchestrator.schema import collected_letter
from orchestrator.sharding import shard_of
from orchestrator.stamping import WrongShard
from tests.chaos.waiting import eventually
from tests.contract.messaging.bench import NOON, PATIENCE
from tests.integration.mill import Mill, approvals
from tests.unit.work import Begun, Done, Withdrawn


class Shards:
    """Two databases, and orchestrators for them."""

    def __init__(self, mill: Mill, urls: Sequence[str]) -> None:
        self.mill = mill
        self.urls = tuple(urls)

    def process(self, number: int, *, urls: Sequence[str] = (), **given: Any) -> Service:
        """An orchestrator of this shard, not started."""
        shards = tuple(SecretStr(url) for url in urls or self.urls)
        return self.mill.orchestrator(shards[number].get_secret_value(), shards=shards, shard=number, **given)


@pytest.fixture
async def shards(amqp_url: str, fresh_postgres: Callable[[], str]) -> AsyncIterator[Shards]:
    """A participant on servers, and no orchestrator yet."""
    mill = Mill(lambda name: RabbitBus(amqp_url, service=name), fresh_postgres())
    await mill.open()
    yield Shards(mill, [fresh_postgres(), fresh_postgres()])
    await mill.close()


def _home(number: int) -> int:
    return shard_of(saga_id("work", number), 2)


@pytest.mark.parametrize("partitions", [None, 3])
async def test_sagas_lie_where_their_id_says_and_all_end_right(shards: Shards, partitions: int | None) -> None:
    """Starts, answers, waits by key, cancellations by key and compensations, each in its shard and nowhere else."""
    mill = shards.mill
    both = [shards.process(number, partitions=partitions) for number in (0, 1)]
    await mill.start(*both)

    await mill.publish(*(Begun(id=number) for number in range(100)))
    await mill.publish(*approvals(range(20, 100), lambda number: number % 10 == 0))
    await mill.come(shards.urls, {"running": 20, "completed": 72, "compensated": 8})
    await mill.publish(*(Withdrawn(id=number) for number in range(20)))
    await mill.come(shards.urls, {"completed": 72, "compensated": 28})
    await mill.settled(*shards.urls)

    for number, url in enumerate(shards.urls):
        found = await mill.keys(url)
        assert set(found) == {str(key) for key in range(100) if _home(key) == number}
        assert 30 < len(found) < 70
        assert await mill.audit(url) == len(found)
    assert min(each.workers[0].batches for each in both) > 0


async def test_a_message_that_comes_again_changes_nothing_in_any_shard(shards: Shards) -> None:
    """Whichever process takes the repetition: the inbox that drops it is the one of the shard it is for."""
    mill = shards.mill
    await mill.start(*(shards.process(number) for number in (0, 1)))
    starts = [Begun(id=number) for number in range(20)]
    ids = await mill.publish(*starts)
    agreed = approvals(range(20), lambda _: False)
    agreed_ids = await mill.publish(*agreed)
    await mill.come(shards.urls, {"completed": 20})

    for _ in range(3):
        await mill.publish(*starts, ids=ids)
        await mill.publish(*agreed, ids=agreed_ids)
    # What comes after them on every queue is handled after them.
    await mill.publish(*(Begun(id=number) for number in range(100, 120)))
    await mill.publish(*approvals(range(100, 120), lambda _: False))
    await mill.come(shards.urls, {"completed": 40})
    await mill.settled(*shards.urls)

    assert sum([await mill.audit(url) for url in shards.urls]) == 40
    histories = [number for url in shards.urls for number in await mill.transitions(url)]
    assert set(histories) == {6}


async def test_one_shard_may_be_away_and_what_is_for_it_waits(shards: Shards) -> None:
    """The other one goes on, and hands on what is not its own to a queue that lasts."""
    mill = shards.mill
    await mill.start(shards.process(0))
    await mill.publish(*(Begun(id=number) for number in range(40)))
    await mill.publish(*approvals(range(40), lambda _: False))
    here = [number for number in range(40) if _home(number) == 0]
    await mill.come(shards.urls[:1], {"completed": len(here)})

    await mill.start(shards.process(1))
    await mill.come(shards.urls, {"completed": 40})
    await mill.settled(*shards.urls)


async def test_an_event_that_nobody_can_read_or_awaits_dies_once(shards: Shards) -> None:
    """Whoever takes it buries it, and the first shard has everybody's letters."""
    mill = shards.mill
    await mill.start(*(shards.process(number) for number in (0, 1)))

    await mill.publish_raw(b"no JSON", 10)

    async def buried() -> bool:
        return sum([await mill.count(url, schema.dead_letter) for url in shards.urls]) == 10

    async def collected() -> bool:
        return [await mill.letters(url) for url in shards.urls] == [10, 0]

    assert await eventually(buried)
    assert await eventually(collected)


@pytest.mark.parametrize("partitions", [None, 3])
async def test_a_dead_letter_of_a_shard_can_be_sent_again(shards: Shards, partitions: int | None) -> None:
    """It goes where events are published, and on to the shard it is for. Here it dies again, as the same one."""
    mill = shards.mill
    await mill.start(*(shards.process(number, partitions=partitions) for number in (0, 1)))
    # Answers to commands that nobody has sent: no correlation id, and so no instance.
    await mill.publish(*(Done(note=str(number)) for number in range(6)))

    async def died(times: int) -> bool:
        return await mill.failures(shards.urls[0]) == [times] * 6

    assert await eventually(lambda: died(1))
    told = await _amends(shards.urls, "dead-letters", "redrive", "--all", "--reason", "to see", "--yes", "-o", "json")
    assert told.exit_code == 0, told.stderr
    assert await eventually(lambda: died(2))


async def test_a_process_of_another_shard_leaves_a_database_alone(shards: Shards, fresh_postgres: Any) -> None:
    """The stamp says which shard it is: databases in another order, one too many, or no shards at all are refused."""
    mill = shards.mill
    await mill.start(*(shards.process(number) for number in (0, 1)))
    first, second = shards.urls
    three = (first, second, fresh_postgres())

    refused = [
        (shards.process(0, urls=(second, first)), "is shard 1 of 2, and this process is of shard 0 of 2"),
        (shards.process(1, urls=three), "is shard 1 of 2, and this process is of shard 1 of 3"),
        (mill.orchestrator(first), "is shard 0 of 2, and this process has no shards"),
    ]
    for process, words in refused:
        with pytest.raises(WrongShard, match=words):
            await process.start()
        await process.close()


async def test_a_database_without_shards_does_not_become_one_by_itself(shards: Shards) -> None:
    """Its instances may lie elsewhere then."""
    mill = shards.mill
    alone = mill.orchestrator(shards.urls[0])
    await mill.start(alone)
    await mill.publish(Begun(id=1))
    await mill.come(shards.urls[:1], {"running": 1})
    await mill.stop(alone)

    process = shards.process(0)
    with pytest.raises(WrongShard, match="amends reshard"):
        await process.start()
    await process.close()


async def test_shards_are_added_with_sagas_under_way(shards: Shards, fresh_postgres: Any) -> None:
    """From one database to two and to three: what belongs to a new one is moved, goes on there, and starts no more."""
    mill = shards.mill
    urls = (*shards.urls, fresh_postgres())
    alone = mill.orchestrator(urls[0])
    await mill.start(alone)
    starts = [Begun(id=number) for number in range(60)]
    await mill.publish(*starts)
    await mill.come(urls[:1], {"running": 60})
    # What a busy broker has not confirmed when a process ends would be left to a relay.
    await mill.settled(urls[0])
    await mill.stop(alone)

    moved = []
    for number in (2, 3):
        assert (await _amends(urls[:number], "migrate")).exit_code == 0
        told = await _amends(urls[:number], "reshard", "--yes", "-o", "json")
        assert told.exit_code == 0, told.stderr
        moved.append(sum(each["instances"] for each in json.loads(told.stdout)))
        assert {each["target"] for each in json.loads(told.stdout)} == {number - 1}
        running = [shards.process(each, urls=urls[:number]) for each in range(number)]
        await mill.start(*running)
        # Other messages with the same keys: they find their instances, and make no second ones.
        await mill.publish(*starts)
        await mill.publish(*approvals(range(30 * (number - 2), 30 * (number - 1)), lambda _: False))
        await mill.come(urls[:number], {"completed": 60} if number == 3 else {"completed": 30, "running": 30})
        await mill.settled(*urls[:number])
        await mill.stop(*running)

    assert all(10 < each < 50 for each in moved)
    for number, url in enumerate(urls):
        keys = await mill.keys(url)
        assert set(keys) == {str(key) for key in range(60) if shard_of(saga_id("work", key), 3) == number}
        assert await mill.audit(url) == len(keys)


async def test_whoever_runs_while_shards_are_added_ends_with_its_next_batch(
    shards: Shards, fresh_postgres: Any
) -> None:
    """What it has in hand stays on the queue, for those that are configured for the new number."""
    mill = shards.mill
    urls = (*shards.urls, fresh_postgres())
    old = [shards.process(number) for number in (0, 1)]
    await mill.start(*old)
    await _amends(urls, "migrate")
    told = await _amends(urls, "reshard", "--yes")
    assert told.exit_code == 0, told.stderr
    await mill.publish(*(Begun(id=number) for number in range(40)))

    for each in old:
        with pytest.raises(WrongShard, match="of 3, and this process is of shard"):
            async with asyncio.timeout(PATIENCE):
                await each.failed()
        mill.services.remove(each)
        with pytest.raises(WrongShard):
            await each.drain()
    await mill.start(*(shards.process(number, urls=urls) for number in range(3)))
    await mill.come(urls, {"running": 40})


async def test_commands_find_a_saga_in_whichever_shard_it_lies(shards: Shards) -> None:
    """A listing is of all shards, one saga is found by its key, and what is about one database asks for it."""
    mill = shards.mill
    running = [shards.process(number) for number in (0, 1)]
    await mill.start(*running)
    await mill.publish(*(Begun(id=number) for number in range(8)))
    await mill.come(shards.urls, {"running": 8})
    # Their logs would be among what the commands print in this process.
    await mill.stop(*mill.services)

    listed = await _amends(shards.urls, "list", "-o", "json")
    assert {each["key"] for each in json.loads(listed.stdout)} == {str(number) for number in range(8)}
    first = await _amends(shards.urls, "list", "-o", "json", shard=0)
    assert {each["key"] for each in json.loads(first.stdout)} == {str(each) for each in range(8) if _home(each) == 0}
    for number in range(8):
        shown = await _amends(shards.urls, "show", str(number), "-o", "json")
        assert shown.exit_code == 0, shown.stderr
        assert json.loads(shown.stdout)["id"] == str(saga_id("work", number))
        replayed = await _amends(shards.urls, "replay", str(number))
        assert replayed.exit_code == 0, replayed.stderr
    given_up = await _amends(shards.urls, "abandon", "3", "--reason", "enough", "--yes")
    assert given_up.exit_code == 0, given_up.stderr
    assert (await mill.keys(shards.urls[_home(3)]))["3"] == "abandoned"

    nowhere = await _amends(shards.urls, "show", "99")
    assert (nowhere.exit_code, "no saga has the id or the key '99'" in nowhere.stderr) == (1, True)
    which = await _amends(shards.urls, "stats")
    assert (which.exit_code, "AMENDS_SHARD=0 to 1" in which.stderr) == (78, True)
    wrong = await _amends(shards.urls, "list", shard=2)
    assert (wrong.exit_code, "names 2 databases" in wrong.stderr) == (78, True)


async def test_why_knows_everybodys_dead_letters_in_every_shard(shards: Shards, amqp_url: str) -> None:
    """They lie in the first, the saga that one is about in the second. What is handed on to it is looked at, too."""
    mill = shards.mill
    running = [shards.process(number) for number in (0, 1)]
    await mill.start(*running)
    number = next(each for each in range(20) if _home(each) == 1)
    await mill.publish(Begun(id=number))
    await mill.come(shards.urls, {"running": 1})
    await mill.stop(*mill.services)
    letter: dict[str, Any] = dict.fromkeys(("queue", "reason", "error", "exchange", "routing_key"), "x")
    letter |= {
        "id": UUID(int=1),
        "service": "digger",
        "type": "work.do",
        "correlation_id": str(saga_id("work", number)),
    }
    letter |= {
        "properties": "{}",
        "size": 1,
        "attempts": 0,
        "failures": 1,
        "state": "open",
        "first_at": NOON,
        "at": NOON,
    }
    database = Database(shards.urls[0])
    async with database.transaction() as connection:
        await connection.execute(collected_letter.insert(), letter)
    await database.close()

    told = await _amends(shards.urls, "why", str(number), "-o", "json", amqp_url=amqp_url)

    assert told.exit_code == 0, told.stderr
    causes = json.loads(told.stdout)["causes"]
    assert [each["service"] for each in causes if each["cause"] == "dead_lettered"] == ["digger"]
    assert "orchestrator.shard.1" in [each.get("queue") for each in causes]


async def _amends(urls: Sequence[str], *words: str, shard: int | None = None, amqp_url: str | None = None) -> Result:
    """`amends …`, as another process that is configured for these shards."""
    environment = {"AMENDS_SHARDS": ",".join(urls), "AMENDS_SAGAS": "tests.integration.mill", "DATABASE_URL": None}
    chosen = {} if shard is None else {"AMENDS_SHARD": str(shard)}
    chosen |= {} if amqp_url is None else {"AMQP_URL": amqp_url}
    return await asyncio.to_thread(CliRunner().invoke, app, words, env=environment | chosen)
