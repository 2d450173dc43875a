"""python -m deploy.vulnerabilities: what is known to be wrong with the locked packages, and bills of materials.

Asks PyPI about every package of the locks (pip-audit), and writes two bills (CycloneDX): build/sbom.cdx.json of what
Amends itself needs, build/sbom-image.cdx.json of what is in the images, which bring its extras along. Exit codes: 0
nothing known, 1 something known, 69 not all packages could be asked about. pip-audit itself calls that a success: it
says "No known vulnerabilities found" of packages that it could not look up.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / ".venv-audit" / "bin"
LOCKS = ("requirements.lock", "requirements-image.lock", "requirements-dev.lock")
BILLS = {"sbom.cdx.json": "requirements.lock", "sbom-image.cdx.json": "requirements-image.lock"}
"""The bills, below `build`, and the locks that they are of."""
BUILD = ROOT / "build"
UNAVAILABLE = 69
_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Findings:
    """What was learned of one lock: of how many packages, what is known, and which could not be asked about."""

    packages: int
    known: tuple[str, ...]
    unasked: tuple[str, ...]


def findings(report: str) -> Findings:
    """From pip-audit's JSON. Raises ValueError where it is none."""
    packages = json.loads(report)["dependencies"]
    known = tuple(
        f"{each['name']} {each['version']}: {vulnerability['id']}, mended in {mended}"
        for each in packages
        for vulnerability in each.get("vulns", ())
        for mended in (", ".join(vulnerability["fix_versions"]) or "no version yet",)
    )
    return Findings(len(packages), known, tuple(each["name"] for each in packages if "skip_reason" in each))


def _ask(lock: str) -> Findings | str:
    """What is known of a lock's packages, or why nobody could be asked."""
    words = ("--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json")
    command = [str(TOOLS / "pip-audit"), *words, "-r", str(ROOT / lock)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    try:
        return findings(ended.stdout)
    except ValueError:
        return (ended.stderr.strip().splitlines() or [f"pip-audit ended with {ended.returncode}"])[-1]


def _write_bill(name: str, lock: str) -> None:
    BUILD.mkdir(exist_ok=True)
    words = ("requirements", str(ROOT / lock), "--pyproject", str(ROOT / "pyproject.toml"))
    how = ("--output-reproducible", "--short-PURLs", "--validate", "-o", str(BUILD / name))
    subprocess.run([str(TOOLS / "cyclonedx-py"), *words, *how], check=True, capture_output=True, timeout=_SECONDS)
    print(f"wrote {(BUILD / name).relative_to(ROOT)}")


def conclude(asked: dict[str, Findings | str]) -> int:
    """Say what was found, a line each, and return the exit code."""
    known, unasked = False, False
    for lock, found in asked.items():
        if isinstance(found, str):
            unasked = True
            print(f"{lock}: nobody could be asked: {found}")
            continue
        for line in found.known:
            known = True
            print(f"{lock}: {line}")
        if found.unasked:
            unasked = True
            print(
                f"{lock}: {len(found.unasked)} of {found.packages} packages could NOT be asked about "
                f"({', '.join(found.unasked[:3])}, …): is https://pypi.org reachable from here?"
            )
        elif not found.known:
            print(f"{lock}: {found.packages} packages, no known vulnerability")
    return 1 if known else UNAVAILABLE if unasked else 0


def main(arguments: Sequence[str]) -> int:
    """Write the bills, then ask; with `--bill` only write them."""
    for name, lock in BILLS.items():
        _write_bill(name, lock)
    return 0 if list(arguments) == ["--bill"] else conclude({lock: _ask(lock) for lock in LOCKS})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
