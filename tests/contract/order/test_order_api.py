"""The order service's HTTP interface, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, select

from contracts.money import Money
from contracts.order import CancelOrder
from messaging.database import Database
from messaging.schema import outbox
from services.order import store
from services.order.api import create_app
from services.order.domain import Line, Order, Stock
from services.order.handlers import cancel_orders

Shop = Callable[..., Awaitable[list[UUID]]]
NOWHERE = "019a0c3e-5b00-7000-8000-000000000001"

WISH: dict[str, Any] = {
    "customer_id": "00004",
    "currency": "USD",
    "lines": [{"sku": "CD", "quantity": 2, "amount": 2933}, {"sku": "LP", "quantity": 1, "amount": 0}],
}


def wish(**changes: Any) -> dict[str, Any]:
    """The order with something changed."""
    return {**WISH, **changes}


def line(**changes: Any) -> dict[str, Any]:
    """An order of one line with something changed."""
    return wish(lines=[{"sku": "CD", "quantity": 1, "amount": 1, **changes}])


async def emitted(database: Database) -> list[tuple[str, str | None, dict[str, Any]]]:
    """Type, key and data of what waits in the outbox."""
    async with database.reading() as connection:
        rows = await connection.execute(select(outbox.c.type, outbox.c.key, outbox.c.body).order_by(outbox.c.id))
        return [(row.type, row.key, json.loads(row.body)["data"]) for row in rows]


async def number_of_orders(database: Database) -> int:
    """How many orders there are."""
    async with database.reading() as connection:
        return (await connection.execute(select(func.count()).select_from(store.orders))).scalar_one()


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service without any database: what is answered here never asked for one."""
    app = create_app(Database(f"sqlite:///{tmp_path / 'missing' / 'order.db'}"), default_stock=1)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://order") as client:
        yield client


def problem(answer: httpx.Response) -> dict[str, Any]:
    """The answer's problem, which must be a complete one."""
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail"} <= set(body)
    assert body["status"] == answer.status_code
    return body


async def test_a_placed_order_is_written_and_told(client: httpx.AsyncClient, database: Database) -> None:
    """One transaction holds the order and its event; stock is untouched, and Location leads to the order."""
    answer = await client.post("/orders", json=WISH)
    assert answer.status_code == 201
    order = answer.json()
    assert answer.headers["location"] == f"/orders/{order['id']}"
    expected = {
        "id": order["id"],
        "customer_id": "00004",
        "currency": "USD",
        "total": 2933,
        "items": 3,
        "status": "placed",
        "reason": None,
        "captured": None,
        "placed_at": "2026-11-23T12:00:00Z",
        "lines": WISH["lines"],
    }
    assert order == expected
    assert (await client.get(answer.headers["location"])).json() == expected
    data = {
        "order_id": order["id"],
        "customer_id": "00004",
        "total": {"amount": 2933, "currency": "USD"},
        "items": 3,
    }
    assert await emitted(database) == [("order.created", order["id"], data)]
    assert (await client.get("/stock/CD")).status_code == 404


async def test_a_repeated_key_gets_the_first_answer(client: httpx.AsyncClient, database: Database) -> None:
    """The same key and body place nothing more, even after the order has moved on."""
    headers = {"Idempotency-Key": "CD-00001"}
    first = await client.post("/orders", json=WISH, headers=headers)
    async with database.session() as db:
        cancel = CancelOrder(order_id=UUID(first.json()["id"]), reason="card_declined")
        await cancel_orders([cancel], db)
    second = await client.post("/orders", json=WISH, headers=headers)
    assert (second.status_code, second.json()) == (201, first.json())
    assert second.headers["location"] == first.headers["location"]
    assert second.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert await number_of_orders(database) == 1
    assert len(await emitted(database)) == 1


async def test_a_key_reused_for_another_order_is_refused(client: httpx.AsyncClient, database: Database) -> None:
    """Another body under a known key is a fault of the caller, and the problem names the first order."""
    headers = {"Idempotency-Key": "CD-00001"}
    first = await client.post("/orders", json=WISH, headers=headers)
    second = await client.post("/orders", json=wish(customer_id="00005"), headers=headers)
    assert second.status_code == 422
    refused = problem(second)
    assert refused["type"] == "urn:amends:problem:idempotency-key-reused"
    assert first.json()["id"] in refused["detail"]
    assert await number_of_orders(database) == 1


async def test_one_key_at_the_same_time_places_one_order(client: httpx.AsyncClient, database: Database) -> None:
    """Ten concurrent requests with one key get the same order; nine of them say it was there."""
    headers = {"Idempotency-Key": "CD-00001"}
    answers = await asyncio.gather(*(client.post("/orders", json=WISH, headers=headers) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 9
    assert await number_of_orders(database) == 1
    assert len(await emitted(database)) == 1


async def test_an_unknown_sku_is_named_and_nothing_is_written(database: Database) -> None:
    """Without a default stock an unknown sku is refused; its key stays free for the mended world."""
    transport = httpx.ASGITransport(app=create_app(database))
    headers = {"Idempotency-Key": "CD-00001"}
    async with httpx.AsyncClient(transport=transport, base_url="http://order") as client:
        await client.put("/stock/CD", json={"on_hand": 5})
        refused = await client.post("/orders", json=WISH, headers=headers)
        assert refused.status_code == 422
        assert problem(refused)["type"] == "urn:amends:problem:unknown-sku"
        assert problem(refused)["errors"] == [{"pointer": "#/lines/1/sku", "detail": "LP is unknown"}]
        assert await emitted(database) == []
        await client.put("/stock/LP", json={"on_hand": 0})
        accepted = await client.post("/orders", json=WISH, headers=headers)
    assert (accepted.status_code, "idempotency-replayed" in accepted.headers) == (201, False)


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        (wish(customer_id=""), "#/customer_id", "String should have at least 1 character"),
        (wish(customer_id="a\x00b"), "#/customer_id", "must not contain control characters"),
        (wish(currency="usd"), "#/currency", "must be three capital letters, like USD"),
        (wish(lines=[]), "#/lines", "List should have at least 1 item after validation, not 0"),
        (wish(lines=WISH["lines"] * 51), "#/lines", "List should have at most 100 items after validation, not 102"),
        (line(quantity=0), "#/lines/0/quantity", "Input should be greater than or equal to 1"),
        (line(quantity=1.0), "#/lines/0/quantity", "Input should be a valid integer"),
        (line(quantity="1"), "#/lines/0/quantity", "Input should be a valid integer"),
        (line(quantity=True), "#/lines/0/quantity", "Input should be a valid integer"),
        (line(amount=-1), "#/lines/0/amount", "Input should be greater than or equal to 0"),
        (line(amount=2**53), "#/lines/0/amount", "Input should be less than or equal to 9007199254740991"),
        (line(price=5), "#/lines/0/price", "is not known here; is it misspelled?"),
    ],
)
async def test_an_order_that_does_not_fit_is_refused_field_by_field(
    door: httpx.AsyncClient, body: dict[str, Any], pointer: str, detail: str
) -> None:
    """The problem points at the field and says what it must be."""
    answer = await door.post("/orders", json=body)
    assert answer.status_code == 422
    assert problem(answer)["errors"] == [{"pointer": pointer, "detail": detail}]


async def test_what_does_not_fit_outside_the_body_is_no_pointer(door: httpx.AsyncClient) -> None:
    """A header or a query parameter is named as a parameter; a body of another kind is pointed at as a whole."""
    header = problem(await door.post("/orders", json=WISH, headers={"Idempotency-Key": "k" * 300}))
    assert [set(each) for each in header["errors"]] == [{"parameter", "detail"}]
    assert header["errors"][0]["parameter"].lower() == "idempotency-key"
    query = problem(await door.get("/orders", params={"limit": "many"}))
    assert query["errors"][0]["parameter"] == "limit"
    assert query["detail"].startswith("query limit: ")
    body = problem(await door.post("/orders", json=[1]))
    assert body["errors"] == [{"pointer": "#", "detail": "must be a JSON object"}]


@pytest.mark.parametrize(
    ("content", "content_type", "status", "title"),
    [
        (b"{nope", "application/json", 400, "The request cannot be read"),
        (b"[" * 60_000, "application/json", 400, "The request cannot be read"),
        (b'{"a": ' + b"9" * 5000 + b"}", "application/json", 400, "The request cannot be read"),
        (b"\xff", "application/json", 400, "The request cannot be read"),
        (json.dumps(WISH).encode(), "text/plain", 415, "The request is not JSON"),
        (b" " * (64 * 1024 + 1), "application/json", 413, "The request is too large"),
        (b"", "application/json", 422, "The request does not fit"),
    ],
)
async def test_a_hostile_body_is_a_problem(
    door: httpx.AsyncClient, content: bytes, content_type: str, status: int, title: str
) -> None:
    """Whatever comes instead of an order is answered in words and hurts nobody."""
    answer = await door.post("/orders", content=content, headers={"Content-Type": content_type})
    assert (answer.status_code, problem(answer)["title"]) == (status, title)


async def test_the_largest_order_is_accepted(client: httpx.AsyncClient) -> None:
    """A hundred lines at the highest price fit the database."""
    lines = [{"sku": f"SKU-{number}", "quantity": 1_000_000, "amount": 2**53 - 1} for number in range(100)]
    answer = await client.post("/orders", json=wish(lines=lines))
    assert (answer.status_code, answer.json()["total"]) == (201, 900719925474099100)
    assert (await client.get(answer.headers["location"])).json()["items"] == 100_000_000


async def test_pages_follow_each_other_without_gaps(client: httpx.AsyncClient, shop: Shop) -> None:
    """Walking `next` shows every order once, in the order of their ids, and ends."""
    ids = await shop(*[[Line("CD", 1, 100)]] * 7)
    seen: list[str] = []
    address: str | None = "/orders?limit=3"
    pages = 0
    while address is not None:
        page = (await client.get(address)).json()
        seen += [order["id"] for order in page["orders"]]
        address = page["next"]
        pages += 1
    assert (seen, pages) == ([str(each) for each in ids], 3)


async def test_listings_are_filtered(client: httpx.AsyncClient, database: Database, shop: Shop) -> None:
    """By state and by customer, also across pages; a parameter nobody knows is refused."""
    ids = await shop(*[[Line("CD", 1, 100)]] * 4)
    async with database.session() as db:
        reason = "card_declined"
        await cancel_orders([CancelOrder(order_id=each, reason=reason) for each in ids[1:]], db)
    page = (await client.get("/orders?status=canceled&limit=2&customer_id=00004")).json()
    assert [order["id"] for order in page["orders"]] == [str(each) for each in ids[1:3]]
    rest = (await client.get(page["next"])).json()
    assert [(order["id"], order["reason"]) for order in rest["orders"]] == [(str(ids[3]), reason)]
    assert rest["next"] is None
    assert (await client.get("/orders?customer_id=nobody")).json() == {"orders": [], "next": None}
    wrong = await client.get("/orders?customer=00004")
    assert problem(wrong)["detail"] == "query customer: is not known here; is it misspelled?"


async def test_a_cancellation_is_told_to_the_saga(client: httpx.AsyncClient, database: Database, shop: Shop) -> None:
    """The wish is accepted and emitted; a canceled order needs no second event."""
    (order_id,) = await shop([Line("CD", 1, 100)])
    answer = await client.post(f"/orders/{order_id}/cancellation")
    assert (answer.status_code, answer.json()) == (202, {"order_id": str(order_id), "status": "placed"})
    told = [("order.cancellation_requested", str(order_id), {"order_id": str(order_id)})]
    assert await emitted(database) == told
    async with database.session() as db:
        await cancel_orders([CancelOrder(order_id=order_id, reason="customer")], db)
    again = await client.post(f"/orders/{order_id}/cancellation")
    assert (again.status_code, again.json()["status"]) == (202, "canceled")
    assert await emitted(database) == told


async def test_a_cancellation_can_come_too_late(client: httpx.AsyncClient, database: Database, shop: Shop) -> None:
    """A completed order is not canceled, and an unknown one cannot be."""
    (order_id,) = await shop([Line("CD", 1, 100)])
    completed = Order(order_id, "00004", "USD", (Line("CD", 1, 100),))
    completed.confirm(Stock({"CD": 1}))
    completed.complete(Money(amount=100, currency="USD"))
    async with database.session() as db:
        await store.save(db, [completed], {})
    late = await client.post(f"/orders/{order_id}/cancellation")
    assert (late.status_code, problem(late)["type"]) == (409, "urn:amends:problem:too-late-to-cancel")
    missing = await client.post(f"/orders/{NOWHERE}/cancellation")
    assert (missing.status_code, problem(missing)["title"]) == (404, "There is no such order")
    assert await emitted(database) == []


async def test_stock_can_be_counted_and_set(client: httpx.AsyncClient) -> None:
    """A sku is unknown until somebody says how many there are."""
    assert (await client.get("/stock/CD")).status_code == 404
    assert (await client.put("/stock/CD", json={"on_hand": 7})).json() == {"on_hand": 7}
    assert (await client.put("/stock/CD", json={"on_hand": 3})).status_code == 200
    assert (await client.get("/stock/CD")).json() == {"on_hand": 3}
    assert (await client.put("/stock/CD", json={"on_hand": -1})).status_code == 422


async def test_wrong_addresses_and_methods_are_problems(client: httpx.AsyncClient) -> None:
    """The answer names what is possible instead."""
    assert problem(await client.get("/nowhere"))["status"] == 404
    answer = await client.delete("/orders")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    assert problem(answer)["detail"] == "DELETE is not possible on /orders, only GET, POST"
    assert problem(await client.get("/orders/17"))["status"] == 422
    assert problem(await client.get(f"/orders/{NOWHERE}"))["type"] == "urn:amends:problem:unknown-order"


async def test_an_unforeseen_error_is_a_problem_too(database: Database) -> None:
    """A fault of ours tells the caller so, and tells nothing of our insides."""

    def broken() -> UUID:
        raise RuntimeError("secret")

    app = create_app(database, new_id=broken, default_stock=1)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://order") as client:
        answer = await client.post("/orders", json=WISH)
    assert answer.status_code == 500
    assert problem(answer)["title"] == "The service has made a mistake"
    assert "secret" not in answer.text


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_database_that_is_away_is_said(kind: str, tmp_path: Path, deaf_port: int) -> None:
    """503 with Retry-After: the caller may send the same thing again."""
    url = {
        "sqlite": f"sqlite:///{tmp_path / 'missing' / 'order.db'}",
        "postgresql": f"postgresql://nobody@127.0.0.1:{deaf_port}/nothing",
    }[kind]
    database = Database(url)
    app = create_app(database, default_stock=1)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://order") as client:
        for answer in (await client.get("/orders"), await client.post("/orders", json=WISH)):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert problem(answer)["title"] == "The service cannot reach its database"
    await database.close()


async def test_the_docs_page_needs_nothing_from_elsewhere(door: httpx.AsyncClient) -> None:
    """It shows every address, loads nothing, runs nothing, and its style is the only one it allows."""
    answer = await door.get("/docs")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    page = answer.text
    for path in ("/orders", "/orders/{order_id}", "/orders/{order_id}/cancellation", "/stock/{sku}"):
        assert f"<code>{path}</code>" in page
    assert re.findall(r"<script|<link|<img|src=|@import|url\(", page) == []
    assert set(re.findall(r"https?://[^/\s<]+", page)) == {"http://order"}
    assert (await door.get("/")).headers["location"] == "/docs"


async def test_openapi_tells_of_problems(tmp_path: Path) -> None:
    """Every error a route names follows the Problem schema."""
    described = create_app(Database(f"sqlite:///{tmp_path}/no.db")).openapi()
    errors = [
        answer
        for operations in described["paths"].values()
        for operation in operations.values()
        for status, answer in operation["responses"].items()
        if int(status) >= 400
    ]
    problems = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert len(errors) == 22
    assert all(answer["content"] == problems for answer in errors)
    assert described["components"]["schemas"]["Problem"]["required"] == ["type", "title", "status", "detail"]
