"""A participant: the commands a service answers and the events it reacts to.

    payment = Participant("payment")

    @payment.handles(AuthorizePayment)
    async def authorize(command: AuthorizePayment, db: AsyncSession) -> PaymentAuthorized | PaymentFailed:
        ...

A handler gets the message and a session in the batch's transaction and *returns* the answer: a business refusal
is a value. What it writes, the inbox row and the answer's outbox row commit together or not at all. It runs once
for a message id; a repeated command gets the stored answer.

Declaring only; `messaging.serving` runs what is declared here.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Never, TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from contracts.message import Command, Event, Message
from contracts.registry import Registry

S = TypeVar("S", bound=Event)
F = TypeVar("F", bound=Event)
E = TypeVar("E", bound=Event)
C = TypeVar("C", bound=Command[Any, Any])


class RetryLater(Exception):
    """Not now: what the handler needs is away (an issuer offline, an account on hold).

    Raise it from a handler, or return it from a batch handler. The transaction of this message is undone, and
    the message waits in the service's `deferred` table for `after` (default: a backoff that doubles from one second,
    capped at five minutes). After `attempts` tries in all, `otherwise` becomes the answer; without it the
    message becomes a dead letter.
    """

    def __init__(
        self,
        reason: str,
        *,
        after: timedelta | None = None,
        attempts: int | None = None,
        otherwise: Event | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after
        self.attempts = attempts
        self.otherwise = otherwise


class InvalidHandler(TypeError):
    """A handler that does not fit its contract; says where, and how to mend it."""


class Mode(Enum):
    """How a handler is called."""

    ONE = "one"
    """`(message, session)`, one message at a time, in the batch's transaction."""
    BATCH = "batch"
    """`(messages, session)`, all of one batch at once, in the batch's transaction."""
    OUTSIDE = "outside"
    """`(command, idempotency key)`, many at a time, outside any transaction."""


@dataclass(frozen=True, slots=True)
class Handler:
    """One registered handler."""

    message: type[Message]
    mode: Mode
    call: Callable[..., Awaitable[Any]]
    answers: tuple[type[Event], ...] = ()
    """What a command may be answered with; an event is not answered."""
    time_limit: timedelta | None = None
    concurrency: int = 1
    record: Callable[..., Awaitable[None]] | None = None

    @property
    def name(self) -> str:
        return f"{self.call.__module__}.{self.call.__qualname__}"


class Participant:
    """A named service and its handlers. The name is also that of its queues: `payment.commands`."""

    def __init__(self, name: str, registry: Registry | None = None) -> None:
        self.name = name
        self.handlers: dict[str, Handler] = {}
        self._registry = registry or Registry()

    @property
    def registry(self) -> Registry:
        """The messages this participant reads and answers with."""
        return self._registry

    def handles(
        self, command: type[Command[S, F]]
    ) -> Callable[
        [Callable[[C, AsyncSession], Awaitable[S | F]]],
        Callable[[C, AsyncSession], Awaitable[S | F]],
    ]:
        """Register `async def handler(command, session) -> answer`.

        Raises InvalidHandler where the annotated answer is not what the contract names.
        """

        def register(
            handler: Callable[[C, AsyncSession], Awaitable[S | F]],
        ) -> Callable[[C, AsyncSession], Awaitable[S | F]]:
            self._add(Handler(command, Mode.ONE, handler, command.answers()))
            return handler

        return register

    def handles_batch(
        self, command: type[Command[S, F]]
    ) -> Callable[
        [Callable[[Sequence[C], AsyncSession], Awaitable[Sequence[S | F | RetryLater]]]],
        Callable[[Sequence[C], AsyncSession], Awaitable[Sequence[S | F | RetryLater]]],
    ]:
        """Register `async def handler(commands, session) -> answers`: as many answers, in the same order.

        For hot paths: one query for a whole batch instead of one each. A `RetryLater` in the place of an answer
        puts that command off; nothing may have been written for it.
        """

        def register(
            handler: Callable[[Sequence[C], AsyncSession], Awaitable[Sequence[S | F | RetryLater]]],
        ) -> Callable[[Sequence[C], AsyncSession], Awaitable[Sequence[S | F | RetryLater]]]:
            self._add(Handler(command, Mode.BATCH, handler, command.answers()))
            return handler

        return register

    def handles_outside(
        self,
        command: type[Command[S, F]],
        *,
        time_limit: timedelta,
        concurrency: int = 20,
        record: Callable[[C, S | F, AsyncSession], Awaitable[None]] | None = None,
    ) -> Callable[[Callable[[C, UUID], Awaitable[S | F]]], Callable[[C, UUID], Awaitable[S | F]]]:
        """Register `async def handler(command, idempotency_key) -> answer` that talks to the outside world.

        It runs outside any transaction, at most `concurrency` at a time and `time_limit` long, with the command's
        message id as idempotency key; `record` then runs in the transaction that commits the answer. A crash in
        between repeats the call with the same key, so the other side must heed it.
        """

        def register(
            handler: Callable[[C, UUID], Awaitable[S | F]],
        ) -> Callable[[C, UUID], Awaitable[S | F]]:
            answers = command.answers()
            self._add(Handler(command, Mode.OUTSIDE, handler, answers, time_limit, concurrency, record))
            return handler

        return register

    def on(
        self, event: type[E]
    ) -> Callable[[Callable[[E, AsyncSession], Awaitable[None]]], Callable[[E, AsyncSession], Awaitable[None]]]:
        """Register `async def handler(event, session) -> None`, run once for each such event."""

        def register(
            handler: Callable[[E, AsyncSession], Awaitable[None]],
        ) -> Callable[[E, AsyncSession], Awaitable[None]]:
            self._add(Handler(event, Mode.ONE, handler))
            return handler

        return register

    def on_batch(
        self, event: type[E]
    ) -> Callable[
        [Callable[[Sequence[E], AsyncSession], Awaitable[None]]],
        Callable[[Sequence[E], AsyncSession], Awaitable[None]],
    ]:
        """Register `async def handler(events, session) -> None`, run with all such events of a batch."""

        def register(
            handler: Callable[[Sequence[E], AsyncSession], Awaitable[None]],
        ) -> Callable[[Sequence[E], AsyncSession], Awaitable[None]]:
            self._add(Handler(event, Mode.BATCH, handler))
            return handler

        return register

    def commands(self) -> tuple[str, ...]:
        """Wire types of the commands answered here."""
        return self._types(Command)

    def events(self) -> tuple[str, ...]:
        """Wire types of the events reacted to here."""
        return self._types(Event)

    def answers(self) -> tuple[str, ...]:
        """Wire types of what is answered here."""
        return tuple(sorted({each.wire_type for handler in self.handlers.values() for each in handler.answers}))

    def _types(self, kind: type[Message]) -> tuple[str, ...]:
        return tuple(sorted(name for name, each in self.handlers.items() if issubclass(each.message, kind)))

    def _add(self, handler: Handler) -> None:
        message = handler.message
        if not message.wire_type:
            raise InvalidHandler(f"{handler.name}: {message.__name__} names no wire type")
        known = self.handlers.get(message.wire_type)
        if known is not None:
            raise InvalidHandler(
                f"{self.name} already handles {message.wire_type} with {known.name}; {handler.name} "
                "would never be called: register one handler a message"
            )
        if not inspect.iscoroutinefunction(handler.call):
            raise InvalidHandler(f"{handler.name} is no coroutine function; write `async def`")
        _check_parameter(handler)
        _check_answer(handler)
        for each in (message, *handler.answers):
            self._registry.add(each)
        self.handlers[message.wire_type] = handler


def _check_parameter(handler: Handler) -> None:
    """The first parameter is the registered message, or a sequence of it: a type checker cannot see a mix-up here."""
    hints = [kind for name, kind in typing.get_type_hints(handler.call).items() if name != "return"]
    if not hints:
        return
    taken = hints[0]
    if handler.mode is Mode.BATCH:
        taken = next(iter(typing.get_args(taken)), handler.message)
    if isinstance(taken, type) and not issubclass(handler.message, taken):
        raise InvalidHandler(
            f"{handler.name} takes {taken.__name__}, but is registered for {handler.message.__name__}; "
            "make them the same"
        )


def _check_answer(handler: Handler) -> None:
    answers = handler.answers
    hints = typing.get_type_hints(handler.call)
    if "return" not in hints:
        raise InvalidHandler(f"{handler.name} does not say what it answers; annotate it `-> {_names(answers)}`")
    annotated = hints["return"]
    if handler.mode is Mode.BATCH and answers:
        arguments = typing.get_args(annotated)
        if len(arguments) != 1:
            raise InvalidHandler(f"{handler.name} answers a batch; annotate it `-> Sequence[{_names(answers)}]`")
        annotated = arguments[0]
    found = set(_flatten(annotated)) - {RetryLater, Never}
    named: set[type] = set(answers) or {types.NoneType}
    if found != named:
        raise InvalidHandler(
            f"{handler.name} is annotated to answer {_names(tuple(found))}, but the contract of "
            f"{handler.message.wire_type} names {_names(answers)}; make them the same"
        )


def _flatten(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(each for part in typing.get_args(annotation) for each in _flatten(part))
    return (annotation,)


def _names(kinds: Sequence[Any]) -> str:
    return " | ".join(sorted(getattr(kind, "__name__", str(kind)) for kind in kinds)) or "None"
