"""Orchestrators on partitions: they share them, and their number may change while messages lie in the old ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from messaging.rabbitmq import RabbitBus
from orchestrator import partitioning
from tests.chaos.waiting import eventually
from tests.integration.mill import Mill, approvals
from tests.unit.work import Begun


@pytest.fixture
async def mill(amqp_url: str, fresh_postgres: Callable[[], str]) -> AsyncIterator[Mill]:
    """A participant on servers, and no orchestrator yet."""
    mill = Mill(lambda name: RabbitBus(amqp_url, service=name), fresh_postgres())
    await mill.open()
    yield mill
    await mill.close()


@pytest.fixture
async def broker(amqp_url: str) -> AsyncIterator[RabbitBus]:
    """A look at the broker beside the services."""
    bus = RabbitBus(amqp_url, service="looking")
    await bus.start()
    yield bus
    await bus.close()


async def test_processes_share_the_partitions_and_every_saga_ends_right(mill: Mill, postgres_url: str) -> None:
    """Two processes, four partitions: whoever came first is active on all, until it steps back from half of them."""
    both = [mill.orchestrator(postgres_url, partitions=4) for _ in range(2)]
    engines = [each.workers[0] for each in both]
    balances = [each._balances()[0] for each in both]
    await mill.start(*both)

    await mill.publish(*(Begun(id=number) for number in range(100)))
    await mill.come([postgres_url], {"running": 100})
    assert [each.batches > 0 for each in engines] == [True, False]

    begun = 100

    async def shared() -> bool:
        nonlocal begun
        for each in balances:
            await each.look()
        await mill.publish(*(Begun(id=number) for number in range(begun, begun + 50)))
        begun += 50
        await mill.come([postgres_url], {"running": begun})
        return [sorted(each._station.busy) for each in engines] == [[*names[:2]], [*names[2:]]]

    names = partitioning.names(4)
    assert await eventually(shared), [sorted(each._station.busy) for each in engines]
    assert sum(each.conflicts for each in engines) == 0
    # An approval names the order and not the saga, so it comes to another partition than the answers of its saga.
    await mill.publish(*approvals(range(begun), lambda number: number % 10 == 0))
    await mill.come([postgres_url], {"completed": begun * 9 // 10, "compensated": begun // 10})
    await mill.settled(postgres_url)

    assert await mill.audit(postgres_url) == begun


async def test_the_number_of_partitions_changes_with_messages_in_the_old_ones(
    mill: Mill, broker: RabbitBus, postgres_url: str
) -> None:
    """From one queue to four, to two and back to one: what came while nobody ran is handled, and nothing twice."""
    begun = 0
    for partitions in (None, 4, 2, 1):
        running = mill.orchestrator(postgres_url, partitions=partitions)
        await mill.start(running)
        await mill.publish(*(Begun(id=number) for number in range(begun, begun + 20)))
        begun += 20
        await mill.come([postgres_url], {"running": begun})
        await mill.stop(running)
        # Nobody reads: these lie in the queues of this number of partitions when the next one begins.
        await mill.publish(*(Begun(id=number) for number in range(begun, begun + 20)))
        begun += 20
    await mill.start(mill.orchestrator(postgres_url, partitions=1))
    await mill.publish(*approvals(range(begun), lambda _: False))
    await mill.come([postgres_url], {"completed": 160})
    await mill.settled(postgres_url)

    assert await mill.audit(postgres_url) == 160
    # Each start was committed by its first copy; a second one would have been taken in, and dropped, as well.
    for name in (partitioning.QUEUE, *partitioning.names(4)):
        state = await broker.inspect(name)
        assert state is not None
        assert state.ready == 0


async def test_what_is_left_over_is_filled_no_more(mill: Mill, broker: RabbitBus, postgres_url: str) -> None:
    """With one queue again, what comes lies in it alone: once."""
    for partitions in (3, 1):
        running = mill.orchestrator(postgres_url, partitions=partitions)
        await mill.start(running)
        await mill.stop(running)

    await mill.publish(*(Begun(id=number) for number in range(12)))

    async def all_there() -> bool:
        return await _ready(broker, partitioning.QUEUE) == 12

    assert await eventually(all_there)
    assert [await _ready(broker, name) for name in partitioning.names(3)] == [0, 0, 0]


async def _ready(broker: RabbitBus, name: str) -> int:
    state = await broker.inspect(name)
    assert state is not None
    return state.ready
