"""python -m orchestrator: run the orchestrator. The `amends` command has the rest."""

import sys

from orchestrator.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
