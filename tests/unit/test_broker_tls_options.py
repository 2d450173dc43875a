"""What an amqps:// URL says of certificates, as far as no broker is needed to judge it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from yarl import URL

from messaging.rabbitmq_tls import Tls
from tests.certificates import Authority

BROKER = URL("amqps://payment@broker/amends")


@pytest.mark.parametrize(
    ("said", "verified"), [({}, True), ({"no_verify_ssl": "0"}, True), ({"no_verify_ssl": "1"}, False)]
)
def test_the_broker_proves_who_it_is_unless_told_not_to(said: dict[str, str], verified: bool) -> None:
    """What the option says is what the connection does."""
    tls = Tls(BROKER.with_query(said))

    assert tls.verified is verified
    assert (tls.context().verify_mode, tls.context().check_hostname) == (
        (ssl.CERT_REQUIRED, True) if verified else (ssl.CERT_NONE, False)
    )


@pytest.mark.parametrize("said", ["false", "no", "off", "true", "yes"])
def test_an_option_that_may_be_meant_either_way_is_refused(said: str) -> None:
    """`no_verify_ssl=false` must not switch off what its writer wants."""
    with pytest.raises(ValueError, match=f"no_verify_ssl={said}: write 1 .* or 0"):
        Tls(BROKER.with_query(no_verify_ssl=said))


@pytest.mark.parametrize(
    ("url", "doubt"),
    [
        ("amqps://u@h", "it wants a certificate of ours; name it in AMQP_URL (?certfile=…&keyfile=…)"),
        ("amqps://u@h?certfile={own}&keyfile={key}", "it refuses our certificate (certfile in AMQP_URL)"),
        ("amqp://u@h", None),
    ],
)
def test_a_reset_may_have_overtaken_what_the_broker_says_of_a_certificate(
    url: str, doubt: str | None, tmp_path: Path
) -> None:
    """Whoever reads only of a reset is told what it may have been for; without TLS it has another reason."""
    own = Authority(tmp_path, "ours").issue("payment")
    tls = Tls(URL(url.format(own=own.certificate, key=own.key)))
    assert tls.doubt(ConnectionError("Server connection reset", ConnectionResetError(104, "reset by peer"))) == doubt
    assert tls.doubt(ConnectionError("refused")) is None
