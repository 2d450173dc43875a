"""Making the topology on a RabbitMQ broker, or checking that it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractQueue
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.common import FieldTable

from messaging.bus import BusUnavailable, QueueState, TopologyMismatch
from messaging.rabbitmq_link import ATTEMPT_SECONDS, LOST, BrokerConnection, describe, lost_means_error
from messaging.topology import RING_BYTES, RING_MESSAGES, Queue, QueueType, Spread, Topology

CONSISTENT_HASH = ExchangeType.X_CONSISTENT_HASH.value
SPREAD_BY = {"hash-property": "correlation_id"}


async def declare(connection: AbstractConnection, topology: Topology, *, passive: bool) -> None:
    """Declare every exchange, queue and binding, or with `passive` only ask whether they exist.

    AMQP cannot ask what an exchange or queue is like, or what is bound to it: `passive` trusts the operator
    for that. Bindings are added, and taken away only from what is `retired`. Raises TopologyMismatch, and
    BusUnavailable when cut off.
    """
    for exchange in topology.exchanges:
        await _ask(_declare_exchange(connection, exchange, passive=passive), f"exchange {exchange!r}")
    for spread in topology.spreads:
        await _ask(_declare_spread(connection, spread, passive=passive), f"exchange {spread.name!r}")
    for queue in topology.queues:
        await _ask(_declare_queue(connection, queue, passive=passive), f"queue {queue.name!r}")
    if passive:
        return
    # What flows in comes last: where it goes is in place by then. And only then is the old way closed.
    for spread in topology.spreads:
        await _ask(_fill(connection, spread), f"exchange {spread.name!r}")
    for each in topology.retired:
        await _ask(_retire(connection, each), f"{each.name!r}")


async def inspect(connection: AbstractConnection, queue: str) -> QueueState | None:
    """A queue as it is now, asked for passively; None where there is none. Raises BusUnavailable."""
    try:
        async with asyncio.timeout(ATTEMPT_SECONDS):
            with lost_means_error():
                # A queue that is not there closes the channel it was asked for on: so on one of its own.
                async with _channel(connection) as channel:
                    found = (await channel.declare_queue(queue, passive=True)).declaration_result
    except ChannelNotFoundEntity:
        return None
    except LOST as error:
        raise BusUnavailable(f"the broker does not tell of queue {queue!r}: {describe(error)}") from error
    return QueueState(queue, found.message_count or 0, found.consumer_count or 0)


def arguments_of(queue: Queue) -> FieldTable:
    """The x-arguments of a queue; RabbitMQ compares all of them when the queue is declared again."""
    arguments: FieldTable = {"x-queue-type": queue.type.value}
    if queue.dead_letter_exchange is not None:
        arguments["x-dead-letter-exchange"] = queue.dead_letter_exchange
    if queue.single_active:
        arguments["x-single-active-consumer"] = True
    if queue.ring:
        arguments |= {"x-max-length": RING_MESSAGES, "x-max-length-bytes": RING_BYTES, "x-overflow": "drop-head"}
    if queue.type is QueueType.QUORUM:
        if queue.delivery_limit is not None:
            arguments["x-delivery-limit"] = queue.delivery_limit
        if queue.dead_letter_exchange is not None:
            # At most once, the default, loses dead letters when their queue is away for a moment; at least
            # once needs reject-publish.
            arguments["x-dead-letter-strategy"] = "at-least-once"
            arguments["x-overflow"] = "reject-publish"
    return arguments


async def _declare_exchange(connection: AbstractConnection, exchange: str, *, passive: bool) -> None:
    async with _channel(connection) as channel:
        await channel.declare_exchange(exchange, ExchangeType.TOPIC, durable=True, passive=passive)


async def _declare_spread(connection: AbstractConnection, spread: Spread, *, passive: bool) -> None:
    try:
        async with _channel(connection) as channel:
            await channel.declare_exchange(
                spread.name,
                CONSISTENT_HASH,
                durable=True,
                passive=passive,
                arguments=None if passive else dict(SPREAD_BY),
            )
    except LOST as error:
        # A kind of exchange that the broker does not know ends the connection.
        said = connection.deliveries.dismissal if isinstance(connection, BrokerConnection) else None
        if said is not None and said.startswith("COMMAND_INVALID"):
            raise TopologyMismatch(
                f"the broker cannot make exchange {spread.name!r}: {said}. Enable the plugin, which ships with "
                "RabbitMQ, on each of its nodes (rabbitmq-plugins enable rabbitmq_consistent_hash_exchange), or unset "
                "AMENDS_PARTITIONS"
            ) from error
        raise


async def _fill(connection: AbstractConnection, spread: Spread) -> None:
    async with _channel(connection) as channel:
        exchange = await channel.get_exchange(spread.name, ensure=False)
        for binding in spread.bindings:
            await exchange.bind(binding.exchange, binding.pattern)


async def _retire(connection: AbstractConnection, each: Queue | Spread) -> None:
    try:
        # What is not there closes the channel it is asked for on, and then nothing flows into it either.
        async with _channel(connection) as channel:
            found: AbstractQueue | AbstractExchange
            if isinstance(each, Queue):
                found = await channel.get_queue(each.name)
            else:
                found = await channel.get_exchange(each.name)
            for binding in each.bindings:
                await found.unbind(binding.exchange, binding.pattern)
    except ChannelNotFoundEntity:
        return


async def _declare_queue(connection: AbstractConnection, queue: Queue, *, passive: bool) -> None:
    async with _channel(connection) as channel:
        declared = await channel.declare_queue(
            queue.name, durable=True, passive=passive, arguments=None if passive else arguments_of(queue)
        )
        if not passive:
            for binding in queue.bindings:
                await declared.bind(binding.exchange, binding.pattern)


def _channel(connection: AbstractConnection) -> AbstractChannel:
    # A refusal closes the channel, so each question gets its own.
    return connection.channel(publisher_confirms=False)


async def _ask(question: Awaitable[None], what: str) -> None:
    try:
        async with asyncio.timeout(ATTEMPT_SECONDS):
            with lost_means_error():
                await question
    except ChannelPreconditionFailed as error:
        raise TopologyMismatch(
            f"{what} exists, but not as it is needed: {describe(error)}. Delete it when it is empty "
            "(rabbitmqctl delete_queue NAME) so that it is made anew, or ask for what is there"
        ) from error
    except ChannelNotFoundEntity as error:
        raise TopologyMismatch(
            f"{what} or something it refers to is missing: {describe(error)}. Have whoever owns the topology "
            "declare it (`amends broker definitions`), or let the service do so (AMENDS_TOPOLOGY_PASSIVE=false)"
        ) from error
    except ChannelAccessRefused as error:
        raise BusUnavailable(
            f"the broker does not let us declare {what}: {describe(error)}. Grant the user the permission, or "
            "only check the topology (AMENDS_TOPOLOGY_PASSIVE=true)"
        ) from error
    except LOST as error:
        raise BusUnavailable(f"cut off while declaring {what}: {describe(error)}") from error
