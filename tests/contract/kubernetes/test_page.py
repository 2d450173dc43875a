"""docs/kubernetes.md: what can be run without a cluster is run, the rest is checked word by word."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest

from tests.acceptance.pages import ROOT, Block, blocks
from tests.acceptance.programs import environment

PAGE = ROOT / "docs" / "kubernetes.md"
TOOLS = Path(sys.prefix) / "bin"


def _for_a_cluster() -> list[list[str]]:
    """The indented commands, each as its words."""
    return [shlex.split(line) for line in re.findall(r"^    (\S.*)$", PAGE.read_text("utf-8"), re.MULTILINE)]


@pytest.mark.parametrize("block", blocks(PAGE, "sh"), ids=lambda block: f"line-{block.line}")
def test_what_needs_no_cluster_runs(block: Block, tmp_path: Path) -> None:
    """Every line ends well, in a folder that leads to the manifests, and resources are printed."""
    path = os.pathsep.join((str(TOOLS), os.environ["PATH"]))
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    ended = subprocess.run(
        ["sh", "-e", "-c", block.text],
        cwd=tmp_path,
        env=environment(PATH=path),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "\nkind: " in ended.stdout


def _help(*words: str) -> str:
    command = [str(TOOLS / "kubectl"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True).stdout


def test_what_needs_a_cluster_names_what_is_there() -> None:
    """Every folder and file exists, and kubectl knows every option."""
    everywhere, known = _help("options"), dict[tuple[str, ...], str]()
    commands = [words[index:] for words in _for_a_cluster() for index, word in enumerate(words) if word == "kubectl"]
    assert len(commands) == 21
    for words in commands:
        subcommand = tuple(takewhile(lambda word: not word.startswith("-") and "/" not in word, words[1:]))
        if subcommand not in known:
            known[subcommand] = _help(*subcommand, "--help") + everywhere
        for word in words:
            if word.startswith("--"):
                assert f"{word.partition('=')[0]}=" in known[subcommand], words
            if word.startswith("deploy/"):
                assert (ROOT / word).exists(), word
