"""States that this process has read or written, by the texts they lie in: a batch need not read again what the last
one wrote.

Nothing is believed of a row because of it. The row is locked and read as ever; where its texts are to the letter those
of the last time, what they say is known. So it does not matter who has written the row since, whether our own
transaction was rolled back, or whether a person has changed the row by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from orchestrator.saga.definition import Saga
from orchestrator.saga.state import SagaState

MOST = 4096
"""Instances remembered: more than are under way between two batches of one of them, unless participants fall behind.

With 400 characters of texts each takes 3 KB, all of them 12 MiB.
"""
MOST_CHARACTERS = 4 * 1024 * 1024
"""Of the texts of all of them, where they are longer than usual; the states that these say take several times as much
memory.
"""


@dataclass(frozen=True, slots=True)
class Texts:
    """What a row of `saga` says of its state."""

    status: str
    reason: str
    data: str
    progress: str


class Remembered:
    """The states of the instances that were moved last."""

    def __init__(self, most: int = MOST, most_characters: int = MOST_CHARACTERS) -> None:
        self._most = most
        self._most_characters = most_characters
        self._characters = 0
        self._known: dict[UUID, tuple[Saga[Any], Texts, SagaState]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def take(self, identity: UUID, saga: Saga[Any], texts: Texts) -> SagaState | None:
        """What these texts say to this definition, if they are what was kept; it has to be kept again afterwards."""
        found = self._known.pop(identity, None)
        if found is None:
            return None
        self._characters -= _length(found[1])
        return found[2] if found[0] is saga and found[1] == texts else None

    def keep(self, identity: UUID, saga: Saga[Any], texts: Texts, state: SagaState) -> None:
        """Remember that a row with these texts says this to this definition."""
        before = self._known.pop(identity, None)
        if before is not None:
            self._characters -= _length(before[1])
        self._known[identity] = (saga, texts, state)
        self._characters += _length(texts)
        while len(self._known) > self._most or self._characters > self._most_characters:
            oldest = next(iter(self._known))
            self._characters -= _length(self._known.pop(oldest)[1])


def _length(texts: Texts) -> int:
    return len(texts.reason) + len(texts.data) + len(texts.progress)
