"""Where a history of migrations ends, read without Alembic: what Alembic itself would say."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from messaging.revisions import UnreadableRevision, heads, is_behind


@pytest.mark.parametrize(
    "location",
    [
        "messaging:migrations",
        "orchestrator:migrations",
        "services.order:migrations",
        "services.payment:migrations",
        "messaging.subjects:migrations",
    ],
)
def test_our_histories_end_where_alembic_says(location: str) -> None:
    """In one revision each."""
    config = Config()
    config.set_main_option("script_location", location)
    config.set_main_option("path_separator", "os")
    assert heads(location) == frozenset(ScriptDirectory.from_config(config).get_heads())
    assert len(heads(location)) == 1


def _history(folder: Path, **files: str) -> str:
    (folder / "versions").mkdir()
    for name, content in files.items():
        (folder / "versions" / f"{name}.py").write_text(content, encoding="utf-8")
    return str(folder)


def test_a_history_of_somebody_else_is_read_as_alembic_writes_it(tmp_path: Path) -> None:
    """Annotated, with branches that meet again; what is no revision file is left alone."""
    history = _history(
        tmp_path,
        __init__="revision = 'nobody'",
        one='revision: str = "a1"\ndown_revision: str | None = None\n',
        two="revision = 'b2'\ndown_revision = 'a1'\n",
        three="revision = 'c3'\ndown_revision = 'a1'\n",
        four='from typing import Sequence, Union\nrevision: str = "d4"\n'
        'down_revision: Union[str, Sequence[str], None] = ("b2", "c3")\n',
    )
    (tmp_path / "versions" / "README").write_text("not Python")
    assert heads(history) == {"d4"}


def test_branches_that_do_not_meet_are_several_ends(tmp_path: Path) -> None:
    """And all of them are head."""
    history = _history(
        tmp_path,
        one="revision = 'a1'\ndown_revision = None\n",
        two="revision = 'b2'\ndown_revision = 'a1'\n",
        three="revision = 'c3'\ndown_revision = 'a1'\n",
    )
    assert heads(history) == {"b2", "c3"}


@pytest.mark.parametrize(
    "content",
    ["down_revision = None\n", "NAME = 'a1'\nrevision = NAME\ndown_revision = None\n"],
    ids=["absent", "made"],
)
def test_a_file_that_does_not_say_which_revision_it_is_is_refused(tmp_path: Path, content: str) -> None:
    """By name, and with what is missing."""
    history = _history(tmp_path, one=content)
    with pytest.raises(UnreadableRevision, match=r"one\.py: at its top has to stand revision = and a literal"):
        heads(history)


def test_tables_that_a_later_version_has_taken_further_are_not_behind(tmp_path: Path) -> None:
    """In a roll-out the version before goes on, and comes up again, on tables whose revision it does not know."""
    history = _history(
        tmp_path,
        one="revision = 'a1'\ndown_revision = None\n",
        two="revision = 'b2'\ndown_revision = 'a1'\n",
    )
    assert is_behind(set(), history)
    assert is_behind({"a1"}, history)
    assert not is_behind({"b2"}, history)
    assert not is_behind({"c3"}, history)
