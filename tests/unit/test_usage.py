"""What a process costs, its children included."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.usage import Watched

BURNS = (
    "import time; stop = time.process_time() + 0.3\nwhile time.process_time() < stop: pass\nprint(flush=True); input()"
)


def test_a_child_with_a_name_of_its_own_is_not_its_parents() -> None:
    """A server that the measuring process has started counts once, under its own name; other children are its own."""
    child = subprocess.Popen([sys.executable, "-c", BURNS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        # In this order: whatever others of our children do meanwhile, makes the sum larger.
        apart = Watched({"us": os.getpid(), "server": child.pid}).usage().cpu
        together = Watched({"us": os.getpid()}).usage().cpu["us"]
    finally:
        child.communicate(b"\n")

    assert apart["server"] >= 0.3
    assert apart["us"] <= together - 0.2
