"""Buses on a real RabbitMQ, and something to break between."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.buses import (
    RabbitBench,
)
from tests.contract.proxy import Proxy


@pytest.fixture
async def bench(broker_url: str) -> AsyncIterator[RabbitBench]:
    """Buses on the broker under test."""
    made = RabbitBench(broker_url)
    yield made
    await made.close()


@pytest.fixture
async def proxy(broker_url: str) -> AsyncIterator[Proxy]:
    """Something to break between us and the broker."""
    async with Proxy(broker_url) as made:
        yield made
