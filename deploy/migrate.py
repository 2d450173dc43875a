"""python -m deploy.migrate [SERVICE ...]: bring the tables of the services to head, and end.

The services are orchestrator, order and payment. ORCHESTRATOR_DATABASE_URL, ORDER_DATABASE_URL and
PAYMENT_DATABASE_URL say where their databases are (or name a file: ORDER_DATABASE_URL_FILE). Without a word it does
all that are set. For a service that is named and whose own is not set, DATABASE_URL counts, as it does for the service.
Beside them there are the keys of persons, `subjects`, in AMENDS_SUBJECT_KEYS. Here, and nowhere else, a role is needed
that may change tables. AMENDS_APP_ROLE, AMENDS_PRUNE_ROLE and, for subjects, AMENDS_ERASE_ROLE name the roles that are
granted what they need (SERVICE, SERVICE_prune: the word stands for each service's name).

Exit codes: 0 all are at head, 2 usage, 69 a database is not there, 78 a setting is missing or wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

import typer
from pydantic import Field, SecretStr, field_validator

from messaging.commandline import bring_to_head, run_migrations
from messaging.privileges import Roles
from messaging.process import EX_CONFIG, load
from messaging.program import run
from messaging.settings import ServiceSettings
from messaging.subjects.settings import HISTORY, SubjectsSettings
from orchestrator.assembly import MIGRATIONS as ORCHESTRATOR
from orchestrator.settings import OrchestratorSettings
from services.order.assembly import MIGRATIONS as ORDER
from services.order.settings import OrderSettings
from services.payment.assembly import MIGRATIONS as PAYMENT
from services.payment.settings import PaymentSettings

_NOT_SET = SecretStr("")


class _Databases(ServiceSettings):
    """Where each service's database is, in a process that needs several."""

    orchestrator_url: SecretStr = Field(default=_NOT_SET, validation_alias="ORCHESTRATOR_DATABASE_URL")
    order_url: SecretStr = Field(default=_NOT_SET, validation_alias="ORDER_DATABASE_URL")
    payment_url: SecretStr = Field(default=_NOT_SET, validation_alias="PAYMENT_DATABASE_URL")

    @field_validator("orchestrator_url", "order_url", "payment_url")
    @classmethod
    def _known_databases(cls, value: SecretStr | None) -> SecretStr | None:
        return cls._known_database(value)


MIGRATIONS: Mapping[str, str] = {"orchestrator": ORCHESTRATOR, "order": ORDER, "payment": PAYMENT}
_ITSELF: Mapping[str, type[ServiceSettings]] = {
    "orchestrator": OrchestratorSettings,
    "order": OrderSettings,
    "payment": PaymentSettings,
}


def databases() -> dict[str, ServiceSettings]:
    """Settings with the database of each service whose own variable is set. Ends the process with 78 where one is
    wrong.
    """
    found = load(_Databases)
    urls = {"orchestrator": found.orchestrator_url, "order": found.order_url, "payment": found.payment_url}
    return {
        name: found.model_copy(update={"database_url": url, **_roles(found, name)})
        for name, url in urls.items()
        if url.get_secret_value()
    }


def _roles(found: ServiceSettings, service: str) -> dict[str, str | None]:
    """Each service has roles of its own: SERVICE in AMENDS_APP_ROLE and AMENDS_PRUNE_ROLE stands for its name."""
    given = {"app_role": found.app_role, "prune_role": found.prune_role}
    return {name: _of(service, role) for name, role in given.items()}


def _of(service: str, role: str | None) -> str | None:
    return role and role.replace("SERVICE", service)


SUBJECTS = "subjects"


def _keys_of_persons() -> SubjectsSettings:
    found = load(SubjectsSettings)
    return found.model_copy(update={name: _of(SUBJECTS, getattr(found, name)) for name in ("app_role", "erase_role")})


def _of_itself(service: str) -> list[ServiceSettings]:
    """What the service would read itself; several where its sagas are spread over shards."""
    found = load(_ITSELF[service])
    return [*found.each_shard()] if isinstance(found, OrchestratorSettings) else [found]


app = typer.Typer(help="Bring the tables of the services to head.", rich_markup_mode=None)


@app.command()
def migrate(
    services: Annotated[
        list[str] | None, typer.Argument(metavar="[SERVICE ...]", help="orchestrator, order, payment, subjects.")
    ] = None,
) -> None:
    """Bring the tables of these services to head; safe to run again, and beside services that run.

    Example: ORDER_DATABASE_URL=postgresql://order_owner@localhost/order python -m deploy.migrate
    """
    named = tuple(dict.fromkeys(services or ()))
    known = (*MIGRATIONS, SUBJECTS)
    for name in named:
        if name not in known:
            print(f"{name} is no service; name some of {', '.join(known)}, or none", file=sys.stderr)
            raise typer.Exit(2)
    here = databases()
    wanted = [
        (settings, MIGRATIONS[name])
        for name in named or here
        if name != SUBJECTS
        for settings in ([here[name]] if name in here else _of_itself(name))
    ]
    keys = _keys_of_persons()
    if SUBJECTS in named and not keys.database:
        print("nobody says where the keys of persons are: set AMENDS_SUBJECT_KEYS", file=sys.stderr)
        raise typer.Exit(EX_CONFIG)
    with_keys = SUBJECTS in named or (not named and bool(keys.database))
    if not wanted and not with_keys:
        variables = ", ".join(f"{name.upper()}_DATABASE_URL" for name in MIGRATIONS)
        print(f"no database is named: set {variables}, or name a service and set DATABASE_URL", file=sys.stderr)
        raise typer.Exit(EX_CONFIG)
    for settings, migrations in wanted:
        run_migrations(settings, [migrations])
    if with_keys:
        bring_to_head(keys, [HISTORY], Roles(keys.app_role, erase=keys.erase_role))


if __name__ == "__main__":
    run("python -m deploy.migrate", app)
