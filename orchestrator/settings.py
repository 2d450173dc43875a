"""What the orchestrator reads from its environment."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from messaging.settings import ServiceSettings
from orchestrator import partitioning
from orchestrator.catalog import DEFAULT_MODULE


class OrchestratorSettings(ServiceSettings):
    """The orchestrator's own settings beside those of every service."""

    service: ClassVar[str] = "orchestrator"

    sagas: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(DEFAULT_MODULE,),
        validation_alias="AMENDS_SAGAS",
        description="Modules that hold the sagas, separated by commas.",
    )
    parked_patience: timedelta = Field(
        default=timedelta(days=1),
        validation_alias="AMENDS_PARKED_PATIENCE",
        description="Seconds an event nobody awaits is kept before it becomes a dead letter.",
    )
    accept_changed: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        validation_alias="AMENDS_ACCEPT_CHANGED",
        description="Definitions (name:version, separated by commas) that may differ from the one their "
        "instances in flight were started with.",
    )

    partitions: Annotated[int, Field(ge=1, le=partitioning.MOST)] | None = Field(
        default=None,
        validation_alias="AMENDS_PARTITIONS",
        description="Queues that events are spread over by correlation id; the broker needs the plugin "
        "rabbitmq_consistent_hash_exchange. Unset: one queue. Set to 1 to go back to one.",
    )

    @field_validator("sagas", "accept_changed", mode="before")
    @classmethod
    def _by_commas(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("parked_patience", mode="before")
    @classmethod
    def _patience(cls, value: Any) -> Any:
        return cls._seconds(value)


class RelaySettings(ServiceSettings):
    """What `amends relay` reads: the application's database, the broker, an HTTP port for its health."""

    service: ClassVar[str] = "relay"

    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8003, validation_alias="PORT", description="HTTP port to bind; 0 picks a free one."
    )
