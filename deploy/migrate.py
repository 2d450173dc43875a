"""python -m deploy.migrate [SERVICE ...]: bring the tables of the services to head, and end.

The services are orchestrator, order and payment. ORCHESTRATOR_DATABASE_URL, ORDER_DATABASE_URL and
PAYMENT_DATABASE_URL say where their databases are (or name a file: ORDER_DATABASE_URL_FILE). Without a word it does
all that are set. For a service that is named and whose own is not set, DATABASE_URL counts, as it does for the service.
Here, and nowhere else, a role is needed that may change tables.

Exit codes: 0 all are at head, 2 usage, 69 a database is not there, 78 a setting is missing or wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from pydantic import Field, SecretStr

from messaging.commandline import run_migrations
from messaging.process import EX_CONFIG, load
from messaging.program import run
from messaging.settings import ServiceSettings
from orchestrator.assembly import MIGRATIONS as ORCHESTRATOR
from orchestrator.settings import OrchestratorSettings
from services.order.assembly import MIGRATIONS as ORDER
from services.order.settings import OrderSettings
from services.payment.assembly import MIGRATIONS as PAYMENT
from services.payment.settings import PaymentSettings

_NOT_SET = SecretStr("")


class _OrchestratorTables(ServiceSettings):
    database_url: SecretStr = Field(default=_NOT_SET, validation_alias="ORCHESTRATOR_DATABASE_URL")


class _OrderTables(ServiceSettings):
    database_url: SecretStr = Field(default=_NOT_SET, validation_alias="ORDER_DATABASE_URL")


class _PaymentTables(ServiceSettings):
    database_url: SecretStr = Field(default=_NOT_SET, validation_alias="PAYMENT_DATABASE_URL")


@dataclass(frozen=True, slots=True)
class _Tables:
    """A service's history of tables, and the settings that say where its database is: here, and for itself."""

    migrations: str
    here: type[ServiceSettings]
    itself: type[ServiceSettings]

    def wanted(self, *, named: bool) -> Sequence[ServiceSettings]:
        """The databases to bring to head; none where the service is not `named` and nothing says where it is."""
        here = load(self.here)
        if here.database_url.get_secret_value():
            return [here]
        if not named:
            return []
        itself = load(self.itself)
        return itself.each_shard() if isinstance(itself, OrchestratorSettings) else [itself]


TABLES: Mapping[str, _Tables] = {
    "orchestrator": _Tables(ORCHESTRATOR, _OrchestratorTables, OrchestratorSettings),
    "order": _Tables(ORDER, _OrderTables, OrderSettings),
    "payment": _Tables(PAYMENT, _PaymentTables, PaymentSettings),
}

app = typer.Typer(help="Bring the tables of the services to head.", rich_markup_mode=None)


@app.command()
def migrate(
    services: Annotated[
        list[str] | None, typer.Argument(metavar="[SERVICE ...]", help="orchestrator, order, payment.")
    ] = None,
) -> None:
    """Bring the tables of these services to head; safe to run again, and beside services that run.

    Example: ORDER_DATABASE_URL=postgresql://order_owner@localhost/order python -m deploy.migrate
    """
    named = tuple(dict.fromkeys(services or ()))
    for name in named:
        if name not in TABLES:
            print(f"{name} is no service; name some of {', '.join(TABLES)}, or none", file=sys.stderr)
            raise typer.Exit(2)
    found = [
        (each, TABLES[name].migrations)
        for name in named or TABLES
        for each in TABLES[name].wanted(named=name in named)
    ]
    if not found:
        variables = ", ".join(f"{name.upper()}_DATABASE_URL" for name in TABLES)
        print(f"no database is named: set {variables}, or name a service and set DATABASE_URL", file=sys.stderr)
        raise typer.Exit(EX_CONFIG)
    for settings, migrations in found:
        run_migrations(settings, [migrations])


if __name__ == "__main__":
    run("python -m deploy.migrate", app)
