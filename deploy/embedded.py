"""All three services in one process: SQLite files, an exchange in memory, no server at all.

    python -m deploy run     until Ctrl-C
    python -m deploy demo    some forty orders, what becomes of them, and an audit of the money

The code is the same as that of the three processes; only the adapters differ. A `kill -9` loses nothing: what
was promised lies in the SQLite files, and the next start goes on with it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError

from deploy import demonstration
from messaging import interrupts, logging, process
from messaging.keys import UnusableKey
from messaging.memory_broker import MemoryBroker
from messaging.process import Running
from messaging.reached import WrongDatabase
from messaging.service import Service
from messaging.settings import MEMORY
from messaging.telemetry.configuring import CannotTrace, exporting
from orchestrator import catalog as catalogs
from orchestrator.assembly import orchestrator
from orchestrator.catalog import Catalog
from orchestrator.saga.steps import InvalidSaga
from orchestrator.settings import OrchestratorSettings
from services.order.assembly import order_service
from services.order.settings import OrderSettings
from services.payment.assembly import payment_service
from services.payment.settings import PaymentSettings

GRACE = timedelta(seconds=2)
"""Nobody else writes these files, so what an earlier process left in the outbox need not be left lying long."""

app = typer.Typer(help="All three services in one process.", rich_markup_mode=None)


def services(
    directory: Path,
    *,
    catalog: Catalog | None = None,
    port: int = 8000,
    broker: MemoryBroker | None = None,
    **given: Any,
) -> list[Service]:
    """Orchestrator, order and payment on SQLite files in `directory`, joined by one broker in memory.

    Their HTTP ports are `port` and the two after it, or any free ones for 0. `broker` is where somebody else in this
    process meets them. `given` are settings for all three, over those of the environment. Raises InvalidSaga.
    """
    directory.mkdir(parents=True, exist_ok=True)
    broker = broker or MemoryBroker()

    def common(name: str, place: int) -> dict[str, Any]:
        return {
            "port": port + place if port else 0,
            "amqp_url": SecretStr(MEMORY),
            "database_url": SecretStr(f"sqlite:///{directory / name}.db"),
            "migrate_on_start": True,
            "outbox_grace": GRACE,
        } | given

    central = process.load(OrchestratorSettings, **common("orchestrator", 0))
    order = process.load(OrderSettings, **common("order", 1))
    payment = process.load(PaymentSettings, **common("payment", 2))
    three = [
        orchestrator(central, catalog or catalogs.load(central.sagas), process.bus_of(central, "orchestrator", broker)),
        payment_service(payment, process.bus_of(payment, "payment", broker)),
        order_service(order, process.bus_of(order, "order", broker)),
    ]
    # Before any of them starts: the first to start has messages left over for the queues of the others.
    for service in three:
        broker.declare(service.topology)
    return three


@app.command()
def run(
    *,
    data: Annotated[Path, typer.Option(help="Where the SQLite files lie.")] = Path(".amends/run"),
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65533, envvar="PORT", help="Of the orchestrator; order and payment have the next two. 0: any."
        ),
    ] = 8000,
) -> None:
    """Run the three services until Ctrl-C; the next run goes on where this one stopped."""
    logging.configure("embedded", "info", "auto")

    def ready(running: Running) -> None:
        print(demonstration.addresses(running.urls, data), file=sys.stderr, flush=True)

    try:
        with exporting("amends"):
            raise typer.Exit(asyncio.run(process.serve(lambda: services(data, port=port), ready)))
    except (InvalidSaga, UnusableKey, WrongDatabase, CannotTrace, process.BadConfiguration) as error:
        structlog.get_logger().error("bad_configuration", error=str(error))
        raise typer.Exit(process.EX_CONFIG) from error


@app.command()
def demo(
    *,
    orders: Annotated[int, typer.Option(min=10, max=10_000, help="How many orders to place.")] = 40,
    data: Annotated[Path, typer.Option(help="Where the SQLite files go; what an earlier demo left is removed.")] = Path(
        ".amends/demo"
    ),
) -> None:
    """Place orders of every kind, show what becomes of them, and audit the money."""
    data.mkdir(parents=True, exist_ok=True)
    for left in (*data.glob("*.db*"), *data.glob("*.log")):
        left.unlink()
    hasty = catalogs.load([demonstration.SAGAS])
    with ExitStack() as stack:
        log = stack.enter_context((data / "services.log").open("w", encoding="utf-8"))
        logging.configure("demo", "info", "json", log)
        three = services(data, catalog=hasty, port=0)
        code = asyncio.run(_until_interrupted(_demonstrate(three, orders, data)))
    raise typer.Exit(code)


async def _until_interrupted(work: Coroutine[None, None, int]) -> int:
    """The result of `work`, or 130 once a first Ctrl-C has canceled it, and said so; a second one ends it at once."""
    task, interrupted = asyncio.ensure_future(work), False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        interrupts.end_at_once()
        print("Interrupted: finishing what was begun …", file=sys.stderr, flush=True)
        task.cancel()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        return interrupts.INTERRUPTED
    except SQLAlchemyError:
        if not interrupted:
            raise
        # A statement that is canceled invalidates its connection, and what then tries to use it says that instead.
        structlog.get_logger().info("interrupted_in_a_statement", exc_info=True)
        return interrupts.INTERRUPTED
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        interrupts.end_at_once()


async def _demonstrate(three: Sequence[Service], orders: int, data: Path) -> int:
    async with Running(three) as running:
        await running.start()
        showing = asyncio.create_task(demonstration.show(running.urls, orders, data))
        failing = asyncio.create_task(running.failed())
        try:
            await asyncio.wait((showing, failing), return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                failing.result()
            return await showing
        finally:
            for task in (showing, failing):
                task.cancel()
            await asyncio.gather(showing, failing, return_exceptions=True)
