"""The files of a new project, made of the templates beside this module, and written where nothing is in their way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

from orchestrator.scaffolding.naming import Naming

_SUFFIX = ".tmpl"
_PACKAGE = "NAME"
"""The folder among the templates that becomes the package."""
_PLACE = re.compile(r"@@(\w+)@@")


class AlreadyThere(Exception):
    """Files that would be written over; `paths` names them."""

    def __init__(self, paths: list[Path]) -> None:
        super().__init__(f"{len(paths)} of the files are there already")
        self.paths = paths


def service(naming: Naming, *, port: int, version: str) -> dict[PurePosixPath, str]:
    """The files of a participant, each with its content. `version` is that of Amends, which it depends on."""
    words = {
        "name": naming.name,
        "dashed": naming.dashed,
        "upper": naming.upper,
        "title": naming.title,
        "words": naming.words,
        "port": str(port),
        "version": version,
    }
    made = {}
    for way, template in _templates(files(__package__) / "service"):
        parts = [naming.name if part == _PACKAGE else part for part in way]
        text = template.read_text(encoding="utf-8")
        made[PurePosixPath(*parts)] = _PLACE.sub(lambda found: words[found[1]], text)
    return dict(sorted(made.items()))


def _templates(folder: Traversable, way: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Traversable]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _templates(each, (*way, each.name))
        elif each.name.endswith(_SUFFIX):
            yield (*way, each.name.removesuffix(_SUFFIX)), each


def write(project: Mapping[PurePosixPath, str], directory: Path) -> None:
    """Write all of it, or nothing where one of the files is there. Raises AlreadyThere, OSError."""
    texts = {directory / path: text for path, text in project.items()}
    # Also a link that leads nowhere is in the way.
    there = [path for path in texts if path.exists() or path.is_symlink()]
    if there:
        raise AlreadyThere(there)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
