"""Two shards on a real broker and two databases: every event finds its instance, wherever it came in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from pydantic import SecretStr

from messaging import schema
from messaging.rabbitmq import RabbitBus
from messaging.service import Service
from orchestrator.saga.state import saga_id
from orchestrator.sharding import shard_of
from orchestrator.stamping import WrongShard
from tests.chaos.waiting import eventually
from tests.integration.mill import Mill, approvals
from tests.unit.work import Begun, Withdrawn


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
