"""python -m services.order: run the service; `migrate` its tables; `place` orders from a file."""

from __future__ import annotations

from messaging.commandline import service_commands
from services.order.assembly import MIGRATIONS, order_service
from services.order.place import place
from services.order.settings import OrderSettings

app = service_commands(OrderSettings, order_service, [MIGRATIONS], help="The order service.")
app.command()(place)

if __name__ == "__main__":
    app()
