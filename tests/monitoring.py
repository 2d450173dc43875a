"""Programs of Debian's package prometheus, which `make test` installs."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str) -> str:
    """Where `prometheus` or `promtool` is; without it the test is skipped, and fails in CI."""
    found = shutil.which(name)
    if found is not None:
        return found
    reason = f"needs {name}: run it with `make test`, which installs the package prometheus"
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
