"""python -m contracts.schemas: freeze the JSON Schema of message versions that are new, refuse what breaks old ones.

    python -m contracts.schemas                                            Amends' own contracts
    python -m contracts.schemas --check                                    write nothing; fail where it would
    python -m contracts.schemas shop.contracts --directory shop/schemas    a team's own

Exit code 0: all is frozen; 1: refused, or (--check) something is not frozen; 2: wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from contracts.freeze import Freezer, messages_of

OWN = ("contracts.order", "contracts.payment", "contracts.fulfillment")
HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m contracts.schemas",
        description="Freeze the JSON Schema of message versions that are new, and refuse changes that break old ones.",
    )
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="modules of messages (default: Amends' own)")
    parser.add_argument("--directory", type=Path, help="where the schemas lie (needed with MODULE)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where something is not frozen")
    given = parser.parse_args(arguments)
    if given.modules and given.directory is None:
        parser.error("say with --directory where the schemas of these modules lie")
    directory: Path = given.directory or HERE
    if not directory.is_dir():
        parser.error(f"{directory} is no directory; create it first")
    try:
        modules = [importlib.import_module(name) for name in given.modules or OWN]
    except ModuleNotFoundError as error:
        parser.error(f"{error}; name an importable module")
    return _run(Freezer(directory, messages_of(modules)), check=given.check)


def _run(freezer: Freezer, *, check: bool) -> int:
    refusals = freezer.refusals()
    if refusals:
        sys.stderr.writelines(f"refused: {refusal}\n" for refusal in refusals)
        return 1
    if check:
        outdated = freezer.outdated()
        sys.stderr.writelines(f"not frozen: {name}; run python -m contracts.schemas\n" for name in outdated)
        return 1 if outdated else 0
    sys.stdout.writelines(f"frozen: {name}\n" for name in freezer.write())
    return 0


if __name__ == "__main__":
    sys.exit(main())
