"""Message, Event and Command: what a contract is made of.

A class that names a wire type is a message that can travel:

    class PaymentAuthorized(Event, type="payment.authorized", key="order_id"): ...
    class AuthorizePayment(Command[PaymentAuthorized, PaymentFailed], type="payment.authorize"): ...

The wire type is the routing key and the only name that leaves the process; a Python path never does.
The version (default 1) travels as an attribute. `key` names the field whose value orders messages: two
messages with one key leave the outbox in the order they were written. `subject` names the field that says who the
message is about: what is marked as sensitive is sealed with that person's key, where services have keys.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Generic, Never, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json

from contracts.places import sealed_for

WIRE_TYPE = re.compile(r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$")
"""`service.what_happened`, each word lower case: also a legal AMQP routing key and topic permission."""

# AMQP carries type and routing key as short strings: 255 bytes, and dead-letter reasons quote them.
MAX_WIRE_TYPE = 120


class Message(BaseModel):
    """Anything that travels between services: immutable, and deaf to fields it does not know.

    Unknown fields are ignored, so that a publisher may add one before its readers are deployed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    wire_type: ClassVar[str] = ""
    wire_version: ClassVar[int] = 1
    key_field: ClassVar[str | None] = None
    subject_field: ClassVar[str | None] = None

    @classmethod
    def __pydantic_init_subclass__(
        cls,
        *,
        type: str | None = None,
        version: int = 1,
        key: str | None = None,
        subject: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if type is None:
            if subject is not None:
                raise TypeError(f"{cls.__name__}: subject={subject!r} belongs to a class with a wire type: type='...'")
            return
        if not WIRE_TYPE.match(type) or len(type) > MAX_WIRE_TYPE:
            raise TypeError(
                f"{cls.__name__}: type={type!r} is no wire type; "
                f"write service.what_happened in lower case, at most {MAX_WIRE_TYPE} characters"
            )
        if version < 1:
            raise TypeError(f"{cls.__name__}: version={version}; versions count from 1")
        # A newer version that is made of an older one is about the same person; forgotten, it would be plain text.
        subject = subject or cls.subject_field
        for role, name in (("key", key), ("subject", subject)):
            if name is not None and name not in cls.model_fields:
                fields = ", ".join(cls.model_fields)
                raise TypeError(f"{cls.__name__}: {role}={name!r} is not one of its fields ({fields})")
        cls.wire_type = type
        cls.wire_version = version
        cls.key_field = key
        cls.subject_field = subject
        if subject is not None:
            _check_sealing(cls)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # pydantic hands the class's keywords to both hooks; ours are read in the pydantic one,
        # where the fields are complete.
        for name in ("type", "version", "key", "subject"):
            kwargs.pop(name, None)
        super().__init_subclass__(**kwargs)

    @property
    def ordering_key(self) -> str | None:
        """The value that orders this message among its like, or None where no `key` was declared."""
        if self.key_field is None:
            return None
        given = getattr(self, self.key_field)
        # An id's text costs half as much so, and is asked for several times for each message.
        return to_json(given)[1:-1].decode() if type(given) is UUID else str(given)


def _check_sealing(kind: type[Message]) -> None:
    """What can be found out where a contract is written; raises TypeError."""
    if not kind.__pydantic_complete__:  # what it mentions comes later, and whoever seals it first finds out
        return
    sealed_for(kind)


class Event(Message):
    """Something that has happened (past tense: `payment.authorized`)."""


Success_co = TypeVar("Success_co", bound=Event, covariant=True)
Failure_co = TypeVar("Failure_co", bound=Event, covariant=True)


class Command(Message, Generic[Success_co, Failure_co]):
    """A request to one participant (imperative: `payment.authorize`).

    It names in its type the event that means success and the one that means a business refusal;
    `Never` in the second place says that it cannot be refused, which is what a compensation and
    every step after the pivot must be.
    """

    success_type: ClassVar[type[Event] | None] = None
    failure_type: ClassVar[type[Event] | None] = None

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for base in cls.__mro__:
            metadata = base.__dict__.get("__pydantic_generic_metadata__")
            if metadata and metadata["origin"] is Command:
                success, failure = metadata["args"]
                break
        else:
            if cls.wire_type:
                raise TypeError(
                    f"{cls.__name__}: say what answers it: Command[Success, Failure], "
                    "or Command[Success, Never] where it cannot be refused"
                )
            return
        if isinstance(success, TypeVar) or isinstance(failure, TypeVar):
            return
        cls.success_type = success
        cls.failure_type = None if failure is Never else failure

    @classmethod
    def answers(cls) -> tuple[type[Event], ...]:
        """The event classes that answer this command, success first."""
        return tuple(kind for kind in (cls.success_type, cls.failure_type) if kind is not None)
