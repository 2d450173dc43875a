"""A vhost made from our own definitions: a user for each service, who may do what it needs and nothing else.

Users are known to the whole broker, which several tests share: all give them the same passwords.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import aio_pika
import pytest
import typer
import yarl
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused
from typer.testing import CliRunner

from orchestrator.cli.app import app as amends
from services.order.__main__ import app as order
from services.payment.__main__ import app as payment

USERS = ("orchestrator", "order", "payment", "shop", "operator", "monitor")
PROGRAMS = {"order": order, "payment": payment}


def control() -> str:
    """The `rabbitmqctl` of the broker that tests share."""
    found = os.environ.get("TEST_RABBITMQCTL")
    if not found:
        pytest.skip("needs a rabbitmqctl for the broker: run it with `make test`, or set TEST_RABBITMQCTL")
    return found


def password_of(broker: str, user: str) -> str:
    """The same for everybody who knows the broker's own."""
    return sha256(f"{user} at {broker}".encode()).hexdigest()


@dataclass(frozen=True)
class Guarded:
    """Where a user of the vhost connects."""

    broker: yarl.URL
    vhost: str

    def url(self, user: str) -> str:
        """As that user."""
        with_user = self.broker.with_user(user).with_password(password_of(str(self.broker), user))
        return str(with_user.with_path(f"/{self.vhost}"))


def guard(broker_url: str, directory: Path, many: int) -> list[Guarded]:
    """Make so many vhosts alike with the commands that an operator uses."""
    broker = yarl.URL(broker_url)
    passwords = directory / "passwords"
    passwords.mkdir()
    for user in USERS:
        (passwords / user).write_text(password_of(str(broker), user))
    files = []
    for name, program in PROGRAMS.items():
        path = directory / f"{name}.json"
        path.write_text(_printed(program, "needs"))
        files.append(str(path))
    found = [Guarded(broker, f"guarded-{uuid4().hex[:8]}") for _ in range(many)]
    together: dict[str, list[Any]] = {}
    for each in found:
        words = ("--vhost", each.vhost, "--passwords", str(passwords), "--emitter", "shop")
        text = _printed(amends, "broker", "definitions", *files, *words)
        assert [user for user in USERS if (passwords / user).read_text() in text] == []
        for kind, things in json.loads(text).items():
            together.setdefault(kind, []).extend(things)
    made = directory / "definitions.json"
    made.write_text(json.dumps(together))
    # Once for all: starting it takes longer than what it does.
    subprocess.run([control(), "import_definitions", str(made)], check=True, capture_output=True, timeout=180)
    return found


def _printed(program: typer.Typer, *words: str) -> str:
    ended = CliRunner().invoke(program, words)
    assert ended.exit_code == 0, ended.stderr
    return ended.stdout


class Tries:
    """A user's connection on which things are tried, each on a channel of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stack = AsyncExitStack()
        self._connection: aio_pika.abc.AbstractConnection

    async def __aenter__(self) -> Self:
        self._connection = await self._stack.enter_async_context(await aio_pika.connect(self._url))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def channel(self) -> AbstractChannel:
        """With confirms."""
        return await self._connection.channel()

    async def allowed(self, operation: str, *words: Any) -> bool:
        """Whether the broker did it, or refused it for want of a permission. Raises anything else."""
        channel = await self.channel()
        underlying = await channel.get_underlay_channel()
        try:
            if operation == "publish":
                exchange, key = words
                await underlying.basic_publish(b"{}", exchange=exchange, routing_key=key)
            else:
                await getattr(underlying, operation)(*words)
        except ChannelAccessRefused:
            return False
        await channel.close()
        return True


async def allowed_of(url: str, tried: Sequence[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """Which of these operations the user may do."""
    async with Tries(url) as tries:
        return {each for each in tried if await tries.allowed(*each)}
