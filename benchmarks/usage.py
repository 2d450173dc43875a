"""What processes cost: CPU seconds and resident memory, as the kernel counts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds used so far and resident bytes now, by name."""

    cpu: Mapping[str, float]
    rss: Mapping[str, int]

    def since(self, before: Usage) -> dict[str, float]:
        """CPU seconds used between the two."""
        return {name: seconds - before.cpu[name] for name, seconds in self.cpu.items()}


class Watched:
    """Some processes by name, each with its children, but for those that have a name themselves; None for one that
    runs where we cannot look.
    """

    def __init__(self, pids: Mapping[str, int | None]) -> None:
        self._pids = {name: pid for name, pid in pids.items() if pid is not None}

    def usage(self) -> Usage:
        """What they have used until now. Raises psutil.NoSuchProcess where one has ended."""
        return Usage(
            {name: _cpu(psutil.Process(pid), set(self._pids.values()) - {pid}) for name, pid in self._pids.items()},
            {name: psutil.Process(pid).memory_info().rss for name, pid in self._pids.items()},
        )


def listener_on(url: str) -> int | None:
    """The process of this machine that listens where `url` points; None where it is another machine's or hidden."""
    parts = urlsplit(url)
    port = parts.port or {"amqp": 5672, "postgresql": 5432}.get(parts.scheme)
    if parts.hostname not in _LOOPBACK:
        return None
    for each in psutil.net_connections("tcp"):
        if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port and each.pid is not None:
            return each.pid
    return None


def _cpu(process: psutil.Process, apart: set[int]) -> float:
    own = process.cpu_times()
    # PostgreSQL's backends are children, and what one that has ended had used is told by its parent.
    total = own.user + own.system + own.children_user + own.children_system
    skipped = set(apart)
    for child in process.children(recursive=True):  # parents before their children
        try:
            if child.pid in skipped or child.ppid() in skipped:
                skipped.add(child.pid)
                continue
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return float(total)
