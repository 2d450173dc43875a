"""python -m services.order: run the service; `migrate` its tables; `place` orders from a file."""

from __future__ import annotations

from messaging import interrupts

if __name__ == "__main__":
    # What follows takes a second to load, in which Ctrl-C must not end in a traceback.
    interrupts.end_at_once()

from messaging.commandline import service_commands
from messaging.program import run
from services.order.assembly import MIGRATIONS, order_service
from services.order.place import place
from services.order.settings import OrderSettings

app = service_commands(OrderSettings, order_service, [MIGRATIONS], help="The order service.")
app.command()(place)

if __name__ == "__main__":
    run("python -m services.order", app)
