"""python -m orchestrator: run the orchestrator. The `amends` command has the rest."""

import sys

from orchestrator.cli import script

if __name__ == "__main__":
    script(["run", *sys.argv[1:]])
