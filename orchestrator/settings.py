"""What the orchestrator reads from its environment."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from messaging.settings import MOST_LANES, ServiceSettings
from orchestrator import partitioning
from orchestrator.catalog import DEFAULT_MODULE
from orchestrator.sharding import ALONE, Placement


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

    lanes: Annotated[int, Field(ge=1, le=MOST_LANES)] = Field(
        default=2,
        validation_alias="AMENDS_LANES",
        description="Transactions at a time in one process, of different instances; on SQLite always 1.",
    )
    partitions: Annotated[int, Field(ge=1, le=partitioning.MOST)] | None = Field(
        default=None,
        validation_alias="AMENDS_PARTITIONS",
        description="Queues that events are spread over by correlation id; the broker needs the plugin "
        "rabbitmq_consistent_hash_exchange. Unset: one queue. Set to 1 to go back to one.",
    )

    shards: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        validation_alias="AMENDS_SHARDS",
        description="The databases that sagas are spread over by their id, separated by commas, in an order that "
        "stays; instead of DATABASE_URL.",
    )
    shard: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        validation_alias="AMENDS_SHARD",
        description="Which of AMENDS_SHARDS this process belongs to, from 0. For commands: the only one to look into.",
    )

    @field_validator("shards")
    @classmethod
    def _known_shards(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for each in value:
            cls._known_database(each)
        if len({each.get_secret_value() for each in value}) < len(value):
            raise ValueError("it names a database twice; each shard has one of its own")
        return value

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.shard is not None and self.shard >= max(len(self.shards), 1):
            raise ValueError(f"AMENDS_SHARD={self.shard}, but AMENDS_SHARDS names {len(self.shards)} databases")
        if self.shards and self.database_url.get_secret_value():
            raise ValueError("both DATABASE_URL and AMENDS_SHARDS say where sagas lie; unset one of them")
        if self.shards and self.in_memory:
            raise ValueError("AMENDS_SHARDS needs a broker: set AMQP_URL=amqp://user:password@host:5672/")
        return self

    @property
    def database(self) -> str:
        if self.shards:
            return self.shards[self.shard or 0].get_secret_value()
        return super().database

    @property
    def named_database(self) -> str:
        return "" if self.shards else super().named_database

    @property
    def placement(self) -> Placement:
        """Which shard this process belongs to."""
        return Placement(self.shard or 0, len(self.shards)) if self.shards else ALONE

    def each_shard(self) -> list[OrchestratorSettings]:
        """These settings for each shard, or for the one that is chosen; just these where there are none."""
        if not self.shards or self.shard is not None:
            return [self]
        return [self.model_copy(update={"shard": number}) for number in range(len(self.shards))]

    @field_validator("sagas", "accept_changed", "shards", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        return cls._by_commas(value)

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
