"""A service's HTTP with TLS: who may speak to it, and how probes do that have no certificate."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from messaging.memory import MemoryBroker, MemoryBus
from messaging.participant import Participant
from messaging.process import BadConfiguration, Running
from messaging.service import Service, participant_service
from messaging.settings import MEMORY, ServiceSettings
from tests.certificates import Authority, Pair


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom the service and its clients trust."""
    return Authority(tmp_path_factory.mktemp("certificates"), "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom nobody knows."""
    return Authority(tmp_path_factory.mktemp("certificates"), "theirs")


@pytest.fixture
def served(tmp_path: Path, authority: Authority) -> dict[str, Any]:
    """Settings of a service with a certificate."""
    pair = authority.issue("depot", "127.0.0.1")
    return {
        "amqp_url": SecretStr(MEMORY),
        "database_url": SecretStr(f"sqlite:///{tmp_path / 'depot.db'}"),
        "port": 0,
        "http_certificate": pair.certificate,
        "http_key": pair.key,
    }


def _service(settings: dict[str, Any]) -> Service:
    async def hello(_request: object) -> PlainTextResponse:
        return PlainTextResponse("hello")

    return participant_service(
        Participant("depot"),
        ServiceSettings(**settings),
        MemoryBus(MemoryBroker(), service="depot"),
        app=lambda _database, _info: Starlette(routes=[Route("/hello", hello)]),
    )


def _context(authority: Authority, own: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


async def _get(url: str, context: ssl.SSLContext | bool = True) -> int:
    async with httpx.AsyncClient(verify=context, trust_env=False, timeout=20) as client:
        return (await client.get(url)).status_code


async def test_a_client_knows_the_service_by_its_certificate(
    served: dict[str, Any], authority: Authority, stranger: Authority
) -> None:
    """Over https only, and not where the client trusts somebody else."""
    async with Running([_service(served)]) as running:
        await running.start()
        url = running.urls["depot"]
        assert url.startswith("https://127.0.0.1:")
        assert await _get(f"{url}/hello", _context(authority)) == 200
        assert await _get(f"{url}/readyz", _context(authority)) == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await _get(f"{url}/hello", _context(stranger))
        with pytest.raises(httpx.RemoteProtocolError):
            await _get(f"{url.replace('https', 'http')}/hello")


async def test_a_service_knows_its_clients_by_their_certificates(
    served: dict[str, Any], authority: Authority, stranger: Authority
) -> None:
    """None, one that has expired and one of another authority get no answer; probes have a port without TLS."""
    settings = served | {"http_client_ca": authority.certificate, "health_port": 0}
    service = _service(settings)
    async with Running([service]) as running:
        await running.start()
        url = running.urls["depot"]
        assert await _get(f"{url}/hello", _context(authority, authority.issue("shop"))) == 200
        for own in (None, authority.issue("shop", expired=True), stranger.issue("shop")):
            with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
                await _get(f"{url}/hello", _context(authority, own))
        beside = running.health_urls["depot"]
        assert await _get(f"{beside}/healthz") == 200
        assert await _get(f"{beside}/readyz") == 200
        assert await _get(f"{beside}/hello") == 404


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"http_certificate": None},
            "AMENDS_HTTP_KEY is set and AMENDS_HTTP_CERTIFICATE is not: HTTP would",
        ),
        ({"http_key": Path("/none.key")}, "AMENDS_HTTP_KEY /none.key is not there; mount it there, or mend the path"),
        ({"http_key": None}, "AMENDS_HTTP_KEY (none) are no certificate and its key"),
        ({"http_client_ca": Path(__file__)}, "holds no certificates of a CA: no certificate or crl found"),
    ],
)
async def test_certificates_that_cannot_be_used_are_refused(
    served: dict[str, Any], changed: dict[str, Any], words: str
) -> None:
    """Before anything is served: bad configuration, exit code 78."""
    with pytest.raises(BadConfiguration) as refused:
        async with Running([_service(served | changed)]):
            pass
    assert words in str(refused.value)


async def test_a_key_with_a_password_is_refused(served: dict[str, Any], tmp_path: Path) -> None:
    """Before OpenSSL asks for it at the terminal and waits; also where the key stands in the certificate's file."""
    key = serialization.load_pem_private_key(served["http_key"].read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    both = tmp_path / "both.pem"
    both.write_bytes(locked.read_bytes() + served["http_certificate"].read_bytes())
    for changed, file in (({"http_key": locked}, locked), ({"http_certificate": both, "http_key": None}, both)):
        with pytest.raises(BadConfiguration) as refused:
            async with Running([_service(served | changed)]):
                pass
        assert f"{file} is encrypted, and a service has nobody to ask for its password" in str(refused.value)


async def test_a_health_port_that_is_taken_is_told(served: dict[str, Any]) -> None:
    """With the variable to change."""
    service = _service(served | {"health_port": 0})
    async with Running([service]) as running:
        await running.start()
        taken = int(running.health_urls["depot"].rpartition(":")[2])
        with pytest.raises(BadConfiguration, match="set AMENDS_HEALTH_PORT to a port that is free"):
            async with Running([_service(served | {"health_port": taken})]):
                pass
