"""Placing a file of orders while the service fails in every way it may."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import typer
import uvicorn
from fastapi import FastAPI
from typer.testing import CliRunner

from contracts.fulfillment import FulfillmentCompleted
from contracts.money import Money
from contracts.order import CancelOrder, ConfirmOrder, OrderConfirmed
from messaging.database import Database
from services.order import store
from services.order.domain import Line, OrderStatus
from services.order.handlers import cancel_orders, complete_orders, confirm_orders
from services.order.order_file import OrderFile, WrongRow
from services.order.place import place, run
from services.order.placing import OrderClient, Placed, ServiceUnavailable, await_ends, place_all

HEADER = "order_ref,customer_id,quantity,amount_usd\n"


class Quiet:
    """Progress nobody looks at."""

    def progress(self, doing: str, done: int, total: int) -> None: ...

    def unanswered(self, words: str) -> None: ...


quiet = Quiet().progress


async def at_once(_seconds: float) -> None:
    """A backoff that takes no time."""


class Unreliable(httpx.AsyncBaseTransport):
    """The application behind a connection that does what `faults` says of each request in turn, then works.

    `None` is no fault; an exception is raised instead of sending; "lost" sends and loses the answer; a number
    is answered instead of the application.
    """

    def __init__(self, app: FastAPI, faults: list[Exception | int | str | None]) -> None:
        self._inner = httpx.ASGITransport(app=app)
        self._faults: Iterator[Exception | int | str | None] = iter(faults)
        self.requests: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(f"{request.method} {request.url.path}")
        fault = next(self._faults, None)
        if isinstance(fault, Exception):
            raise fault
        if isinstance(fault, int):
            return httpx.Response(fault, request=request)
        answer = await self._inner.handle_async_request(request)
        if fault == "lost":
            await answer.aread()
            raise httpx.ReadError("connection reset", request=request)
        return answer

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=self, base_url="http://order")


async def settle(database: Database, *, declined: str | None = None) -> None:
    """End every placed order as the saga would; customer `declined` has no credit."""
    async with database.reading() as connection:
        placed = await store.list_orders(
            connection, status=OrderStatus.PLACED, customer_id=None, after=None, limit=1000
        )
    by_id = {each.order.id: each for each in placed}
    poor = [each.order.id for each in placed if each.order.customer_id == declined]
    rich = [order_id for order_id in by_id if order_id not in poor]
    async with database.session() as db:
        commands = [ConfirmOrder(order_id=order_id) for order_id in rich]
        answers = await confirm_orders(commands, db, 100)
        good = [each.order_id for each in answers if isinstance(each, OrderConfirmed)]
        out = [each.order_id for each in answers if not isinstance(each, OrderConfirmed)]
        money = {each: Money(amount=by_id[each].total, currency="USD") for each in good}
        await complete_orders([FulfillmentCompleted(order_id=each, captured=money[each]) for each in good], db)
        await cancel_orders(
            [
                *(CancelOrder(order_id=each, reason="card_declined") for each in poor),
                *(CancelOrder(order_id=each, reason="out_of_stock") for each in out),
            ],
            db,
        )


def written(tmp_path: Path, *rows: str) -> OrderFile:
    """A file of orders with these rows."""
    path = tmp_path / "orders.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return OrderFile(path)


async def placed_by(
    transport: Unreliable, orders: OrderFile, *, concurrency: int = 1, patience: float = 5
) -> list[Placed | WrongRow]:
    """Place the file over this connection, with a backoff that takes no time."""
    async with transport.client() as http:
        client = OrderClient(http, patience=patience, sleep=at_once)
        return await place_all(client, orders, total=len(orders), concurrency=concurrency, progress=quiet)


class Settling(Unreliable):
    """The application with a saga behind it, which runs when somebody looks for the orders' ends."""

    def __init__(self, app: FastAPI, act: Callable[[], Any]) -> None:
        super().__init__(app, [])
        self._act = act

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET" and "after" in request.url.params:
            await self._act()
        return await super().handle_async_request(request)


async def test_a_file_becomes_orders_and_a_report(app: FastAPI, database: Database, tmp_path: Path) -> None:
    """Completed, declined and out of stock are told apart, wrong rows named, and the money adds up."""
    orders = written(
        tmp_path,
        "CD-1,rich,2,29.33",
        "CD-2,rich,1,0.00",
        "CD-3,poor,1,5.00",
        "CD-4,rich,1,oops",
        "CD-5,rich,101,1.00",
        "CD-1,rich,2,29.33",
    )
    transport = Settling(app, lambda: settle(database, declined="poor"))
    report = await run(orders, transport.client(), concurrency=4, wait=30, patience=5, display=Quiet())
    assert report.as_json() | {"seconds": 0} == {
        "ok": False,
        "rows": 6,
        "placed": 4,
        "already_there": 1,
        "wrong_rows": [{"line": 5, "reason": "amount 'oops' is not a plain decimal number, like 29.33"}],
        "completed": 2,
        "compensated": {"card_declined": 1, "out_of_stock": 1},
        "stuck": [],
        "captured": {"USD": 2933},
        "completed_total": {"USD": 2933},
        "seconds": 0,
    }


async def test_a_quote_that_is_not_closed_stops_no_other_row(app: FastAPI, database: Database, tmp_path: Path) -> None:
    """All rows are read, the wrong one is named with its own line, and the four others are placed."""
    orders = written(tmp_path, "A,c,1,1.00", 'B,"c,1,1.00', "C,c,1,1.00", "D,c,1,1.00", "E,c,1,1.00")
    transport = Settling(app, lambda: settle(database))
    report = await run(orders, transport.client(), concurrency=1, wait=30, patience=5, display=Quiet())
    told = report.as_json()
    assert [told[each] for each in ("rows", "placed", "completed")] == [5, 4, 4]
    assert [each["line"] for each in told["wrong_rows"]] == [3]


async def test_a_service_that_comes_and_goes_places_each_order_once(
    app: FastAPI, database: Database, tmp_path: Path
) -> None:
    """Refused connections, 503 and a lost answer are tried again under the same key."""
    transport = Unreliable(app, [httpx.ConnectError("refused"), 503, "lost", None, httpx.ReadTimeout("slow"), "lost"])
    results = await placed_by(transport, written(tmp_path, "A,c,1,1.00", "B,c,1,2.00"))
    assert [type(each) for each in results] == [Placed, Placed]
    # Each was committed by the attempt whose answer was lost.
    assert [each.before for each in results if isinstance(each, Placed)] == [True, True]
    assert transport.requests == ["POST /orders"] * 7
    async with database.reading() as connection:
        found = await store.list_orders(connection, status=None, customer_id=None, after=None, limit=9)
    assert sorted(each.total for each in found) == [100, 200]


async def test_a_row_the_service_refuses_spoils_no_other(app: FastAPI, tmp_path: Path) -> None:
    """A reference that was used for something else is reported with its line; the rest is placed."""
    results = await placed_by(Unreliable(app, []), written(tmp_path, "A,c,1,1.00", "A,c,1,2.00", "Ünïcode 1,c,1,1.00"))
    assert [type(each) for each in results] == [Placed, WrongRow, Placed]
    wrong = results[1]
    assert isinstance(wrong, WrongRow)
    assert wrong.line == 3
    assert wrong.reason.startswith("A: This Idempotency-Key belongs to another request: place:A was used")


async def test_a_row_the_service_fails_on_is_given_up(app: FastAPI, tmp_path: Path) -> None:
    """An order that always ends in a 500 is reported; the service is there, so the others go on."""
    results = await placed_by(Unreliable(app, [500]), written(tmp_path, "A,c,1,1.00", "B,c,1,1.00"), patience=0)
    assert results[0] == WrongRow(2, "A: HTTP 500 Internal Server Error")
    assert isinstance(results[1], Placed)


async def test_an_absent_service_is_said_once(app: FastAPI, tmp_path: Path) -> None:
    """When patience ends, all workers stop with one error that names the address and the reason."""
    transport = Unreliable(app, [httpx.ConnectError("all connection attempts failed")] * 9)
    orders = written(tmp_path, *[f"{number},c,1,1.00" for number in range(9)])
    with pytest.raises(ServiceUnavailable, match=r"^http://order does not answer: all connection attempts failed$"):
        await placed_by(transport, orders, concurrency=3, patience=0)


async def test_a_slow_failure_is_no_reason_to_give_up_at_once(app: FastAPI, tmp_path: Path) -> None:
    """Where the first answer takes all of the time, the service is asked once more nevertheless."""
    transport = Unreliable(app, [httpx.ConnectTimeout("slow")])
    orders = written(tmp_path, "A,c,1,1.00")
    assert [type(each) for each in await placed_by(transport, orders, patience=1e-9)] == [Placed]


async def test_waiting_asks_for_pages_and_jumps_over_the_orders_of_others(
    app: FastAPI, database: Database, shop: Callable[..., Any]
) -> None:
    """Neighbors share a request, others' orders in between cost none, an unknown one holds nothing up."""
    ids = await shop(*[[Line("CD", 1, 100)]] * 50)
    await settle(database)
    transport = Unreliable(app, [])
    unknown = UUID(int=2**100)
    async with transport.client() as http:
        client = OrderClient(http, patience=0)
        told: list[str] = []
        ended = await await_ends(
            client, [unknown, *ids[:3], ids[49]], seconds=0, progress=lambda doing, done, total: told.append(doing)
        )
    assert told == ["waiting up to 0 s for orders to end, which takes a running orchestrator and payment service"]
    assert sorted(ended) == [*ids[:3], ids[49]]
    assert transport.requests == ["GET /orders"] * 3


def command() -> typer.Typer:
    """The command as `python -m services.order` knows it."""
    app = typer.Typer()
    app.command()(place)
    return app


async def test_the_command_tells_its_result_by_exit_code(app: FastAPI, database: Database, tmp_path: Path) -> None:
    """Over a real socket: 1 while orders have not ended, 0 when the same command finds them ended."""
    path = written(tmp_path, "A,c,1,1.00", "B,c,1,2.00").path
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    with ExitStack() as stack:
        listening = uvicorn.Config(app, port=0).bind_socket()
        stack.callback(listening.close)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        arguments = [str(path), "--url", url, "--wait", "0", "--output", "json"]
        first = await asyncio.to_thread(CliRunner().invoke, command(), arguments)
        await settle(database)
        second = await asyncio.to_thread(CliRunner().invoke, command(), arguments)
        server.should_exit = True
        await serving
    assert (first.exit_code, json.loads(first.stdout)["placed"]) == (1, 2)
    assert len(json.loads(first.stdout)["stuck"]) == 2
    assert (second.exit_code, json.loads(second.stdout)["already_there"]) == (0, 2)
    assert json.loads(second.stdout)["captured"] == {"USD": 300}


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        (["nowhere.csv"], 2, "error: nowhere.csv cannot be read: No such file or directory"),
        (["FILE", "--map", "price=x"], 2, "error: --map price=x is not FIELD=COLUMN"),
        (["FILE", "--url", "order:8001"], 2, "error: --url order:8001 is no address"),
        (["FILE", "--concurrency", "0"], 2, "Invalid value for '--concurrency'"),
        (["FILE", "--url", "URL", "--patience", "0"], 69, "does not answer"),
    ],
)
def test_what_the_command_cannot_do_it_says(
    tmp_path: Path, deaf_port: int, options: list[str], code: int, complaint: str
) -> None:
    """One line on stderr with the cause, nothing on stdout, and the exit code for it."""
    path = str(written(tmp_path, "A,c,1,1.00").path)
    names = {"FILE": path, "URL": f"http://127.0.0.1:{deaf_port}"}
    result = CliRunner().invoke(command(), [names.get(each, each) for each in options])
    assert (result.exit_code, result.stdout) == (code, "")
    assert complaint in " ".join(result.stderr.split())
