"""What a process reads from its environment. Every variable can also come from a file: NAME_FILE."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from messaging.clock import SystemClock
from messaging.database import missing_directory, with_async_driver
from messaging.environment import FromFiles
from messaging.keys import PrivateKey, UnusableKey, private_key, public_keys, require_library
from messaging.senders import Senders
from messaging.topology import QueueType

MOST_LANES = 8
"""More have never been of use: each has a connection, and a batch in memory."""
MEMORY = "memory://"
"""The AMQP_URL of the embedded mode: no broker, the exchange lives in the process."""


class ServiceSettings(BaseSettings):
    """What every service needs. A service adds its own in a subclass, with its own defaults."""

    model_config = SettingsConfigDict(
        env_file=None, extra="ignore", populate_by_name=True, frozen=True, hide_input_in_errors=True
    )
    service: ClassVar[str] = "service"
    database_variable: ClassVar[str] = "DATABASE_URL"
    """What says where `database` is."""

    database_url: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="DATABASE_URL",
        description="Where this service keeps its rows: postgresql://user:password@host/name, or "
        "sqlite:///file (the default: a file named after the service, in the working directory).",
    )
    amqp_url: SecretStr = Field(
        default=SecretStr("amqp://guest:guest@127.0.0.1:5672/"),
        validation_alias="AMQP_URL",
        description="The broker: amqp://user:password@host:port/vhost; memory:// only inside one process.",
    )
    host: str = Field(default="127.0.0.1", validation_alias="HOST", description="HTTP address to bind.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8000, validation_alias="PORT", description="HTTP port to bind; 0 picks a free one."
    )
    health_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        default=None,
        validation_alias="AMENDS_HEALTH_PORT",
        description="A second HTTP port, without TLS, for /healthz, /readyz and what else is nobody's secret, where "
        "probes have no certificate.",
    )
    http_certificate: Path | None = Field(
        default=None,
        validation_alias="AMENDS_HTTP_CERTIFICATE",
        description="A file with the certificate, and those between it and its CA: HTTP is HTTPS then.",
    )
    http_key: Path | None = Field(
        default=None, validation_alias="AMENDS_HTTP_KEY", description="A file with the certificate's key."
    )
    http_client_ca: Path | None = Field(
        default=None,
        validation_alias="AMENDS_HTTP_CLIENT_CA",
        description="A file with the CA's certificate: only clients with one of its certificates are served.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", validation_alias="AMENDS_LOG_LEVEL", description="Least level that is logged."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto",
        validation_alias="AMENDS_LOG_FORMAT",
        description="json: one object a line; console: for people; auto: console on a terminal.",
    )
    batch_size: Annotated[int, Field(ge=1, le=5000)] = Field(
        default=500,
        validation_alias="AMENDS_BATCH_SIZE",
        description="Most messages in one transaction; below it the size adapts. A batch is never waited for.",
    )
    lanes: Annotated[int, Field(ge=1, le=MOST_LANES)] = Field(
        default=1,
        validation_alias="AMENDS_LANES",
        description="Transactions at a time in one process, for different keys; on SQLite always 1.",
    )
    queue_type: QueueType = Field(
        default=QueueType.QUORUM,
        validation_alias="AMENDS_QUEUE_TYPE",
        description="quorum (replicated, the default) or classic.",
    )
    passive_topology: bool = Field(
        default=False,
        validation_alias="AMENDS_TOPOLOGY_PASSIVE",
        description="Only check exchanges and queues, because an operator owns them.",
    )
    check_senders: bool = Field(
        default=False,
        validation_alias="AMENDS_CHECK_SENDERS",
        description="Refuse what comes from a user of the broker who may not say it; for a broker with a user a "
        "service.",
    )
    senders: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        validation_alias="AMENDS_SENDERS",
        description="Who says what, where the user is not called like the type's first word: TYPE=USER, separated by "
        "commas (flight=travel).",
    )
    signing: Literal["off", "sign", "require"] = Field(
        default="off",
        validation_alias="AMENDS_SIGNING",
        description="sign: every message leaves with a signature; require: what comes without a good one is refused, "
        "too.",
    )
    signing_key: SecretStr | None = Field(
        default=None,
        validation_alias="AMENDS_SIGNING_KEY",
        description="The private key, as `amends keys new` writes it; mount it, and set AMENDS_SIGNING_KEY_FILE.",
    )
    keys: Path | None = Field(
        default=None,
        validation_alias="AMENDS_PUBLIC_KEYS",
        description="The public keys of all services: a folder of *.json, or a file with a JSON Web Key Set.",
    )
    subject_keys: SecretStr | None = Field(
        default=None,
        validation_alias="AMENDS_SUBJECT_KEYS",
        description="The database of the keys of persons, with which sensitive fields are sealed: a URL like "
        "DATABASE_URL's. The orchestrator needs none.",
    )
    master_keys: Path | None = Field(
        default=None,
        validation_alias="AMENDS_MASTER_KEYS",
        description="The master keys that those keys are wrapped by: a folder of *.json, or a file.",
    )
    master_key_id: str | None = Field(
        default=None,
        validation_alias="AMENDS_MASTER_KEY_ID",
        description="Which of several master keys wraps what is made from now on.",
    )
    make_subject_keys: bool = Field(
        default=True,
        validation_alias="AMENDS_MAKE_SUBJECT_KEYS",
        description="Whether this process may make keys of persons; without, it opens what is sealed, seals for who "
        "has a key, and needs no more of that database than SELECT.",
    )
    outbox_grace: timedelta = Field(
        default=timedelta(seconds=10),
        validation_alias="AMENDS_OUTBOX_GRACE",
        description="Seconds a committed row is left to the process that wrote it before any sweeper takes it.",
    )
    start_timeout: timedelta = Field(
        default=timedelta(seconds=60),
        validation_alias="AMENDS_START_TIMEOUT",
        description="Seconds to wait for broker and database at start before exit code 69.",
    )
    drain_timeout: timedelta = Field(
        default=timedelta(seconds=25),
        validation_alias="AMENDS_DRAIN_TIMEOUT",
        description="Seconds SIGTERM leaves for finishing what was begun.",
    )
    migrate_on_start: bool | None = Field(
        default=None,
        validation_alias="AMENDS_MIGRATE_ON_START",
        description="Bring the tables to head at start; by default only for SQLite.",
    )

    app_role: str | None = Field(
        default=None,
        validation_alias="AMENDS_APP_ROLE",
        description="For `migrate` on PostgreSQL: the role that the service connects as, to be granted what it needs.",
    )
    prune_role: str | None = Field(
        default=None,
        validation_alias="AMENDS_PRUNE_ROLE",
        description="For `migrate` on PostgreSQL: the role that `prune` connects as.",
    )
    erase_role: str | None = Field(
        default=None,
        validation_alias="AMENDS_ERASE_ROLE",
        description="For `amends subjects migrate` on PostgreSQL: the role that erases persons.",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _unset(cls, value: object, field: ValidationInfo) -> object:
        # An environment variable has no other way to say None.
        optional = field.field_name is not None and cls.model_fields[field.field_name].default is None
        return None if optional and isinstance(value, str) and not value.strip() else value

    @field_validator("outbox_grace", "start_timeout", "drain_timeout", mode="before")
    @classmethod
    def _seconds(cls, value: object) -> object:
        # pydantic reads a bare number in an environment variable as ISO 8601; people mean seconds.
        if isinstance(value, str) and value.replace(".", "", 1).isdigit():
            return timedelta(seconds=float(value))
        return value

    @field_validator("senders", mode="before")
    @classmethod
    def _by_commas(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("senders")
    @classmethod
    def _sensible_senders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        Senders.parse(value)
        return value

    @field_validator("database_url", "subject_keys")
    @classmethod
    def _known_database(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and value.get_secret_value():
            missing = missing_directory(with_async_driver(value.get_secret_value()))
            if missing is not None:
                raise ValueError(f"there is no directory {missing}; make it, or name a file in another one")
        return value

    @model_validator(mode="after")
    def _usable_keys(self) -> Self:
        own = self.own_key
        if own is None:
            return self
        require_library()
        if self.signing == "require":
            known = public_keys(self._public_keys).get(own.id)
            if known is None or (known.public, known.service) != (own.public, own.service):
                raise ValueError(
                    f"the public half of this service's own key {own.id!r} is not in {self.keys}, so nobody would read "
                    "what it signs; publish that first"
                )
            if known.is_retired(SystemClock().now()):
                raise ValueError(f"this service's own key {own.id!r} is retired by {self.keys}; sign with a newer one")
        return self

    @property
    def database(self) -> str:
        """The database URL, with the service's own SQLite file where none was named."""
        return self.database_url.get_secret_value() or f"sqlite:///{self.service}.db"

    @property
    def named_database(self) -> str:
        """What DATABASE_URL stands for, where nothing else does."""
        return self.database

    @property
    def allowed(self) -> Senders | None:
        """Who may say what, and by which proof; None where nobody looks. Raises UnusableKey."""
        if self.signing == "require":
            # Where nobody signs, nobody loads what it takes.
            from messaging.signing import Verifier

            verifier = Verifier(public_keys(self._public_keys), SystemClock().now)
            return Senders.parse(self.senders, signatures=verifier, by_user=self.check_senders)
        return Senders.parse(self.senders) if self.check_senders else None

    @property
    def own_key(self) -> PrivateKey | None:
        """What this process signs with; None where it does not. Raises UnusableKey."""
        if self.signing == "off":
            return None
        if self.signing_key is None:
            raise UnusableKey(
                f"AMENDS_SIGNING={self.signing} needs this service's private key: name its file in "
                "AMENDS_SIGNING_KEY_FILE (`amends keys new` makes one)"
            )
        return private_key(self.signing_key.get_secret_value())

    @property
    def _public_keys(self) -> Path:
        if self.keys is None:
            raise UnusableKey(
                "AMENDS_SIGNING=require needs the public keys of all services: name their folder in AMENDS_PUBLIC_KEYS"
            )
        return self.keys

    @property
    def in_memory(self) -> bool:
        """Whether the exchange lies in this process, shared by all its services."""
        return self.amqp_url.get_secret_value() == MEMORY

    @property
    def migrates(self) -> bool:
        if self.migrate_on_start is None:
            return self.database.startswith("sqlite")
        return self.migrate_on_start

    @property
    def migrates_subject_keys(self) -> bool:
        """The same of the table of the keys of persons."""
        if self.migrate_on_start is None:
            return self.subject_keys is not None and self.subject_keys.get_secret_value().startswith("sqlite")
        return self.migrate_on_start

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, FromFiles(settings_cls)
