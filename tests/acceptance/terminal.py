"""A reader at a terminal: types what a page says, in one folder, and compares what is printed with the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tests.acceptance import zygote
from tests.acceptance.pages import ROOT
from tests.acceptance.programs import BOUND, environment


@dataclass(frozen=True, slots=True)
class Terminal:
    """A shell in `folder`, in which `amends` and `python` are those of this checkout, `columns` wide."""

    folder: Path
    given: Mapping[str, str] = field(default_factory=dict)
    columns: int = 100

    def types(self, commands: str, *, at: datetime | None = None) -> str:
        """Everything that these lines print, on both outputs, as if `folder` were /app, and our checkout too.

        `at` is what the commands' clock shows, if not now.
        """
        programs = self.folder / ".bin"
        programs.mkdir(exist_ok=True)
        for name, words in (("amends", self._amends(at)), ("python", sys.executable)):
            (programs / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n', "utf-8")
            (programs / name).chmod(0o755)
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        ended = subprocess.run(
            ("bash", "-c", commands),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=environment(PATH=path, COLUMNS=str(self.columns), NO_COLOR="1", TZ="UTC", LC_ALL="C.UTF-8")
            | dict(self.given),
            check=False,
            timeout=BOUND,
        )
        lines = ended.stdout.replace(str(self.folder), "/app").replace(str(ROOT), "/app").strip().splitlines()
        return "\n".join(line.rstrip() for line in lines)

    def _amends(self, at: datetime | None) -> str:
        if "PYTHONPATH" not in self.given:
            moment = () if at is None else (f"--at={at.isoformat()}",)
            return " ".join((*zygote.client(), *moment))
        # The code is the reader's own, and may be changed between two commands.
        command = (
            f"-m tests.acceptance.at {at.isoformat()}" if at else "-c 'from orchestrator.cli import script; script()'"
        )
        return f"{sys.executable} {command}"


def told(text: str) -> str:
    """Without what is another each time: tokens, how long it took, the number of a line of code."""
    text = re.sub(r"redacted-[0-9a-f]{16}", "redacted-0", text)
    text = re.sub(r"\bin [0-9.]+s( \([0-9:]+\))?$", "in 0s", text, flags=re.MULTILINE)
    text = re.sub(r"(transitions?), [0-9.]+ s:", r"\1, 0 s:", text)
    return re.sub(r"\.py\(\d+\)", ".py(0)", text.strip())
