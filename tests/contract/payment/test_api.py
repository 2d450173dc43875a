"""The payment service's HTTP API on both databases, its errors, and its settings."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from contracts.payment import CapturePayment, VoidPayment
from messaging.database import Database
from services.payment.api import create_app
from services.payment.domain import authorization_id
from services.payment.settings import PaymentSettings
from tests.contract.payment.service import Clock, Service, ask, usd


async def test_accounts_are_set_and_read(service: Service, api: httpx.AsyncClient) -> None:
    """PUT opens an account or changes its terms and nothing else; GET shows what is open to buy."""
    opened = await api.put("/accounts/ann", json={"currency": "USD", "credit_limit": 2000})
    await service.send(ask(300))
    changed = await api.put(
        "/accounts/ann",
        json={"currency": "USD", "credit_limit": 100, "held_until": "2026-03-01T13:00:00+01:00"},
    )
    shown = await api.get("/accounts/ann")

    terms = {"customer_id": "ann", "currency": "USD", "captured": 0, "issuer_offline_until": None}
    after = terms | {
        "credit_limit": 100,
        "open_to_buy": -200,
        "held": 300,
        "held_until": "2026-03-01T12:00:00Z",
    }
    assert opened.status_code == changed.status_code == shown.status_code == 200
    assert opened.json() == terms | {
        "credit_limit": 2000,
        "open_to_buy": 2000,
        "held": 0,
        "held_until": None,
    }
    assert changed.json() == after
    assert shown.json() == {"customer_id": "ann", "accounts": [after]}


async def test_a_payment_shows_its_journal(service: Service, api: httpx.AsyncClient) -> None:
    """GET /payments tells an order's whole story, oldest entry first."""
    command = ask(300)
    await service.send(command)
    await service.send(CapturePayment(order_id=command.order_id, amount=usd(300)))

    shown = (await api.get(f"/payments/{command.order_id}")).json()

    assert [
        (entry["operation"], [(each["account"], each["amount"]) for each in entry["postings"]])
        for entry in shown.pop("journal")
    ] == [
        ("authorize", [("customer:ann", -300), ("holds", 300)]),
        ("capture", [("holds", -300), ("merchant:sales", 300)]),
    ]
    assert shown == {
        "order_id": str(command.order_id),
        "status": "captured",
        "customer_id": "ann",
        "authorization_id": authorization_id(command.order_id),
        "amount": {"amount": 300, "currency": "USD"},
    }


async def test_a_tombstone_is_a_voided_payment(service: Service, api: httpx.AsyncClient) -> None:
    """An order that was voided before anything was authorized is shown as voided, without an amount."""
    order_id = uuid4()
    await service.send(VoidPayment(order_id=order_id))

    shown = (await api.get(f"/payments/{order_id}")).json()

    assert (shown["status"], shown["amount"], shown["journal"]) == ("voided", None, [])


async def test_the_audit_is_served(service: Service, api: httpx.AsyncClient) -> None:
    """GET /audit shows the sums and says in words what is wrong."""
    await service.send(ask(300))

    shown = (await api.get("/audit")).json()

    assert (shown["held"], shown["findings"]) == ({"USD": 300}, [])


@pytest.mark.parametrize(
    ("request_line", "body", "status", "kind", "words"),
    [
        ("GET /accounts/nobody", None, 404, "unknown-customer", "the first order opens one"),
        (f"GET /payments/{UUID(int=1)}", None, 404, "unknown-payment", "nothing was authorized"),
        ("GET /payments/17", None, 422, "invalid-request", "path order_id"),
        ("GET /nowhere", None, 404, "not-found", "/nowhere"),
        ("DELETE /audit", None, 405, "method-not-allowed", "only GET"),
        ("PUT /accounts/ann", b"{", 422, "invalid-request", "JSON"),
        (
            "PUT /accounts/ann",
            b'{"currency": "usd", "credit_limit": 1}',
            422,
            "invalid-request",
            "#/currency",
        ),
        (
            "PUT /accounts/ann",
            b'{"currency": "USD", "credit_limit": 1.5}',
            422,
            "invalid-request",
            "integer",
        ),
        (
            "PUT /accounts/ann",
            b'{"currency": "USD", "credit_limit": -1}',
            422,
            "invalid-request",
            "#/credit_limit",
        ),
        (
            "PUT /accounts/ann",
            b'{"currency": "USD", "credit_limit": 1, "held_until": "2026-03-01T12:00:00"}',
            422,
            "invalid-request",
            "timezone",
        ),
        (
            "PUT /accounts/a%00b",
            b'{"currency": "USD", "credit_limit": 1}',
            422,
            "invalid-request",
            "customer_id",
        ),
        ("PUT /accounts/ann", b'{"currency": "' + b"x" * 70_000 + b'"}', 413, "too-large", "65536 bytes"),
    ],
)
async def test_errors_are_problems(
    api: httpx.AsyncClient, request_line: str, body: bytes | None, status: int, kind: str, words: str
) -> None:
    """Every wrong request is answered with a problem that says what was wrong and where."""
    method, path = request_line.split()
    answer = await api.request(method, path, content=body, headers={"content-type": "application/json"})

    problem = answer.json()
    assert answer.status_code == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"] == f"urn:amends:problem:{kind}"
    assert words in problem["detail"]


async def test_what_does_not_fit_outside_the_body_is_no_pointer(api: httpx.AsyncClient) -> None:
    """A part of the path is named as a parameter; a body of another kind is pointed at as a whole."""
    path = (await api.get("/payments/17")).json()
    assert [set(each) for each in path["errors"]] == [{"parameter", "detail"}]
    assert path["errors"][0]["parameter"] == "order_id"
    body = (await api.put("/accounts/ann", json=[1])).json()
    assert body["errors"] == [{"pointer": "#", "detail": "must be a JSON object"}]


async def test_a_database_that_is_away_is_said_so() -> None:
    """Without its database the API answers 503 and when to try again."""
    database = Database("postgresql://nobody@127.0.0.1:1/nothing")
    transport = httpx.ASGITransport(app=create_app(database, now=Clock().now), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://payment") as client:
        answer = await client.get("/audit")

    await database.close()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["type"] == "urn:amends:problem:database-away"


async def test_the_api_describes_itself_without_a_network(api: httpx.AsyncClient) -> None:
    """The description of the API is served, and no page that would load scripts from elsewhere."""
    described = (await api.get("/openapi.json")).json()

    assert set(described["paths"]) == {"/accounts/{customer_id}", "/payments/{order_id}", "/audit"}
    assert (await api.get("/docs")).status_code == 404


def test_settings_without_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the service listens on 8002 and keeps payments in its own ledger."""
    for name in ("PORT", "PAYMENT_DEFAULT_CREDIT_LIMIT", "PAYMENT_GATEWAY_URL", "PAYMENT_GATEWAY_TIME_LIMIT"):
        monkeypatch.delenv(name, raising=False)

    settings = PaymentSettings()

    assert (settings.port, settings.default_credit_limit, settings.gateway_url) == (8002, 50_000, None)


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway, its time limit in seconds and the credit limit come from the environment."""
    monkeypatch.setenv("PAYMENT_DEFAULT_CREDIT_LIMIT", "70000")
    monkeypatch.setenv("PAYMENT_GATEWAY_URL", "https://cards.example/api")
    monkeypatch.setenv("PAYMENT_GATEWAY_TIME_LIMIT", "2.5")

    settings = PaymentSettings()

    assert settings.default_credit_limit == 70_000
    assert str(settings.gateway_url) == "https://cards.example/api"
    assert settings.gateway_time_limit == timedelta(seconds=2.5)
