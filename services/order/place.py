"""`python -m services.order place FILE.csv`: place a file of orders, wait for their ends, and report."""

from __future__ import annotations

import asyncio
import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.text import Text

from services.order.order_file import COLUMN_NAMES, OrderFile, UnusableFile
from services.order.placing import OrderClient, Placed, ServiceUnavailable, await_ends, place_all
from services.order.progress import Display, display_on
from services.order.report import Report, draw, summarize

EXIT_INCOMPLETE = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
EXIT_INTERRUPTED = 130

REQUEST_SECONDS = 30.0
FIRST_ANSWER_SECONDS = 10.0
"""How long the service may take to answer for the first time: a wrong --url shows soon."""

_COME_BACK = (
    "Start the order service or name it with --url, then run the same command again: "
    "what is placed already is recognized."
)


class Output(StrEnum):
    """How the report is printed."""

    TABLE = "table"
    JSON = "json"


def place(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", help="Orders, one a row; the first line names the columns.")
    ],
    *,
    url: Annotated[str, typer.Option(help="Where the order service is.", envvar="ORDER_URL")] = "http://127.0.0.1:8001",
    concurrency: Annotated[int, typer.Option(min=1, max=500, help="Requests at a time.")] = 32,
    sku: Annotated[str, typer.Option(help="What is ordered, where the file does not say.")] = "CD",
    currency: Annotated[
        str | None,
        typer.Option(help="Of all amounts, where the file does not say (amount_eur does).  [default: USD]"),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FIELD=COLUMN",
            help=f"Which column is what, where its name does not say: {', '.join(COLUMN_NAMES)}.",
        ),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for the orders to end, once all are placed.")
    ] = 600,
    patience: Annotated[float, typer.Option(min=0, help="Seconds the service may be away at a time.")] = 120,
    output: Annotated[Output, typer.Option(help="table for people, json for programs.")] = Output.TABLE,
) -> None:
    """Place a file of orders, wait until each has ended, and report.

    Running it again places nothing twice: an order's reference is its idempotency key.

    \b
    Exit codes:
      0   every row became an order, every order ended, the money adds up
      1   wrong rows, orders that did not end, or money that does not add up
      2   the file or an option cannot be used
      69  the service is not there

    \b
    Examples:
      python -m services.order place orders.csv
      python -m services.order place orders.csv --map order_ref="Order No" --output json
    """  # noqa: D301  # the backspaces tell the command line to keep those lines as they are
    screen = Console(stderr=True)
    try:
        orders = OrderFile(file, columns=_mapping(columns or []), sku=sku, currency=currency)
        http = _http(url, concurrency)
        with display_on(screen) as display:
            report = asyncio.run(
                run(orders, http, concurrency=concurrency, wait=wait, patience=patience, display=display)
            )
    except UnusableFile as error:
        _complain(screen, str(error))
        raise typer.Exit(EXIT_USAGE) from error
    except ServiceUnavailable as error:
        _complain(screen, str(error))
        screen.print(_COME_BACK, soft_wrap=True)
        raise typer.Exit(EXIT_UNAVAILABLE) from error
    except KeyboardInterrupt:
        screen.print("Interrupted. The same command goes on where this one stopped.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if output is Output.JSON:
        typer.echo(json.dumps(report.as_json(), indent=2))
    else:
        draw(report, Console())
    if not report.ok:
        raise typer.Exit(EXIT_INCOMPLETE)


async def run(
    orders: OrderFile,
    http: httpx.AsyncClient,
    *,
    concurrency: int,
    wait: float,
    patience: float,
    display: Display,
) -> Report:
    """Place `orders` through `http`, which is closed afterwards, and wait for their ends.

    Raises ServiceUnavailable when the service stays away for `patience` seconds.
    """
    began = time.monotonic()
    async with http:
        client = OrderClient(http, patience=patience, unanswered=display.unanswered)
        await client.check(min(patience, FIRST_ANSWER_SECONDS))
        results = await place_all(client, orders, total=len(orders), concurrency=concurrency, progress=display.progress)
        placed = [result.order_id for result in results if isinstance(result, Placed)]
        ended = await await_ends(client, placed, seconds=wait, progress=display.progress)
    return summarize(results, ended, time.monotonic() - began)


def _mapping(pairs: list[str]) -> dict[str, str]:
    mapping = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not equals or field not in COLUMN_NAMES:
            raise UnusableFile(f"--map {pair} is not FIELD=COLUMN with one of {', '.join(COLUMN_NAMES)} as FIELD")
        mapping[field] = column
    return mapping


def _http(url: str, concurrency: int) -> httpx.AsyncClient:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UnusableFile(f"--url {url}: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UnusableFile(f"--url {url} is no address; write http://host:port")
    return httpx.AsyncClient(
        base_url=parsed,
        timeout=REQUEST_SECONDS,
        limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        # A proxy that the environment names leads away from this machine.
        trust_env=parsed.host not in ("localhost", "127.0.0.1", "::1"),
    )


def _complain(screen: Console, words: str) -> None:
    screen.print(Text.assemble(("error: ", "bold red"), words), soft_wrap=True)
