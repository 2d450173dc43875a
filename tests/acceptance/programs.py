"""Programs started the way a person starts them, and waited for with a bound."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.acceptance import zygote
from tests.acceptance.pages import ROOT

BOUND = 180.0
AMENDS = (sys.executable, "-c", "from orchestrator.cli import script; script()")
"""The console script, also where Amends is not installed."""


def eventually(holds: Callable[[], bool], bound: float = BOUND) -> bool:
    """Whether it came to hold within so many seconds."""
    give_up = time.monotonic() + bound
    while not holds():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True


def environment(**given: str) -> dict[str, str]:
    """Ours without what would lead a program elsewhere, with Amends on its path, and `given`."""
    unwanted = ("DATABASE_URL", "AMQP_URL", "PORT", "HOST", "COLUMNS", "NO_COLOR", "ORDER_URL")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in unwanted and not name.startswith(("AMENDS_", "ORDER_", "PAYMENT_"))
    }
    return kept | {"PYTHONPATH": str(ROOT), "NO_PROXY": "*"} | given


def finished(command: tuple[str, ...], cwd: Path, stdin: str = "", **given: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; `amends` as a fork of one that has loaded it."""
    if command[: len(AMENDS)] == AMENDS:
        command = (*zygote.client(), *command[len(AMENDS) :])
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(**given),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )


@contextmanager
def running(
    command: tuple[str, ...], cwd: Path, log: Path, given: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs for as long as the block; what it says goes to `log`."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(**(given or {})),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(BOUND)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def answers(url: str) -> bool:
    """Whether a GET of this address succeeds."""
    try:
        return httpx.get(url, trust_env=False, timeout=BOUND).is_success
    except httpx.TransportError:
        return False
