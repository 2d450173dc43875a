"""A connection to RabbitMQ that is kept up: connected with backoff, watched, and built anew when it is lost.

Rebuilding the whole connection, with whatever hangs on it, is one path through the code where repairing it
piece by piece is many; and a broker that comes back empty looks the same as one that was only restarted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aio_pika
import structlog
from aio_pika.abc import AbstractConnection
from aiormq.connection import TransportFactory
from aiormq.exceptions import (
    AMQPConnectionError,
    AMQPError,
    AuthenticationError,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_delay,
    stop_never,
    wait_exponential,
    wait_random,
)
from yarl import URL

from messaging.bus import BusUnavailable
from messaging.rabbitmq_decoding import DeliveryReader
from messaging.rabbitmq_tls import Tls, refusal

ATTEMPT_SECONDS = 10.0
"""How long one attempt to connect, or one conversation with the broker, may take."""
BACKOFF = wait_exponential(multiplier=0.1, max=10) + wait_random(0, 0.3)
"""Seconds between attempts; the jitter keeps the services of one broker from coming back in step."""
_CLOSE_SECONDS = 3.0


class ConnectionLost(ConnectionError):
    """The connection went away while we waited for an answer on it."""


LOST = (AMQPError, RuntimeError, OSError, TimeoutError)
"""What a conversation with the broker raises when it is cut off or refused.

aiormq says RuntimeError on a connection or channel that has just been closed; a TimeoutError is ours.
"""

_REFUSED = (AuthenticationError, ProbableAuthenticationError)


@contextmanager
def lost_means_error() -> Iterator[None]:
    """Turn the CancelledError that aiormq raises on a lost connection into ConnectionLost.

    Without it a task that nobody cancelled would end as if somebody had.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        yield
    except asyncio.CancelledError:
        if task is None or task.cancelling() > before:
            raise
        raise ConnectionLost("the connection was lost while we waited for the broker's answer") from None


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task of ours that talks to the broker, and wait until it has ended."""
    while not task.done():
        # More than once if need be: aiormq waits with asyncio.wait_for, and before Python 3.12 that loses a
        # cancellation which arrives just when what it waits for has come.
        task.cancel()
        await asyncio.wait((task,), timeout=0.2)


def is_blocked(connection: AbstractConnection) -> bool:
    """Whether the broker has told us that it takes no messages for now (a memory or disk alarm)."""
    transport = connection.transport
    if transport is None:
        return False
    # aiormq keeps this to itself, but its `ready()` returns at once unless the connection is blocked.
    asking = transport.connection.ready()
    try:
        asking.send(None)
    except StopIteration:
        return False
    asking.close()
    return True


class _Socket(TransportFactory):
    """Opens the socket, and stands between it and aiormq."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self.deliveries: DeliveryReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # Ours instead: aiormq's would go on with the files that it has read first.
        del kwargs["ssl_context_provider"]
        context = await asyncio.to_thread(self._tls.context) if self._tls.used else None
        loop = asyncio.get_running_loop()
        reader = DeliveryReader(loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol, url.host or "localhost", url.port or 5672, ssl=context, **kwargs
            )
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
        self.deliveries = reader
        self._writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        return reader, self._writer

    def write(self, frames: bytes) -> None:
        if self._writer is not None and not self._writer.transport.is_closing():
            self._writer.transport.write(frames)

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


class BrokerConnection(aio_pika.Connection):
    """A connection that hands its deliveries over itself, and can be cut off when its other end is gone."""

    def __init__(self, url: URL, name: str, tls: Tls) -> None:
        super().__init__(url, client_properties={"connection_name": name})
        self._socket = _Socket(tls)
        self.kwargs["transport_factory"] = self._socket

    @property
    def deliveries(self) -> DeliveryReader:
        """Where the channels' deliveries come out; raises ConnectionLost before there is a connection."""
        if self._socket.deliveries is None:
            raise ConnectionLost("the connection does not stand yet")
        return self._socket.deliveries

    def write(self, channel: int, frames: bytes) -> None:
        """Send whole frames of a channel whose answers `deliveries` takes, now: aiormq has a task that would do it.

        They leave before what aiormq has been told to send and has not sent yet. Where the channel or the connection is
        gone nothing is sent, which whoever watches them is told.
        """
        if not self.deliveries.is_closed(channel):
            self._socket.write(frames)

    def abort(self) -> None:
        """Cut the connection without a word."""
        self._socket.abort()


class Link:
    """One connection, kept up until it is closed.

    `attach` is called with each new connection and opens what is needed on it; an error there counts as a
    failed attempt. `detach` is called when the connection is gone. `name` is shown by the broker's tools. Raises
    ValueError where the URL names certificates that cannot be used.
    """

    def __init__(
        self,
        url: URL,
        *,
        name: str,
        heartbeat: int,
        attach: Callable[[BrokerConnection], Awaitable[None]],
        detach: Callable[[], None],
    ) -> None:
        self._url = url
        self._tls = Tls(url)
        self._name = name
        self._heartbeat = heartbeat
        self._attach = attach
        self._detach = detach
        self._connection: BrokerConnection | None = None
        self._lost: asyncio.Future[str] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._standing = asyncio.Event()

    @property
    def up(self) -> bool:
        """Whether the connection stands and what hangs on it is in place."""
        return self._connection is not None

    @property
    def started(self) -> bool:
        """Whether the connection is being kept up, be it up right now or not."""
        return self._keeper is not None

    @property
    def connection(self) -> BrokerConnection | None:
        """The connection while it is up."""
        return self._connection

    async def standing(self) -> BrokerConnection:
        """Wait until the connection is up, and return it."""
        while self._connection is None:
            await self._standing.wait()
        return self._connection

    async def start(self, seconds: float) -> None:
        """Connect; raises BusUnavailable when it has not worked within `seconds`, or the broker refuses us."""
        failures: list[BaseException] = []
        if self._tls.used and not self._tls.verified:
            structlog.get_logger(__name__).warning(
                "broker_not_verified",
                link=self._name,
                reason="no_verify_ssl in AMQP_URL: anybody may pose as the broker",
            )
        try:
            async with asyncio.timeout(seconds):
                await self._establish(failures, bound=seconds)
        except LOST as error:
            raise self._unavailable(seconds, failures[-1] if failures else error) from error
        self._keeper = asyncio.create_task(self._keep_up(), name=f"link {self._name}")

    def _unavailable(self, seconds: float, error: BaseException) -> BusUnavailable:
        broker, user = address(self._url), self._url.user or "guest"
        if (why := refusal(error)) is not None:
            return BusUnavailable(f"there is no safe connection to the broker at {broker}: {why}")
        if _is_vhost_refusal(error):
            return BusUnavailable(
                f"the broker at {broker} does not let user {user!r} use that virtual host; check that it exists "
                "and that the user may use it"
            )
        if isinstance(error, _REFUSED):
            return BusUnavailable(
                f"the broker at {broker} refuses user {user!r} ({describe(error)}); check the user and password "
                "in AMQP_URL"
            )
        doubt = self._tls.doubt(error)
        return BusUnavailable(
            f"the broker at {broker} cannot be reached ({describe(error)}); tried for {seconds:.3g} s. "
            f"Is it running, and is AMQP_URL right?{f' Perhaps {doubt}' if doubt else ''}"
        )

    def condemn(self, reason: str) -> None:
        """Give the connection up and build a new one."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(reason)

    async def close(self) -> None:
        """Let go of the connection, politely if the broker still answers."""
        if self._keeper is not None:
            await end(self._keeper)
            self._keeper = None
        await self._drop()

    async def _keep_up(self) -> None:
        while True:
            if self._lost is not None:
                reason = await self._loss(self._lost)
                structlog.get_logger(__name__).warning("broker_connection_lost", link=self._name, reason=reason)
            if self._connection is not None:
                self._connection.abort()
            await self._drop()
            await self._establish([])

    async def _loss(self, lost: asyncio.Future[str]) -> str:
        """Wait until the connection is lost, or silent for longer than a living broker would be."""
        while self._heartbeat and not lost.done():
            await asyncio.wait((lost,), timeout=self._heartbeat / 2)
            if self._connection is not None:
                silent = asyncio.get_running_loop().time() - self._connection.deliveries.heard_at
                if silent > 2 * self._heartbeat:
                    return f"nothing heard from the broker for {silent:.0f} s"
        return await lost

    async def _establish(self, failures: list[BaseException], *, bound: float | None = None) -> None:
        """Connect with backoff: for ever, or when we start for so many seconds."""

        def may_pass(error: BaseException) -> bool:
            if isinstance(error, Exception):
                failures.append(error)
            if bound is None:
                # Whatever it is, it is logged and tried again: giving up here would leave a deaf service.
                return isinstance(error, Exception)
            # A wrong password does not become right by waiting; later it may be the broker's own trouble.
            refused = isinstance(error, _REFUSED) or _is_vhost_refusal(error) or refusal(error) is not None
            return isinstance(error, LOST) and not refused

        def say(state: RetryCallState) -> None:
            structlog.get_logger(__name__).warning(
                "waiting_for_broker",
                link=self._name,
                broker=address(self._url),
                attempt=state.attempt_number,
                next_in_seconds=round(state.next_action.sleep, 2) if state.next_action else None,
                reason=describe(failures[-1]),
            )
            del failures[:-1]

        retrying = AsyncRetrying(
            stop=stop_never if bound is None else stop_after_delay(bound),
            wait=BACKOFF,
            retry=retry_if_exception(may_pass),
            before_sleep=say,
            reraise=True,
        )
        await retrying(self._connect)

    async def _connect(self) -> None:
        url = self._url.update_query(heartbeat=str(self._heartbeat))
        connection = BrokerConnection(url, self._name, self._tls)
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                with lost_means_error():
                    await connection.connect()
                    self._watch(connection)
                    await self._attach(connection)
        except BaseException:
            connection.abort()
            self._detach()
            await _close(connection)
            raise
        self._connection = connection
        self._standing.set()

    def _watch(self, connection: BrokerConnection) -> None:
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # `condemn` must work from the moment something hangs on the connection.
        self._lost = lost

        def closed(closing: asyncio.Future[object]) -> None:
            error = None if closing.cancelled() else closing.exception()
            if not lost.done():
                lost.set_result(describe(error) if error is not None else "closed")

        def ended(reason: asyncio.Future[str]) -> None:
            if not lost.done():
                lost.set_result(reason.result())

        connection.deliveries.ended.add_done_callback(ended)
        if connection.transport is not None:
            connection.transport.connection.closing.add_done_callback(closed)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._standing.clear()
        self._detach()
        if connection is not None:
            await _close(connection)
            connection.abort()


def _is_vhost_refusal(error: BaseException) -> bool:
    # aiormq drops the broker's reason and only says that the answer to Connection.Open was another one.
    return isinstance(error, InvalidFrameError) and "Connection.OpenOk" in str(error)


async def _close(connection: BrokerConnection) -> None:
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            with lost_means_error():
                await connection.close()
    except LOST as error:
        structlog.get_logger(__name__).debug("connection_closed_roughly", reason=describe(error))


def address(url: URL) -> str:
    """The URL as it may be shown: with neither password nor query."""
    return str(url.with_password(None).with_query(None))


def describe(error: BaseException) -> str:
    """An error of the client library in one line."""
    if (why := refusal(error)) is not None:
        return why
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer"
    return str(error) or type(error).__name__
