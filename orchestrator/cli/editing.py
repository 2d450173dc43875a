"""Text in a person's own editor."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestrator.cli.opening import fail


def edited(text: str, name: str) -> str | None:
    """What is saved of `text`, as a file of this name in $VISUAL or $EDITOR; None where nothing was changed.

    Ends the command with 2 where the editor cannot be started, and with 1 where it fails.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with TemporaryDirectory(prefix="amends-") as directory:
        path = Path(directory) / name
        path.write_text(text, encoding="utf-8")
        try:
            ended = subprocess.run([*shlex.split(editor), str(path)], check=False)  # noqa: S603 - the person's own program
        except (OSError, ValueError) as error:
            fail(f"the editor {editor!r} cannot be started ({error}); set EDITOR", 2)
        if ended.returncode != 0:
            fail(f"the editor {editor!r} ended with {ended.returncode}; nothing is sent", 1)
        saved = path.read_text(encoding="utf-8")
    return None if saved == text else saved
