"""The RabbitMQ bus: aio-pika behind the `Bus` protocol.

Two connections, because an alarm blocks a publishing connection whole: one publishes, the other consumes
and declares. Each is kept up by a `Link`; what hangs on it is put in place again on every new connection,
the declared topology included, should the broker come back empty. Only the modules called `rabbitmq…` know
AMQP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

from yarl import URL

from messaging import rabbitmq_topology
from messaging.bus import Answers, BusUnavailable, Delivery, Outgoing, QueueState, Receipt
from messaging.rabbitmq_consuming import RabbitSubscription
from messaging.rabbitmq_link import BrokerConnection, Link, address
from messaging.rabbitmq_publishing import Publisher
from messaging.topology import Topology

MAX_PREFETCH = 65_535


class RabbitBus:
    """A service's two connections to a RabbitMQ broker; implements `messaging.bus.Bus`.

    `url` is amqp:// or amqps://, with certificates in its query (`messaging.rabbitmq_tls`). `service` names the
    connections in the broker's tools. `heartbeat` is in seconds; a broker that falls silent is
    given up after two of them. `publish_timeout` bounds a publish,
    `connect_timeout` bounds `start`. With `passive` the topology is only checked, because an operator owns
    it. Raises ValueError where the URL is no AMQP URL, or names certificates that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        service: str,
        heartbeat: int = 30,
        publish_timeout: timedelta = timedelta(seconds=5),
        connect_timeout: timedelta = timedelta(seconds=60),
        passive: bool = False,
    ) -> None:
        self._url = _parse(url)
        self._connect_timeout = connect_timeout.total_seconds()
        self._passive = passive
        self._topology = Topology(exchanges=())
        self._subscriptions: list[RabbitSubscription] = []
        self._publisher = Publisher(
            timeout=publish_timeout.total_seconds(),
            user_id=_user_id(self._url),
            condemn=self._rebuild_publishing,
        )
        self._publishing = Link(
            self._url,
            name=f"{service} publishing",
            heartbeat=heartbeat,
            attach=self._publisher.attach,
            detach=self._publisher.detach,
        )
        self._consuming = Link(
            self._url,
            name=f"{service} consuming",
            heartbeat=heartbeat,
            attach=self._attach_consuming,
            detach=self._detach_consuming,
        )

    @property
    def connected(self) -> bool:
        return self._publisher.ready and self._consuming.up

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._connect_timeout
        try:
            for link in (self._publishing, self._consuming):
                await link.start(max(0.0, deadline - loop.time()))
        except BusUnavailable:
            await self.close()
            raise

    async def declare(self, topology: Topology) -> None:
        await rabbitmq_topology.declare(self._connected(), topology, passive=self._passive)
        self._topology = self._topology.with_all(topology)

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[Receipt]:
        return await self._publisher.publish(messages)

    def send_now(self, messages: Sequence[Outgoing]) -> Answers | None:
        return self._publisher.send_now(messages)

    def prepare(self, messages: Sequence[Outgoing]) -> None:
        self._publisher.prepare(messages)

    async def subscribe(self, queue: str, *, prefetch: int, deliver: Callable[[Delivery], None]) -> RabbitSubscription:
        if not 1 <= prefetch <= MAX_PREFETCH:
            raise ValueError(f"prefetch={prefetch}: RabbitMQ takes 1 to {MAX_PREFETCH} (0 would mean no bound)")
        if not self._consuming.started:
            raise BusUnavailable(f"the bus to {address(self._url)} is not started, or closed; call start() first")
        subscription = RabbitSubscription(
            queue,
            prefetch=prefetch,
            deliver=deliver,
            connection=self._consuming.standing,
            declare=self._declare_again,
        )
        await subscription.start()
        self._subscriptions.append(subscription)
        return subscription

    async def inspect(self, queue: str) -> QueueState | None:
        return await rabbitmq_topology.inspect(self._connected(), queue)

    async def close(self) -> None:
        for subscription in self._subscriptions:
            await subscription.close()
        self._subscriptions.clear()
        await self._publishing.close()
        await self._consuming.close()

    def _connected(self) -> BrokerConnection:
        connection = self._consuming.connection
        if connection is None:
            raise BusUnavailable(
                f"there is no connection to the broker at {address(self._url)} right now; wait until the bus is "
                "connected"
            )
        return connection

    def _rebuild_publishing(self, reason: str) -> None:
        self._publishing.condemn(reason)

    async def _attach_consuming(self, connection: BrokerConnection) -> None:
        await rabbitmq_topology.declare(connection, self._topology, passive=self._passive)

    def _detach_consuming(self) -> None:
        for subscription in self._subscriptions:
            subscription.connection_lost()

    async def _declare_again(self) -> None:
        await self.declare(self._topology)


def _parse(url: str) -> URL:
    try:
        parsed = URL(url)
    except ValueError:
        # Without the original: its text could show the password.
        parsed = URL()
    if parsed.scheme not in ("amqp", "amqps") or not parsed.host:
        raise ValueError("this is no AMQP URL; write amqp://user:password@host:5672/vhost")
    return parsed


def _user_id(url: URL) -> str | None:
    """The user to name as the sender; RabbitMQ refuses any but the one who is logged in."""
    if url.query.get("auth", "plain").lower() != "plain":
        # Then the broker knows the user from a certificate, and we do if the URL says so.
        return url.user
    return url.user or "guest"
