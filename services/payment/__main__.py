"""python -m services.payment: run the service; `migrate` its tables."""

from __future__ import annotations

from messaging.commandline import service_commands
from services.payment.assembly import MIGRATIONS, payment_service
from services.payment.settings import PaymentSettings

app = service_commands(PaymentSettings, payment_service, [MIGRATIONS], help="The payment service.")

if __name__ == "__main__":
    app()
