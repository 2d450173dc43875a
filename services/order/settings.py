"""What the order service reads from its environment, beside what every service reads."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from messaging.settings import ServiceSettings


class OrderSettings(ServiceSettings):
    """Settings of `python -m services.order`."""

    service: ClassVar[str] = "order"

    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8001, validation_alias="PORT", description="HTTP port to bind; 0 picks a free one."
    )
    default_stock: Annotated[int, Field(ge=0, lt=2**63)] | None = Field(
        default=20_000,
        validation_alias="ORDER_DEFAULT_STOCK",
        description="How many of a sku nobody has counted yet are on hand. Set it to nothing "
        "(ORDER_DEFAULT_STOCK=) to refuse orders for unknown skus.",
    )

    @field_validator("default_stock", mode="before")
    @classmethod
    def _nothing_is_none(cls, value: object) -> object:
        # An environment variable has no other way to say None.
        return None if isinstance(value, str) and not value.strip() else value
