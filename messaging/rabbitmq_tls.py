"""TLS to the broker: what an amqps:// URL says of certificates, and what went wrong with them in words.

`cafile` (or `capath`) names who may have signed the broker's certificate, instead of the system's trust store;
`certfile` and `keyfile` are our own, where the broker wants one; `auth=external` lets the broker know us by it, without
a password. The files are read again with every connection, so that renewed ones need no restart.
"""

from __future__ import annotations

import difflib
import ssl
from collections.abc import Iterator
from pathlib import Path

from yarl import URL

_PATHS = ("cafile", "capath", "certfile", "keyfile")
_OPTIONS = (*_PATHS, "cadata", "no_verify_ssl", "auth", "heartbeat", "timeout", "name", "channel_max", "frame_max")
_ALIKE = 0.75

_REFUSALS = {
    "CERTIFICATE_REQUIRED": "it wants a certificate of ours; name it in AMQP_URL (?certfile=…&keyfile=…)",
    "HANDSHAKE_FAILURE": "it refuses us, perhaps for want of a certificate (certfile and keyfile in AMQP_URL)",
    "CERTIFICATE_EXPIRED": "our certificate (certfile in AMQP_URL) has expired, it says; renew it",
    "CERTIFICATE_REVOKED": "our certificate (certfile in AMQP_URL) is revoked, it says; have another one issued",
    "UNKNOWN_CA": "it does not know who has signed our certificate (certfile in AMQP_URL); use one of its own CA's",
    "CERTIFICATE": "it refuses our certificate (certfile in AMQP_URL)",
    "WRONG_VERSION_NUMBER": "it speaks no TLS at that port; name its TLS port (5671, usually), or write amqp://",
}
"""What OpenSSL calls what the other side has said, beginning with the most certain; and what it means to us."""


class Tls:
    """What one URL says. Raises ValueError, saying what to mend, where it says something that cannot be meant."""

    def __init__(self, url: URL) -> None:
        self._options = {name: value for name, value in url.query.items() if value}
        for name in url.query:
            meant = difflib.get_close_matches(name, _OPTIONS, n=1, cutoff=_ALIKE)
            if name not in _OPTIONS and meant:
                raise ValueError(f"there is no option {name!r}; did you mean {meant[0]!r}?")
        self.used = url.scheme == "amqps"
        unverified = self._options.get("no_verify_ssl", "0")
        if unverified not in ("0", "1"):
            raise ValueError(f"no_verify_ssl={unverified}: write 1 to take any broker for ours, or 0, or leave it out")
        given = [name for name in (*_PATHS, "cadata") if name in self._options]
        if given and not self.used:
            raise ValueError(f"it names certificates ({', '.join(given)}) and goes without TLS; write amqps://")
        if ("keyfile" in self._options) > ("certfile" in self._options):
            raise ValueError("it names a keyfile without a certfile; name both")
        for name in given:
            if name in _PATHS and not Path(self._options[name]).exists():
                raise ValueError(f"{name} {self._options[name]} is not there; mount it there, or mend the path")
        if self.used:
            self.context()

    @property
    def verified(self) -> bool:
        """Whether the broker's certificate is looked at."""
        return self._options.get("no_verify_ssl", "0") == "0"

    def context(self) -> ssl.SSLContext:
        """For one connection, from the files as they are now. Raises ValueError where they cannot be used."""
        options = self._options
        authority = options.get("cafile") or options.get("capath")
        try:
            context = ssl.create_default_context(
                cafile=options.get("cafile"), capath=options.get("capath"), cadata=options.get("cadata")
            )
        except OSError as error:
            raise ValueError(f"{authority or 'cadata'} holds no certificates of a CA: {_said(error)}") from error
        if "certfile" in options:
            try:
                context.load_cert_chain(options["certfile"], options.get("keyfile"), password="")
            except OSError as error:
                raise ValueError(
                    f"{options['certfile']} and {options.get('keyfile', 'no keyfile')} are no certificate and its key: "
                    f"{_said(error)}"
                ) from error
        if not self.verified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def doubt(self, error: BaseException) -> str | None:
        """What a connection that was reset may have been reset for; None where it was not, or goes without TLS.

        Since TLS 1.3 a broker looks at our certificate when we take the connection for open, and are speaking. What it
        says then, it says just before it hangs up on what we have sent: the reset may overtake it, and does where we
        are starved.
        """
        if not self.used or not any(isinstance(each, ConnectionResetError) for each in _causes(error)):
            return None
        return _REFUSALS["CERTIFICATE" if "certfile" in self._options else "CERTIFICATE_REQUIRED"]


def refusal(error: BaseException) -> str | None:
    """What a failure says about certificates, for people; None where it is about something else."""
    for each in _causes(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not trusted: {each.verify_message}; name its CA in AMQP_URL (?cafile=…), and the "
                "host as the certificate does"
            )
        if isinstance(each, ssl.SSLError):
            reason = each.reason or ""
            for sign, words in _REFUSALS.items():
                if sign in reason:
                    return f"{words} ({reason})"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what the client library has wrapped in it, and what it came of."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        wrapped = [*each.args, each.__cause__, each.__context__]
        waiting.extend(found for found in wrapped if isinstance(found, BaseException))


def _said(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return str(reason).lower().replace("_", " ")
