"""TLS to PostgreSQL: what a DATABASE_URL says of it in libpq's own parameters, looked at before anything is connected.

`sslmode=verify-full` and `sslrootcert=FILE` prove the server, `sslcert` and `sslkey` prove us. The same URL works with
psycopg and `psql`. The files are read again with every connection.
"""

from __future__ import annotations

import difflib
import ssl
from pathlib import Path
from urllib.parse import urlencode

from sqlalchemy.engine import URL

_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_NAMES = (
    "sslmode",
    *_FILES,
    "sslpassword",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
)
_ALIKE = 0.75
_HOME = Path(".postgresql/root.crt")
"""Where libpq looks for the authority, in the home directory, when no other place is named."""


def apart(url: URL) -> tuple[URL, str | None]:
    """The URL without what it says of TLS, and that in the form that the driver reads; None where it says nothing."""
    said = {name: _text(url, name) for name in _NAMES if name in url.query}
    if url.get_backend_name() != "postgresql" or not said:
        return url, None
    return url.difference_update_query(_NAMES), f"postgresql://?{urlencode(said)}"


def check(url: URL) -> None:
    """Raise ValueError, saying what to mend, where a PostgreSQL URL says something of TLS that cannot be meant."""
    if url.get_backend_name() != "postgresql":
        return
    for name in url.query:
        meant = difflib.get_close_matches(name, _NAMES, n=1, cutoff=_ALIKE)
        if name not in _NAMES and meant:
            raise ValueError(f"there is no parameter {name!r}; did you mean {meant[0]!r}?")
    mode = _text(url, "sslmode")
    if mode and mode not in _MODES:
        raise ValueError(f"sslmode={mode} is none of {', '.join(_MODES)}")
    for name in _FILES:
        path = _text(url, name)
        if path and not Path(path).is_file():
            if (name, path) == ("sslrootcert", "system"):
                # libpq 16 knows it; our driver would look for a file of that name, for as long as for a server.
                raise ValueError(
                    "sslrootcert=system is nothing that the driver knows; name the file of the system's CAs"
                )
            raise ValueError(f"{name} {path} is not there; mount it there, or mend the path")
    authority = _text(url, "sslrootcert")
    if mode.startswith("verify-") and not authority and not (Path.home() / _HOME).is_file():
        raise ValueError(f"sslmode={mode} needs to know whom to trust: add sslrootcert=FILE, the CA's certificate")
    _load(authority, _text(url, "sslcert"), _text(url, "sslkey"), _text(url, "sslpassword"))


def hint(url: URL, said: str) -> str | None:
    """What to mend where the server's words are about TLS, or may be; None where they are not."""
    if "no encryption" in said:
        return "it wants TLS: add ?sslmode=verify-full&sslrootcert=FILE to DATABASE_URL"
    if "client certificate" in said:
        return "name ours in DATABASE_URL (sslcert and sslkey)"
    if "certificate verify failed" in said:
        return "name its CA in DATABASE_URL (sslrootcert), and the host as its certificate does"
    if _text(url, "sslcert") and "closed in the middle" in said:
        # With TLS 1.3 the server looks at our certificate when we take the connection for made, and hangs up.
        return "it may not take our certificate (sslcert in DATABASE_URL), expired or of another CA: its log says"
    return None


def _load(authority: str, certificate: str, key: str, password: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if authority:
            context.load_verify_locations(authority)
    except OSError as error:
        raise ValueError(f"sslrootcert {authority} holds no certificates of a CA: {_reason(error)}") from error
    if not certificate:
        return
    try:
        context.load_cert_chain(certificate, key or None, password)
    except OSError as error:
        raise ValueError(
            f"sslcert {certificate} and sslkey {key or '(none)'} are no certificate and its key: {_reason(error)}"
        ) from error


def _text(url: URL, name: str) -> str:
    value = url.query.get(name, "")
    return value if isinstance(value, str) else value[-1]


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return str(reason).lower().replace("_", " ")
