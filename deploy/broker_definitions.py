"""python -m deploy.broker_definitions: deploy/rabbitmq/definitions.json, for the three services; `--check` compares.

In the place of each user's password hash stands @USER@ (`@payment@`), to be replaced before RabbitMQ loads the file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from messaging.commandline import offline
from messaging.needs import Needs, of_service
from messaging.rabbitmq_definitions import definitions, users
from orchestrator import catalog
from orchestrator.assembly import orchestrator
from orchestrator.broker_needs import of_orchestrator
from orchestrator.catalog import DEFAULT_MODULE
from orchestrator.settings import OrchestratorSettings
from services.order.assembly import order_service
from services.order.settings import OrderSettings
from services.payment.assembly import payment_service
from services.payment.settings import PaymentSettings

FILE = Path(__file__).parent / "rabbitmq" / "definitions.json"
VHOST = "amends"


def needs() -> list[Needs]:
    """What the three services need, as they are without any setting."""
    central = OrchestratorSettings.model_construct()
    sagas = catalog.load([DEFAULT_MODULE])
    return [
        of_orchestrator(orchestrator(central, sagas, offline("orchestrator"))),
        of_service(order_service(OrderSettings.model_construct(), offline("order"))),
        of_service(payment_service(PaymentSettings.model_construct(), offline("payment"))),
    ]


def content() -> str:
    """The whole file."""
    found = needs()
    made = definitions(found, VHOST, {user: f"@{user}@" for user in users(found)})
    return json.dumps(made, indent=2) + "\n"


def main(arguments: list[str]) -> int:
    """Write the file; with `--check` return 1 where what is there differs."""
    wanted = content()
    if arguments == ["--check"]:
        if FILE.read_text(encoding="utf-8") == wanted:
            return 0
        print(f"amends: {FILE} is not what the services need; run python -m deploy.broker_definitions", file=sys.stderr)
        return 1
    FILE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
