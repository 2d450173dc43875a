"""The project's own pages, and the blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language, its text, and the line of the page on which the text begins."""

    page: Path
    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The file that a first line like `# trips/saga.py` says it is."""
        found = re.match(r"# (\S+\.py)\n", self.text)
        return found[1] if found else None


def pages() -> list[Path]:
    """Every page that people read."""
    found = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
    assert len(found) > 10, found
    return found


def blocks(page: Path, language: str) -> list[Block]:
    """The page's blocks of this language, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, found[1], found[2], text.count("\n", 0, found.start(2)) + 1)
        for found in _BLOCK.finditer(text)
        if found[1] == language
    ]


@dataclass(frozen=True, slots=True)
class Session:
    """Lines for a shell, and what the page says they print; None where it says nothing."""

    commands: str
    printed: str | None


def sessions(page: Path) -> list[Session]:
    """The page's `sh` blocks in order, each with the `text` block that is the next block behind it, if it is one."""
    languages = set(re.findall(r"^```(\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE))
    every = sorted((each for language in languages for each in blocks(page, language)), key=lambda each: each.line)
    return [
        Session(block.text, behind.text if behind is not None and behind.language == "text" else None)
        for block, behind in pairwise([*every, None])
        if block is not None and block.language == "sh"
    ]
