"""python -m services.payment: run the service; `migrate` its tables."""

from __future__ import annotations

from messaging import interrupts, loading

if __name__ == "__main__":
    # What follows takes a while to load, in which Ctrl-C must not end in a traceback.
    interrupts.end_at_once()

with loading.uncollected():
    from messaging.commandline import service_commands
    from messaging.program import run
    from services.payment.assembly import MIGRATIONS, payment_service
    from services.payment.settings import PaymentSettings

app = service_commands(PaymentSettings, payment_service, [MIGRATIONS], help="The payment service.")

if __name__ == "__main__":
    run("python -m services.payment", app)
