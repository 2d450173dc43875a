"""python -m deploy.acceptance FILE.csv: place a file of orders while services are killed with -9, and audit the end.

Three processes on RabbitMQ and PostgreSQL (AMQP_URL and DATABASE_URL name them, and databases made for the run stay
there; what they do not name is started, with throw-away data), or with --embedded one process on SQLite. The
orchestrator and the payment service, or the one process, are killed with SIGKILL while the orders run through, and
started again. Then everything is looked up in the databases, every history is replayed, and the same file is placed
once more, which must change nothing.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from contracts.money import Money
from deploy import up
from deploy.inspection import Inspection, inspect, opened, progress, work_left
from deploy.killing import Kill, NotReady, System, embedded, kill_all, kills_of, three_processes, three_services
from deploy.servers import ServerUnavailable
from messaging.database import Database

SETTLE_SECONDS = 300.0
"""How long what is left may take once every order has ended: acknowledgments, the outbox's grace, retries."""

app = typer.Typer(help="Kill services while orders run, and audit the end.", rich_markup_mode=None)


@app.command()
def run(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", help="Orders, as `python -m services.order place` takes.")
    ],
    *,
    in_one: Annotated[bool, typer.Option("--embedded", help="One process on SQLite instead of three.")] = False,
    kills: Annotated[int, typer.Option(min=0, help="How often each victim is killed.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the moments at which they are killed.")] = 1,
    stock: Annotated[int, typer.Option(min=0, help="How many there are of each sku.")] = 16_000,
    credit_limit: Annotated[int, typer.Option(min=0, help="Of each customer, in minor units.")] = 50_000,
    data: Annotated[
        Path, typer.Option(help="Logs and SQLite files go here; those of an earlier run are removed.")
    ] = Path(".amends/acceptance"),
) -> None:
    """Exit codes: 0 everything holds, 1 something does not, 2 the file cannot be used, 69 no server to be had."""
    if not file.is_file() or _rows_of(file) < 1:
        print(f"amends: {file} is no file with orders; name a CSV file, a line of column names first", file=sys.stderr)
        raise typer.Exit(2)
    data.mkdir(parents=True, exist_ok=True)
    for left in (*data.glob("*.db*"), *data.glob("*.log")):
        left.unlink()
    settings = {"ORDER_DEFAULT_STOCK": str(stock), "PAYMENT_DEFAULT_CREDIT_LIMIT": str(credit_limit)}
    with ExitStack() as stack:
        try:
            system = _system(stack, in_one, os.environ | settings, data)
            stack.callback(system.stop)
            planned = kills_of(system.victims, kills, seed)
            raise typer.Exit(asyncio.run(_accept(system, file, _rows_of(file), planned, stock)))
        except (ServerUnavailable, up.CannotStart, NotReady) as error:
            print(f"amends: {error}", file=sys.stderr)
            raise typer.Exit(69) from error
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def _system(stack: ExitStack, in_one: bool, environment: Mapping[str, str], data: Path) -> System:
    if in_one:
        return embedded(environment, data)
    # New ones each time: orders of an earlier run on the same server would be recognized and not placed.
    wanted = three_services(f"amends_acceptance_{uuid4().hex[:8]}")
    return three_processes(up.backends(stack, environment, wanted), wanted, environment, data)


def _rows_of(file: Path) -> int:
    return sum(1 for line in file.read_bytes().splitlines() if line.strip()) - 1


async def _accept(system: System, file: Path, total: int, kills: Sequence[Kill], stock: int) -> int:
    began = time.monotonic()

    def say(words: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {words}", flush=True)

    system.start()
    await system.ready()
    say(f"{', '.join(system.processes)}: ready; {total:,} orders, {len(kills)} kills")
    async with opened(system.databases) as databases:

        async def done() -> float:
            placed, ended = await progress(databases)
            return (placed + ended) / (2 * total)

        problems = []
        killing = asyncio.create_task(kill_all(system, kills, done, say))
        try:
            problems += await _place(system, file)
        finally:
            killing.cancel()
            with suppress(asyncio.CancelledError):
                await killing
        killed = sum(process.kills for process in system.processes.values())
        if killed != len(kills):
            problems.append(f"only {killed} of {len(kills)} kills took place before the orders had ended")
        first = await _settled(databases, stock)
        _tell(first, say)
        for command in (("replay", "--all"), ("preflight",)):
            say(f"amends {' '.join(command)}:")
            problems += await _ask(system, command)
        say("the same command again:")
        problems += await _place(system, file)
        second = await _settled(databases, stock)
    if second != first:
        problems.append(f"the second run changed something: before {first}, after {second}")
    problems += [*first.findings, *system.deserters()]
    for problem in problems:
        say(f"WRONG: {problem}")
    if not problems:
        say("nothing was lost, nothing happened twice, and the second run changed nothing")
    return 1 if problems else 0


async def _ask(system: System, command: Sequence[str]) -> list[str]:
    """Run an `amends` command on the orchestrator's database; what is wrong with how it ended."""
    environment = os.environ | {"DATABASE_URL": system.databases["orchestrator"]}
    amends = str(Path(sys.executable).with_name("amends"))
    process = await asyncio.create_subprocess_exec(amends, *command, env=environment)
    code = await process.wait()
    return [f"`amends {' '.join(command)}` ended with exit code {code}; its words above say why"] if code else []


async def _place(system: System, file: Path) -> list[str]:
    """Run the order service's own command; what is wrong with how it ended."""
    command = [sys.executable, "-m", "services.order", "place", str(file), "--url", system.urls["order"]]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        raise
    return [f"`place` ended with exit code {code}; its words above say why"] if code else []


async def _settled(databases: Mapping[str, Database], stock: int) -> Inspection:
    """Look at everything once nothing is left to do, or for too long something is."""
    give_up = time.monotonic() + SETTLE_SECONDS
    while await work_left(databases) and time.monotonic() < give_up:  # noqa: ASYNC110 - other processes do the work
        await asyncio.sleep(0.5)
    return await inspect(databases, default_stock=stock)


def _tell(found: Inspection, say: Callable[[str], None]) -> None:
    say("orders: " + ", ".join(f"{how} {count:,}" for how, count in found.ended.items()))
    say("sagas: " + ", ".join(f"{status} {count:,}" for status, count in found.sagas.items()))
    for currency in sorted(found.completed_total):
        captured = Money(amount=found.audit.captured.get(currency, 0), currency=currency)
        expected = Money(amount=found.completed_total[currency], currency=currency)
        held = Money(amount=found.audit.held.get(currency, 0), currency=currency)
        say(f"money: captured {captured}, completed orders {expected}, held {held}, {found.audit.entries:,} entries")
    say("stock: " + ", ".join(f"{sku} {count:,}" for sku, count in found.on_hand.items()))
    say(f"history: {found.rows['orchestrator.saga_history']:,} transitions, folded and compared with the sagas' rows")


if __name__ == "__main__":
    app()
