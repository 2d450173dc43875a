"""What values are made with of which there are many: a state, a fact, an input; an envelope, a delivery."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """A dataclass with slots that nobody changes: type checkers refuse it, and nothing here is ever changed.

    At run time it is not frozen. A frozen dataclass sets each of its fields through `object.__setattr__`, which makes
    it four times as dear, and ten values are made for every transition of every history that is replayed, as many for
    every message that comes in and is answered.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


@dataclass_transform(eq_default=False, frozen_default=True, field_specifiers=(field,))
def occurrence(cls: type[T]) -> type[T]:
    """The same for what is equal to nothing but itself, and hashed so: a delivery in hand, however like another."""
    return dataclass(slots=True, eq=False)(cls)
