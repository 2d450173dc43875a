"""Which class reads a wire type and version, and how an older version becomes the newest.

A registry is a value that is built where a process is wired, from the messages it speaks;
there is no global one, so two teams' test suites can each have an `order.created`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from contracts.message import Message
from contracts.places import holds_token, misplaced, nameless

Old = TypeVar("Old", bound=Message)
New = TypeVar("New", bound=Message)


class UnknownMessage(Exception):
    """Nobody here speaks this wire type, or not this version of it."""


class InvalidMessage(Exception):
    """The data does not fit the contract it claims to follow."""


@dataclass(frozen=True)
class Upcaster(Generic[Old, New]):
    """A pure function from one version of a message to a later one of the same wire type."""

    source: type[Old]
    target: type[New]
    convert: Callable[[Old], New]

    def __post_init__(self) -> None:
        same_type = self.source.wire_type == self.target.wire_type
        if not same_type or self.source.wire_version >= self.target.wire_version:
            raise TypeError(
                f"an upcaster leads from an older to a newer version of one wire type, not from "
                f"{self.source.wire_type} v{self.source.wire_version} to "
                f"{self.target.wire_type} v{self.target.wire_version}"
            )


class Registry:
    """Wire type and version to class.

    Raises TypeError where two classes claim one wire type and version, or a message names none.
    """

    def __init__(
        self,
        messages: Iterable[type[Message]] = (),
        upcasters: Iterable[Upcaster[Any, Any]] = (),
    ) -> None:
        self._classes: dict[tuple[str, int], type[Message]] = {}
        self._upcasters: dict[tuple[str, int], Upcaster[Any, Any]] = {}
        self._opened_later = False
        for message in messages:
            self.add(message)
        for upcaster in upcasters:
            self.add(upcaster.source)
            self.add(upcaster.target)
            self._upcasters[upcaster.source.wire_type, upcaster.source.wire_version] = upcaster

    def add(self, message: type[Message]) -> None:
        """Make one more message class known; adding a class twice changes nothing."""
        if not message.wire_type:
            raise TypeError(f"{message.__name__} names no wire type: class X(Event, type='...')")
        name = (message.wire_type, message.wire_version)
        known = self._classes.setdefault(name, message)
        if known is not message:
            raise TypeError(
                f"{name[0]} v{name[1]} is claimed by {known.__module__}.{known.__qualname__} "
                f"and {message.__module__}.{message.__qualname__}; give one another type or version"
            )

    def __contains__(self, message: type[Message]) -> bool:
        return self._classes.get((message.wire_type, message.wire_version)) is message

    def class_of(self, wire_type: str, version: int) -> type[Message] | None:
        """The class of this type and version, if it is known."""
        return self._classes.get((wire_type, version))

    def speaks(self, wire_type: str) -> bool:
        """Whether some version of this wire type is known."""
        return any(name == wire_type for name, _ in self._classes)

    def messages(self) -> tuple[type[Message], ...]:
        """Every class known, ordered by wire type and version."""
        return tuple(self._classes[name] for name in sorted(self._classes))

    def union(self, other: Registry) -> Registry:
        """A registry that knows what both know."""
        return Registry(
            (*self.messages(), *other.messages()),
            (*self._upcasters.values(), *other._upcasters.values()),
        )

    def opened_later(self) -> Registry:
        """The same for whoever opens messages once they are read: what is sealed is parsed as it was written.

        Upcasters get what they were written for only then. What is added to this one later, that one knows too.
        """
        found = Registry()
        found._classes, found._upcasters, found._opened_later = self._classes, self._upcasters, True
        return found

    def parse(self, wire_type: str, version: int, data: object) -> Message:
        """`data` (parsed JSON) as a message of the newest version an upcaster leads to.

        Raises UnknownMessage where nobody speaks this type and version, and InvalidMessage,
        naming the fields, where the data does not fit, or something is sealed in it that would not open there.
        """
        message = self.as_written(wire_type, version, data)
        if self._opened_later and message.subject_field is not None and holds_token(data):
            return message
        try:
            while upcaster := self._upcasters.get((wire_type, message.wire_version)):
                message = upcaster.convert(message)
        except ValidationError as error:
            raise InvalidMessage(f"{wire_type} v{version}: {in_words(error)}") from error
        except Exception as error:
            raise InvalidMessage(f"{wire_type} v{version}: {type(error).__name__}: {error}") from error
        return message

    def as_written(self, wire_type: str, version: int, data: object) -> Message:
        """The same of the version that it was written in. Raises what `parse` raises."""
        cls = self.class_of(wire_type, version)
        if cls is None:
            versions = sorted(known for name, known in self._classes if name == wire_type)
            if versions:
                raise UnknownMessage(
                    f"{wire_type} v{version} is not known here, only "
                    f"{', '.join(f'v{known}' for known in versions)}; deploy the reader that knows it, "
                    "then redrive"
                )
            raise UnknownMessage(f"{wire_type} is not a message this process knows")
        try:
            message = cls.model_validate(data)
            wrong = nameless(message) or (None if cls.subject_field is None else misplaced(cls, data))
        except ValidationError as error:
            raise InvalidMessage(f"{wire_type} v{version}: {in_words(error)}") from error
        except Exception as error:
            raise InvalidMessage(f"{wire_type} v{version}: {type(error).__name__}: {error}") from error
        if wrong is not None:
            raise InvalidMessage(wrong)
        return message


def in_words(error: ValidationError) -> str:
    """What does not fit, by field, in one line that quotes no value."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    words = [f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in problems[:5]]
    if len(problems) > len(words):
        words.append(f"and {len(problems) - len(words)} more")
    return "; ".join(words)
