"""python -m messaging.probe [URL]: whether a service says that it is ready; for containers without a shell.

Without a URL it asks http://127.0.0.1:PORT/readyz, of the PORT that the service itself reads, or of AMENDS_HEALTH_PORT
where there is one: PORT may want certificates then. It loads next to nothing: a container asks every few seconds. Exit
codes: 0 ready, 1 not ready or not there (a line on stderr says which), 2 usage.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence

SECONDS = 4.0
"""How long all of an answer may take; the container's own limit should be longer."""
LONGEST_ANSWER = 65536
_USAGE = "usage: python -m messaging.probe [http://HOST:PORT/PATH]"


class NotReady(Exception):
    """The service did not say that it is ready; says what it said instead."""


def ask(host: str, port: int, path: str) -> None:
    """Return when the answer is 200. Raises NotReady, or OSError where nobody answers within SECONDS."""
    give_up = time.monotonic() + SECONDS
    request = f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((host, port), timeout=SECONDS) as connection:
        connection.sendall(request.encode("ascii"))
        answer = b""
        while len(answer) < LONGEST_ANSWER:
            # One who says a little now and then does not get a little longer each time. (0 would mean: do not wait.)
            connection.settimeout(max(give_up - time.monotonic(), 0.001))
            if not (part := connection.recv(LONGEST_ANSWER)):
                break
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b"\r\n")[0].split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        raise NotReady(f"{answer[:80]!r} is no HTTP")
    if words[1] != b"200":
        raise NotReady(f"{words[1].decode(errors='replace')} {body.decode(errors='replace')}".strip())


def parts_of(url: str) -> tuple[str, int, str]:
    """Host, port and path of an http:// URL. Raises ValueError where it is none."""
    scheme, _, rest = url.partition("://")
    where, slash, path = rest.partition("/")
    host, _, port = where.rpartition(":")
    if scheme != "http" or not host or not port.isdecimal() or not url.isascii() or not url.isprintable():
        raise ValueError(f"{url!r} is no URL with a port, like http://127.0.0.1:8000/readyz")
    return host.strip("[]"), int(port), slash + path or "/"


def main(arguments: Sequence[str]) -> int:
    """Ask once; the exit code."""
    if len(arguments) > 1:
        sys.stderr.write(f"{_USAGE}\n")
        return 2
    port = os.environ.get("AMENDS_HEALTH_PORT", "").strip() or os.environ.get("PORT", "8000")
    url = arguments[0] if arguments else f"http://127.0.0.1:{port}/readyz"
    try:
        ask(*parts_of(url))
    except ValueError as error:
        sys.stderr.write(f"{error}\n{_USAGE}\n")
        return 2
    except (NotReady, OSError) as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
