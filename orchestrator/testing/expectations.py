"""What a scenario has sent and which of it was expected; and the words for what was not as expected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Never
from uuid import UUID

from contracts.message import Message
from orchestrator.saga.state import Send
from orchestrator.saga.story import times
from orchestrator.testing.differences import differences
from orchestrator.testing.playing import Moment, Playing
from orchestrator.testing.telling import listed, timeline, told


class ExpectationFailed(AssertionError):
    """The saga did not do what the test says, or the test says what cannot be; the message tells the whole story."""


@dataclass(slots=True)
class Sent:
    """A message that left, in which transition, and whether an expectation has named it."""

    send: Send
    moment: int
    expected: bool = False


class Ledger:
    """Everything sent so far. Expectations go forward through it, transition by transition."""

    def __init__(self, playing: Playing[Any]) -> None:
        self._playing = playing
        self._sent: list[Sent] = []
        self._taken_up_to = 0
        self._since = 0
        self._came = 0
        self._reached = 0
        """The transition the last expectation was of: those before it cannot be expected any more."""
        self.last: UUID | None = None
        """The message that was expected last, until something else happens."""
        self.note()

    def note(self) -> None:
        """Take down what has been sent since the last look."""
        for moment in self._playing.moments[self._taken_up_to :]:
            self._sent += [Sent(send, moment.number) for send in moment.sends]
        self._taken_up_to = len(self._playing.moments)

    def turn(self) -> None:
        """Something else is about to happen."""
        self._since = len(self._sent)
        self._came = len(self._playing.moments)
        self.last = None

    @property
    def came(self) -> Moment | None:
        """What happened last, or first of what happened while time passed; None where nothing did."""
        return self._playing.moments[self._came] if self._came < len(self._playing.moments) else None

    @property
    def sends(self) -> Sequence[Send]:
        return tuple(each.send for each in self._sent)

    def expect(self, wanted: Message | type[Message]) -> None:
        """Name a message that must have been sent; within one transition the order does not matter."""
        __tracebackhide__ = True
        candidates = [each for each in self._sent if not each.expected and each.moment >= self._reached]
        for each in candidates:
            if _matches(each.send.message, wanted):
                each.expected = True
                self._reached = each.moment
                self.last = each.send.id
                return
        self.fail(self._missing(wanted, [each.send for each in candidates]))

    def expected(self, wanted: Message | type[Message]) -> bool:
        """Whether an expectation has named such a message already."""
        return any(each.expected and _matches(each.send.message, wanted) for each in self._sent)

    def left_since(self) -> list[Send]:
        """What the last input has sent, no expectation has named, and none has passed over."""
        return [each.send for each in self._sent[self._since :] if not each.expected and each.moment >= self._reached]

    def left_over(self) -> list[Send]:
        """What no expectation has named at all; a command that was only repeated counts once."""
        named = {each.send.id for each in self._sent if each.expected}
        found = {each.send.id: each.send for each in self._sent if each.send.id not in named}
        return list(found.values())

    def fail(self, words: str) -> Never:
        """Raise ExpectationFailed with these words, and the timeline."""
        __tracebackhide__ = True
        raised = self._playing.raised
        if raised is not None:
            words += f"\nThe saga's own code has raised {type(raised).__name__}: {raised}"
        raise ExpectationFailed(f"{words}\n\n{timeline(self._playing)}") from raised

    def _missing(self, wanted: Message | type[Message], candidates: Sequence[Send]) -> str:
        lines = [f"expected   {_named(wanted)}"]
        alike = [each for each in candidates if isinstance(wanted, Message) and type(each.message) is type(wanted)]
        if alike and isinstance(wanted, Message):
            found = alike[-1].message
            lines.append(f"sent       {told(found)}")
            lines += [f"           {line}" for line in differences(wanted, found)]
            return "\n".join(lines)
        if not candidates:
            lines.append("but nothing more was sent" + self._earlier(wanted))
            return "\n".join(lines)
        lines.append("but what was sent and not expected yet is" + self._earlier(wanted) + ":")
        lines += [f"           {line}" for line in listed(candidates)]
        return "\n".join(lines)

    def _earlier(self, wanted: Message | type[Message]) -> str:
        passed = [each for each in self._sent if _matches(each.send.message, wanted)]
        if not passed:
            return ""
        if all(each.expected for each in passed):
            return f" (it was sent {times(len(passed))}, and each was expected before)"
        return " (it was sent earlier, before a message that was expected already: expect it first)"


def _matches(message: Message, wanted: Message | type[Message]) -> bool:
    return isinstance(message, wanted) if isinstance(wanted, type) else message == wanted


def _named(wanted: Message | type[Message]) -> str:
    return wanted.__name__ if isinstance(wanted, type) else told(wanted)
