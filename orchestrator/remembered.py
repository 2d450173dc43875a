"""States that this process has read or written, by the texts they lie in: a batch need not read again what the last
one wrote.

Nothing is believed of a row because of it. The row is locked and read as ever; where its texts are to the letter those
of the last time, what they say is known. So it does not matter who has written the row since, whether our own
transaction was rolled back, or whether a person has changed the row by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from orchestrator.instance import Instance
from orchestrator.saga.definition import Saga
from orchestrator.saga.state import SagaState
from orchestrator.texts import Texts

MOST = 4096
"""Instances remembered: more than are under way between two batches of one of them, unless participants fall behind.

With 400 characters of texts each takes 3.5 KB, all of them 14 MiB.
"""
MOST_CHARACTERS = 4 * 1024 * 1024
"""Of the texts of all of them, where they are longer than usual; the states that these say take several times as much
memory.
"""


class Remembered:
    """The instances that were moved last, as they were written."""

    def __init__(self, most: int = MOST, most_characters: int = MOST_CHARACTERS) -> None:
        self._most = most
        self._most_characters = most_characters
        self._characters = 0
        self._known: dict[UUID, tuple[Instance, Texts]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def last(self, identity: UUID) -> tuple[Instance, Texts] | None:
        """The instance as its row has it, if nobody has written that since; not to be changed."""
        return self._known.get(identity)

    def take(self, identity: UUID, saga: Saga[Any], texts: Texts) -> SagaState | None:
        """What these texts say to this definition, if they are what was kept; it has to be kept again afterwards."""
        found = self._known.pop(identity, None)
        if found is None:
            return None
        self._characters -= _length(found[1])
        return found[0].state if found[0].saga is saga and found[1] == texts else None

    def keep(self, written: Sequence[tuple[Instance, Texts]]) -> None:
        """Remember instances that are written, with these texts, but for those that have ended.

        Nobody changes them any more.
        """
        for instance, texts in written:
            before = self._known.pop(instance.id, None)
            self._characters -= 0 if before is None else _length(before[1])
            if instance.ended:
                continue
            instance.rest(texts)
            self._known[instance.id] = (instance, texts)
            self._characters += _length(texts)
        while len(self._known) > self._most or self._characters > self._most_characters:
            oldest = next(iter(self._known))
            self._characters -= _length(self._known.pop(oldest)[1])


def _length(texts: Texts) -> int:
    return len(texts.reason) + len(texts.data) + len(texts.progress)
