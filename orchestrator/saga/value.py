"""What the machine's values are made with: a state, a fact, an input, a message to be sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """A dataclass with slots that nobody changes: type checkers refuse it, and nothing here is ever changed.

    At run time it is not frozen. A frozen dataclass sets each of its fields through `object.__setattr__`, which makes
    it four times as dear, and ten values are made for every transition of every history that is replayed.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
