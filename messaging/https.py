"""TLS of a service's HTTP: the certificate that it shows, and whose certificates its clients must have."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

from messaging.settings import ServiceSettings


def options(settings: ServiceSettings) -> dict[str, Any]:
    """What uvicorn is told; nothing where there is no certificate. Raises ValueError where something is missing."""
    certificate, key, authority = settings.http_certificate, settings.http_key, settings.http_client_ca
    if certificate is None:
        for variable, given in (("AMENDS_HTTP_KEY", key), ("AMENDS_HTTP_CLIENT_CA", authority)):
            if given is not None:
                raise ValueError(f"{variable} is set and AMENDS_HTTP_CERTIFICATE is not: HTTP would go without TLS")
        return {}
    for variable, path in (
        ("AMENDS_HTTP_CERTIFICATE", certificate),
        ("AMENDS_HTTP_KEY", key),
        ("AMENDS_HTTP_CLIENT_CA", authority),
    ):
        if path is not None and not Path(path).is_file():
            raise ValueError(f"{variable} {path} is not there; mount it there, or mend the path")
    _without_password(certificate, key)
    found: dict[str, Any] = {"ssl_certfile": certificate, "ssl_keyfile": key}
    if authority is not None:
        found |= {"ssl_ca_certs": str(authority), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return found


def _without_password(certificate: Path, key: Path | None) -> None:
    """Refuse an encrypted key: OpenSSL would ask for its password at the terminal, and nobody is there.

    What else is wrong with the pair is told by whoever loads it next.
    """

    def asked() -> str:
        raise ValueError(
            f"{key or certificate} is encrypted, and a service has nobody to ask for its password: write it without "
            f"one (openssl pkey -in {key or certificate} -out KEY) and let AMENDS_HTTP_KEY name that"
        )

    with suppress(OSError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, asked)


def complaint(settings: ServiceSettings, error: Exception) -> str:
    """One line for what `options`, or whoever was given them, has raised."""
    if not isinstance(error, OSError):
        return str(error)
    reason = str(getattr(error, "reason", None) or error.strerror or error).lower().replace("_", " ")
    authority = settings.http_client_ca
    beside = "" if authority is None else f", or AMENDS_HTTP_CLIENT_CA {authority} holds no certificates of a CA"
    own = f"AMENDS_HTTP_CERTIFICATE {settings.http_certificate} and AMENDS_HTTP_KEY {settings.http_key or '(none)'}"
    return f"{own} are no certificate and its key{beside}: {reason}"
