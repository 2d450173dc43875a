"""A JSON array on stdout whose items are printed as they come: of however many, none is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from textwrap import indent
from typing import Any

import typer


class JsonArray:
    """What `json.dumps(items, indent=2)` would print, item by item; close it, or it is no JSON."""

    def __init__(self) -> None:
        self._begun = False

    def add(self, item: Mapping[str, Any]) -> None:
        """Print one more."""
        typer.echo(",\n" if self._begun else "[\n", nl=False)
        typer.echo(indent(json.dumps(item, indent=2), "  "), nl=False)
        self._begun = True

    def close(self) -> None:
        """Print the end of it."""
        typer.echo("\n]" if self._begun else "[]")
