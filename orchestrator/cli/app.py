"""amends: run the orchestrator, look at sagas, ask why they wait, decide about them, start one by hand.

Data goes to stdout, logs and complaints to stderr. Exit codes: 0 fine, 1 not found or not possible, 2 usage,
69 a dependency is unavailable, 70 a process of ours was killed, 78 bad configuration.
"""

from __future__ import annotations

from orchestrator.cli.commands import amends

app = amends()
"""All of it; `orchestrator.cli.script` loads only what the command it was given needs."""
