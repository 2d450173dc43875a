"""Where a history of migrations ends, read from its files without Alembic, which only a migration has to load.

Every start of a process and every question whether it is ready compare the database with this.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

_REVISION_FILE = re.compile(r"(?!\.#|__init__).*\.py$")
"""What Alembic takes for a revision in a `versions` folder."""


class UnreadableRevision(Exception):
    """A file among the revisions does not say which one it is; says what is missing where."""


def heads(location: str) -> frozenset[str]:
    """The revisions of a history (`package:folder`, or a folder) that no other comes after.

    Raises UnreadableRevision.
    """
    known, followed = _read(location)
    return known - followed


def is_behind(found: AbstractSet[str], location: str) -> bool:
    """Whether tables at these revisions want the history to be run on them. Raises UnreadableRevision.

    A revision that the history does not know was made by a later version, whose migrations change nothing that this
    one needs: in a roll-out both run on the same tables.
    """
    known, followed = _read(location)
    return found <= known and found != known - followed


@cache
def _read(location: str) -> tuple[frozenset[str], frozenset[str]]:
    """All revisions of a history, and those that another comes after."""
    known: set[str] = set()
    followed: set[str] = set()
    for each in (_folder(location) / "versions").iterdir():
        if _REVISION_FILE.match(each.name):
            said = _said(each)
            known.update(_names(said, "revision", each))
            followed.update(_names(said, "down_revision", each))
    return frozenset(known), frozenset(followed)


def _folder(location: str) -> Traversable:
    package, _, rest = location.partition(":")
    if not rest or Path(location).is_absolute():
        return Path(location)
    return resources.files(package).joinpath(*rest.split(":"))


def _said(file: Traversable) -> dict[str, ast.expr]:
    """What a file sets at its top, by name; the last one counts, as it does for Python."""
    return dict(_assignments(ast.parse(file.read_text(encoding="utf-8"), file.name)))


def _assignments(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for statement in module.body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=value)
            ):
                if value is not None:
                    yield name, value


def _names(said: dict[str, ast.expr], name: str, file: Traversable) -> tuple[str, ...]:
    """One revision, several where branches meet, none before the first."""
    try:
        found = ast.literal_eval(said[name])
    except (KeyError, ValueError, SyntaxError) as error:
        raise UnreadableRevision(f"{file}: at its top has to stand {name} = and a literal") from error
    if found is None:
        return ()
    return (found,) if isinstance(found, str) else tuple(found)
