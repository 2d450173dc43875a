"""TLS to a real broker: each end proves who it is, and one that cannot is refused in words."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import yarl

from deploy.servers.process import PortLease
from messaging.bus import BusUnavailable, Outgoing, Receipt
from messaging.clock import SystemClock
from messaging.rabbitmq import RabbitBus
from tests.certificates import Authority, Pair
from tests.integration.guarded import Guarded, control, guard

PATIENCE = timedelta(seconds=30)


@dataclass(frozen=True)
class Listeners:
    """Where the broker speaks TLS: to anybody, and to those with a certificate of the same authority."""

    broker: yarl.URL
    open: int
    mutual: int
    authority: Authority
    stranger: Authority
    own: Pair

    def url(self, port: int, **options: object) -> str:
        """As the broker's own user."""
        return str(self.broker.with_scheme("amqps").with_port(port).with_query({k: str(v) for k, v in options.items()}))


_LISTEN = (
    'rabbit_networking:start_ssl_listener({{"127.0.0.1", {port}, inet}}, [{{cacertfile, "{authority}"}}, '
    '{{certfile, "{certificate}"}}, {{keyfile, "{key}"}}, {{verify, verify_peer}}, '
    "{{fail_if_no_peer_cert, {mutual}}}], 10)."
)


@pytest.fixture(scope="module")
def listeners(broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    """Two more listeners of the broker that tests share."""
    directory = tmp_path_factory.mktemp("certificates")
    authority, stranger = Authority(directory, "ours"), Authority(directory, "theirs")
    server = authority.issue("broker", "127.0.0.1", "localhost")
    lease = PortLease(2)
    opened, mutual = lease.ports
    script = "".join(
        _LISTEN.format(
            port=port,
            authority=authority.certificate,
            certificate=server.certificate,
            key=server.key,
            mutual=str(port == mutual).lower(),
        ).replace(").", "), " if port == opened else ").")
        for port in lease.ports
    )
    subprocess.run([control(), "eval", script], check=True, capture_output=True, timeout=180)
    yield Listeners(yarl.URL(broker_url), opened, mutual, authority, stranger, authority.issue("payment"))
    lease.release()


async def _start(url: str, patience: timedelta = PATIENCE) -> RabbitBus:
    bus = RabbitBus(url, service="payment", connect_timeout=patience)
    await bus.start()
    return bus


async def _refused(url: str) -> str:
    with pytest.raises(BusUnavailable) as refused:
        await _start(url)
    return str(refused.value)


def _mine(pair: Pair) -> dict[str, Path]:
    return {"certfile": pair.certificate, "keyfile": pair.key}


async def test_both_ends_prove_who_they_are(listeners: Listeners) -> None:
    """With the authority's certificate, and one of our own where the broker wants it, there is a connection."""
    authority = listeners.authority.certificate
    for url in (
        listeners.url(listeners.open, cafile=authority),
        listeners.url(listeners.mutual, cafile=authority, **_mine(listeners.own)),
    ):
        bus = await _start(url)
        assert bus.connected
        await bus.close()


async def test_a_broker_of_another_authority_is_not_spoken_to(listeners: Listeners) -> None:
    """At once, however long we would wait for it: it does not get better by waiting."""
    for options in ({"cafile": listeners.stranger.certificate}, {}):
        said = await _refused(listeners.url(listeners.open, **options))
        assert said.startswith("there is no safe connection to the broker at amqps://")
        assert "its certificate is not trusted: self-signed certificate in certificate chain" in said
        assert "name its CA in AMQP_URL (?cafile=…)" in said
        assert listeners.broker.password is not None
        assert listeners.broker.password not in said


async def test_a_broker_at_a_host_that_its_certificate_does_not_name_is_not_spoken_to(listeners: Listeners) -> None:
    """It may be anybody with a certificate of the same authority."""
    url = yarl.URL(listeners.url(listeners.open, cafile=listeners.authority.certificate)).with_host("127.0.0.2")
    async with await asyncio.start_server(_pass_to(listeners.open), "127.0.0.2", listeners.open):
        said = await _refused(str(url))
    assert "IP address mismatch, certificate is not valid for '127.0.0.2'" in said


def _pass_to(port: int):  # type: ignore[no-untyped-def]  # asyncio's own callback
    async def passing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                target.write(data)
            target.close()

        await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)

    return passing


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("none", "it wants a certificate of ours; name it in AMQP_URL (?certfile=…&keyfile=…)"),
        ("expired", "our certificate (certfile in AMQP_URL) has expired, it says; renew it"),
        ("stranger", "it does not know who has signed our certificate (certfile in AMQP_URL)"),
    ],
)
async def test_who_has_no_certificate_that_the_broker_takes_is_refused(
    listeners: Listeners, kind: str, words: str
) -> None:
    """None, one that has expired, one of another authority: said in words, or what they may be where they are lost."""
    own = {
        "none": None,
        "expired": listeners.authority.issue("payment", expired=True),
        "stranger": listeners.stranger.issue("payment"),
    }[kind]
    options = {"cafile": listeners.authority.certificate} | ({} if own is None else _mine(own))

    said = await _refused(listeners.url(listeners.mutual, **options))
    # The broker's words come just before it hangs up; a reset may overtake them, and does on a machine that is busy.
    assert words in said or (own and "Perhaps it refuses our certificate (certfile in AMQP_URL)" in said), said


async def test_tls_at_a_port_without_it_is_told(listeners: Listeners) -> None:
    """The broker's plain port."""
    port = listeners.broker.port
    assert port is not None
    assert "it speaks no TLS at that port" in await _refused(listeners.url(port))


async def test_a_certificate_that_was_renewed_is_used_without_a_restart(listeners: Listeners, tmp_path: Path) -> None:
    """The next connection reads the files again: one that had expired is refused, and one in its place is not."""
    own = listeners.authority.issue("payment")
    place = Pair(tmp_path / "own.pem", tmp_path / "own.key")
    expired = listeners.authority.issue("payment", expired=True)
    _copy(expired, place)
    url = listeners.url(listeners.mutual, cafile=listeners.authority.certificate, **_mine(place))
    bus = RabbitBus(url, service="payment", connect_timeout=PATIENCE)
    with pytest.raises(BusUnavailable):
        await bus.start()
    _copy(own, place)
    await bus.start()
    assert bus.connected
    await bus.close()


def _copy(source: Pair, target: Pair) -> None:
    target.certificate.write_bytes(source.certificate.read_bytes())
    target.key.write_bytes(source.key.read_bytes())


# -- known by a certificate ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Guarded:
    """A vhost with users."""
    (found,) = guard(broker_url, tmp_path_factory.mktemp("guarded"), 1)
    return found


@pytest.mark.parametrize(("user", "receipt"), [("payment", Receipt.CONFIRMED), ("order", Receipt.UNKNOWN)])
async def test_a_service_is_known_by_its_certificate(
    listeners: Listeners, guarded: Guarded, user: str, receipt: Receipt
) -> None:
    """Without a password; its messages name it as their sender, and the broker takes no other name from it."""
    options = {"auth": "external", "cafile": listeners.authority.certificate} | _mine(listeners.own)
    url = yarl.URL(listeners.url(listeners.mutual, **options)).with_user(user).with_password(None)
    bus = await _start(str(url.with_path(f"/{guarded.vhost}").with_query(url.query)))
    message = Outgoing(
        exchange="amends.events",
        routing_key="payment.authorized",
        message_id="1",
        body=b"{}",
        type="payment.authorized",
        timestamp=SystemClock().now(),
        app_id="payment",
    )

    assert await bus.publish([message]) == [receipt]
    await bus.close()


# -- what the URL says ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("amqps://h/?cafille=ca.pem", "there is no option 'cafille'; did you mean 'cafile'?"),
        ("amqp://h/?cafile=ca.pem", r"it names certificates \(cafile\) and goes without TLS; write amqps://"),
        ("amqps://h/?keyfile=own.key", "it names a keyfile without a certfile; name both"),
        ("amqps://h/?cafile=/none/ca.pem", "cafile /none/ca.pem is not there; mount it there, or mend the path"),
    ],
)
def test_an_url_that_cannot_be_meant_is_refused(url: str, words: str) -> None:
    """Before anything is connected: a certificate that is not used must not look as if it were."""
    with pytest.raises(ValueError, match=words):
        RabbitBus(url, service="payment")


def test_files_that_are_no_certificates_are_refused(tmp_path: Path) -> None:
    """Nor a certificate with another's key."""
    authority = Authority(tmp_path, "ours")
    one, another = authority.issue("one"), authority.issue("another")
    for url, words in (
        (f"amqps://h/?cafile={one.key}", "holds no certificates of a CA: no certificate or crl found"),
        (f"amqps://h/?certfile={one.certificate}&keyfile={another.key}", "are no certificate and its key: key values"),
        (f"amqps://h/?certfile={one.certificate}", "no keyfile are no certificate and its key"),
    ):
        with pytest.raises(ValueError, match=words):
            RabbitBus(url, service="payment")
