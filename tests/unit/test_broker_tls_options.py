"""What an amqps:// URL says of certificates, as far as no broker is needed to judge it."""

from __future__ import annotations

import ssl

import pytest
from yarl import URL

from messaging.rabbitmq_tls import Tls

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
