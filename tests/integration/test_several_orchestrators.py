"""Two orchestrators on one queue and one database: they share the work and stay out of each other's way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from messaging.rabbitmq import RabbitBus
from tests.integration.mill import Mill, approvals
from tests.unit.work import Begun

SAGAS = 400


@pytest.fixture
async def mill(amqp_url: str, fresh_postgres: Callable[[], str]) -> AsyncIterator[Mill]:
    """A participant on servers, and no orchestrator yet."""
    mill = Mill(lambda name: RabbitBus(amqp_url, service=name), fresh_postgres())
    await mill.open()
    yield mill
    await mill.close()


async def test_two_processes_share_a_queue_and_hardly_ever_meet(mill: Mill, postgres_url: str) -> None:
    """Every saga ends right, each process has its part in it, and less than a batch in a hundred is done twice."""
    both = [mill.orchestrator(postgres_url) for _ in range(2)]
    await mill.start(*both)

    await mill.publish(*(Begun(id=number) for number in range(SAGAS)))
    await mill.publish(*approvals(range(SAGAS), lambda number: number % 10 == 0))
    await mill.come([postgres_url], {"completed": 360, "compensated": 40})
    await mill.settled(postgres_url)

    assert await mill.audit(postgres_url) == SAGAS
    engines = [each.workers[0] for each in both]
    assert min(each.batches for each in engines) > 0
    # Two processes that want the same row wait for it; only what could not be done that way is counted.
    assert sum(each.conflicts for each in engines) * 100 <= sum(each.batches for each in engines)


async def test_two_processes_hold_back_nothing_of_each_other(mill: Mill, postgres_url: str) -> None:
    """A message behind one that the other process has sent, and not deleted yet, does not wait for that one's grace."""
    hour = {"outbox_grace": timedelta(hours=1)}
    await mill.start(*(mill.orchestrator(postgres_url, **hour) for _ in range(2)))
    # One at a time, so that a process is idle after each of its messages and deletes nothing in a next transaction.
    for number in range(10):
        await mill.publish(Begun(id=number))
        await mill.publish(*approvals([number], lambda each: each % 2 == 0))
    await mill.come([postgres_url], {"completed": 5, "compensated": 5})
    await mill.settled(postgres_url)
