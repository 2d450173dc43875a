"""What is told about settings."""

from __future__ import annotations

from datetime import timedelta

import pytest

from messaging.commandline import described
from messaging.environment import as_written, misspelled
from messaging.settings import ServiceSettings
from orchestrator.settings import OrchestratorSettings
from services.order.settings import OrderSettings
from services.payment.settings import PaymentSettings


@pytest.mark.parametrize("kind", [OrchestratorSettings, OrderSettings, PaymentSettings])
def test_what_is_shown_can_be_given_back(kind: type[ServiceSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting, as it is printed, is a value of its variable, and means the same."""
    for each in described(kind()):
        monkeypatch.setenv(each.variable, each.value)
    again = kind()
    assert again.amqp_url.get_secret_value() == "amqp://guest:***@127.0.0.1:5672/"
    hidden = {"amqp_url", "database_url"}
    assert again.model_dump(exclude=hidden) == kind.model_construct().model_dump(exclude=hidden)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (timedelta(seconds=10), "10"),
        (timedelta(days=10_000, microseconds=1), "864000000.000001"),
        (timedelta(0), "0"),
        (("a", "b"), "a,b"),
    ],
    ids=str,
)
def test_values_as_variables_say_them(value: object, text: str) -> None:
    """Durations are plain seconds however long, and what is not set is nothing."""
    assert as_written(value) == text


def test_a_misspelled_variable_is_told_from_others() -> None:
    """Only what nobody reads and looks like a setting of this program is told, with that setting's name."""
    variables = (
        "AMENDS_BATCHSIZE",
        "AMENDS_OUTBOX_GRACE_FILE",
        "AMENDS_SAGAS",
        "AMENDS_SOURCE",
        "AMENDS_ACCEPT_CHANGED",
        "ORDER_URL",
        "ORDER_DEFAULT_STOK",
        "PAYMENT_GATEWAY_URL",
        "DATABASE_URLS",
        "HOSTS",
    )
    assert misspelled(OrderSettings, variables) == {
        "AMENDS_BATCHSIZE": "AMENDS_BATCH_SIZE",
        "ORDER_DEFAULT_STOK": "ORDER_DEFAULT_STOCK",
    }
