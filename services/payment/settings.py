"""What the payment service reads from its environment, beside what every service does."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, ClassVar

from pydantic import AnyHttpUrl, Field, SecretStr, field_validator

from messaging.settings import ServiceSettings


class PaymentSettings(ServiceSettings):
    """The payment service's settings. Money is in minor units (cents)."""

    service: ClassVar[str] = "payment"

    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8002, validation_alias="PORT", description="HTTP port to bind; 0 picks a free one."
    )
    default_credit_limit: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        default=50_000,
        validation_alias="PAYMENT_DEFAULT_CREDIT_LIMIT",
        description="Credit limit, in minor units of the order's currency, of an account opened on demand.",
    )
    gateway_url: AnyHttpUrl | None = Field(
        default=None,
        validation_alias="PAYMENT_GATEWAY_URL",
        description="The card gateway; without it payments are kept in the service's own ledger.",
    )
    gateway_token: SecretStr | None = Field(
        default=None,
        validation_alias="PAYMENT_GATEWAY_TOKEN",
        description="Sent to the gateway as a bearer token.",
    )
    gateway_time_limit: timedelta = Field(
        default=timedelta(seconds=10),
        validation_alias="PAYMENT_GATEWAY_TIME_LIMIT",
        description="Seconds one command may spend on the gateway, repetitions included; then it is put off.",
    )

    @field_validator("gateway_time_limit", mode="before")
    @classmethod
    def _as_seconds(cls, value: object) -> object:
        # pydantic reads a bare number in an environment variable as ISO 8601; people mean seconds.
        if isinstance(value, str) and value.replace(".", "", 1).isdigit():
            return timedelta(seconds=float(value))
        return value

    @field_validator("gateway_time_limit")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            raise ValueError("must be longer than zero seconds")
        return value
