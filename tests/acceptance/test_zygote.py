"""The process that commands are started from: it ends with whoever started it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.programs import BOUND, environment

STARTED = """
import os, signal
from tests.acceptance.zygote import client
print(client()[-1], flush=True)
os.kill(os.getpid(), getattr(signal, "{signal}"))
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_nothing_is_left_of_it_however_its_starter_ends(tmp_path: Path, name: str) -> None:
    """Neither its folder nor the process: that holds standard output, too, and whoever reads it waits for its end."""
    ended = subprocess.run(
        (sys.executable, "-c", STARTED.format(signal=name)),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
        timeout=BOUND,
    )
    address = Path(ended.stdout.strip())
    assert address.name == "socket"
    assert not address.parent.exists()
