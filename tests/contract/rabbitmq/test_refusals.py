"""Brokers that cannot be reached or do not let us in: one clear line each."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from yarl import URL

from messaging.bus import BusUnavailable
from messaging.rabbitmq import RabbitBus
from tests.contract.buses import LATE, PATIENCE
from tests.contract.proxy import Proxy


async def test_no_broker_at_start(deaf_port: int) -> None:
    """Without a broker start gives up within its bound, naming the address and never the password."""
    bus = RabbitBus(
        f"amqp://alice:very-secret@127.0.0.1:{deaf_port}/",
        service="tester",
        connect_timeout=timedelta(seconds=0.7),
    )
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(BusUnavailable, match=f"127.0.0.1:{deaf_port}") as raised:
        await bus.start()
    assert loop.time() - started < PATIENCE
    assert "very-secret" not in str(raised.value)
    assert not bus.connected


async def test_a_broker_that_does_not_answer_at_start(proxy: Proxy) -> None:
    """A broker that accepts the connection and stays silent is given up within the bound too."""
    proxy.blackhole()
    bus = RabbitBus(proxy.url, service="tester", connect_timeout=timedelta(seconds=0.3))
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(BusUnavailable, match="no answer"):
            await bus.start()


async def test_a_wrong_password_is_refused_at_once(broker_url: str) -> None:
    """A login that fails is not tried again until the bound is over, and the message names the user."""
    url = URL(broker_url).with_user("nobody-i-know").with_password("very-secret")
    bus = RabbitBus(str(url), service="tester", connect_timeout=LATE)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(BusUnavailable, match="refuses user 'nobody-i-know'") as raised:
            await bus.start()
    assert "very-secret" not in str(raised.value)


async def test_a_virtual_host_that_does_not_exist(broker_url: str) -> None:
    """A missing virtual host is named at once."""
    bus = RabbitBus(
        str(URL(broker_url).with_path("/no-such-vhost")),
        service="tester",
        connect_timeout=LATE,
    )
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(BusUnavailable, match="no-such-vhost"):
            await bus.start()


@pytest.mark.parametrize("url", ["http://localhost/", "localhost:5672", "amqp://", "amqp://a:secret@h:port/"])
def test_what_is_no_amqp_url(url: str) -> None:
    """A URL that cannot be AMQP's is a ValueError that shows what one looks like, and no password."""
    with pytest.raises(ValueError, match="amqp://user:password@host:5672/vhost") as raised:
        RabbitBus(url, service="tester")
    assert "secret" not in str(raised.value)
