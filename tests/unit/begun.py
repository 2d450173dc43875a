"""A recorded instance of the made-up domain that has begun at noon."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self

from orchestrator.saga.definition import Saga
from tests.unit.play import NOON
from tests.unit.recording import Recording
from tests.unit.work import Begun


class RecordedPlay(Recording):
    """Number `key` of a saga, started."""

    def __init__(self, saga: Saga[Any], key: int) -> None:
        super().__init__(saga, key)
        self.event(Begun(id=key))

    def at(self, seconds: float) -> Self:
        """Let the time be so many seconds after noon."""
        self.now = NOON + timedelta(seconds=seconds)
        return self
