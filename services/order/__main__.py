"""python -m services.order: run the service; `migrate` its tables; `place` orders from a file."""

from __future__ import annotations

from messaging import interrupts, loading

if __name__ == "__main__":
    # What follows takes a while to load, in which Ctrl-C must not end in a traceback.
    interrupts.end_at_once()

import sys

with loading.uncollected():
    from messaging.commandline import service_commands
    from messaging.program import run
    from services.order.assembly import MIGRATIONS, order_service
    from services.order.settings import OrderSettings

app = service_commands(OrderSettings, order_service, [MIGRATIONS], help="The order service.")
if __name__ != "__main__" or sys.argv[1:] not in ([], ["run"]):
    # It brings an HTTP client and pictures, which a service that starts would have to wait for.
    with loading.uncollected():
        from services.order.place import place
    app.command()(place)

if __name__ == "__main__":
    run("python -m services.order", app)
