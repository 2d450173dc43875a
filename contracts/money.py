"""Money: an integer of minor units and a currency, never a float."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictInt

MinorUnits = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]
"""An amount in the currency's smallest unit (cents), as wide as a BIGINT column."""


class Money(BaseModel):
    """An amount of one currency; `amount` is in minor units (2933 USD is 29.33 dollars).

    Arithmetic on two currencies raises ValueError instead of guessing a rate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    amount: MinorUnits
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]

    def __add__(self, other: Money) -> Money:
        return Money(amount=self.amount + self._same(other), currency=self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(amount=self.amount - self._same(other), currency=self.currency)

    def __str__(self) -> str:
        # ISO 4217 gives most currencies two decimals; this is for reading, never for reckoning.
        sign = "-" if self.amount < 0 else ""
        units, cents = divmod(abs(self.amount), 100)
        return f"{sign}{units}.{cents:02d} {self.currency}"

    def _same(self, other: Money) -> int:
        if other.currency != self.currency:
            raise ValueError(f"{other} and {self} are different currencies; convert one first")
        return other.amount
