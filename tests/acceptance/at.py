"""python -m tests.acceptance.at MOMENT WORDS…: the `amends` command, at a moment of ours instead of now."""

from __future__ import annotations

import sys
from datetime import datetime

from messaging.clock import SystemClock
from orchestrator.cli import main

if __name__ == "__main__":
    moment = datetime.fromisoformat(sys.argv[1])
    # Commands are programs: nobody can hand them a clock from outside.
    setattr(SystemClock, "now", lambda _: moment)  # noqa: B010 - mypy refuses to assign a method
    main(sys.argv[2:])
