"""Where and with what a measurement was made: figures of two machines, or of two versions, are not to be compared."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
import psutil

LIBRARIES = ("aio-pika", "asyncpg", "pydantic", "sqlalchemy", "uvicorn")
_DURABILITY = ("fsync", "synchronous_commit", "full_page_writes", "wal_level")


def now() -> str:
    """The moment, as the files say it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def described() -> dict[str, Any]:
    """This machine, Python, our libraries, and how busy the machine is at the moment."""
    return {
        "cpus": os.cpu_count(),
        "cpu": _model(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "commit": _commit(),
        "load": load(),
    }


def load() -> list[float]:
    """How many processes wanted a core during the last minute, five and fifteen."""
    return [round(value, 2) for value in os.getloadavg()]


async def servers(amqp_url: str, database_url: str) -> dict[str, Any]:
    """The versions of the broker and of PostgreSQL, and how durable PostgreSQL is."""
    async with await aio_pika.connect(amqp_url) as broker:
        properties = broker.transport.connection.server_properties if broker.transport is not None else {}
    connection = await asyncpg.connect(database_url)
    try:
        found = {name: await connection.fetchval("SELECT current_setting($1)", name) for name in _DURABILITY}
        return {
            "broker": f"{_text(properties.get('product'))} {_text(properties.get('version'))}",
            "postgresql": await connection.fetchval("SHOW server_version"),
            "postgresql_settings": found,
        }
    finally:
        await connection.close()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _commit() -> str | None:
    """The version of the sources; None where they are not in a repository."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
