"""Where there is none, a program still reads JSON: every command that prints an array prints an empty one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from messaging.database import Database
from orchestrator.cli.app import app
from tests.contract.orchestrator.conftest import make_tables

WHY = ("--reason", "why", "--as", "bea", "--yes")
ARRAYS = {
    "list": ((), 0),
    "stats": ((), 0),
    "stats --saga fulfill_order": ((), 1),
    "parked list": ((), 0),
    "outbox list": ((), 0),
    "deferred list": ((), 0),
    "dead-letters list": ((), 0),
    "dead-letters redrive": (("--all", *WHY), 1),
    "dead-letters discard": (("--all", *WHY), 1),
    "retry": (("--all-stuck", *WHY), 0),
    "skip": (("--all-stuck", "--step", "confirm_order", *WHY), 0),
    "resolve": (("--all-stuck", "--step", "confirm_order", *WHY), 0),
    "compensate": (("--all-stuck", *WHY), 0),
    "cancel": (("--all-stuck", *WHY), 0),
    "abandon": (("--all-stuck", *WHY), 0),
    "reschedule": (("--all-waiting", "--step", "confirm_order", "--revoke", *WHY), 0),
    "reshard": (("--yes",), 0),
    "migrate-instances": (("--saga", "move_house", "--from", "1", "--to", "2", *WHY), 0),
}
"""What is asked, and the exit code where there is none."""
NEVER_EMPTY = {"reindex", "config show", "keys show"}
"""Arrays of what this process has, or a folder, not of what lies in the database."""
OTHERS = {"show", "why", "watch", "replay", "fork", "preflight", "prune", "dead-letters show"}
"""Print an object, or a line each time."""
ELSEWHERE = {"subjects erase", "subjects erasures", "subjects rewrap", "subjects show"}
"""Look at the database of subjects' keys; `test_subjects_command` says what they print."""


@pytest.fixture
async def empty(database_url: str) -> AsyncIterator[Database]:
    """An orchestrator's database in which there is nothing."""
    database = Database(database_url)
    await make_tables(database)
    yield database
    await database.close()


@pytest.mark.parametrize("name", ARRAYS)
async def test_where_there_is_none_the_array_is_empty(empty: Database, name: str) -> None:
    """`[]` and nothing else on stdout; what it means is said on stderr, and by the exit code."""
    words, code = ARRAYS[name]
    url = empty.url.render_as_string(hide_password=False)
    given = {
        ("AMENDS_SHARDS" if name == "reshard" else "DATABASE_URL"): url,
        "AMENDS_SAGAS": "orchestrator.sagas.fulfill_order,tests.golden.moving",
    }
    ended = await asyncio.to_thread(
        lambda: CliRunner().invoke(app, [*name.split(), *words, "--output", "json"], env=given)
    )
    assert (json.loads(ended.stdout or "null"), ended.exit_code) == ([], code), ended.stderr


def _commands(group: TyperGroup, before: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{before}{name} ")
        elif any(parameter.name == "output" and "--output" in parameter.opts for parameter in command.params):
            yield before + name


def test_no_command_is_left_out() -> None:
    """One with --output that is not above has still to say what it prints where there is none."""
    above = {*ARRAYS, *NEVER_EMPTY, *OTHERS, *ELSEWHERE} - {"stats --saga fulfill_order"}
    top = typer.main.get_command(app)
    assert isinstance(top, TyperGroup)
    assert set(_commands(top)) == above
