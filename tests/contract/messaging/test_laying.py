"""How tests come by their tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect

from messaging import migrate
from messaging.database import Database
from tests import laying


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
async def test_what_is_made_from_memory_is_what_was_made(
    dialect: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Tables, columns, indexes, constraints, and the revision they are at: the second database is like the first."""
    names = iter(("first", "second"))
    take: Callable[[], str] = (
        request.getfixturevalue("fresh_postgres")
        if dialect == "postgresql"
        else lambda: f"sqlite:///{tmp_path / next(names)}.db"
    )
    seen = []
    # Another order than any other test's, so that the first is the first.
    locations = ["services.payment:migrations", migrate.MESSAGING]
    for _ in range(2):
        database = Database(take())
        await laying.migrated(database, locations)
        assert await migrate.pending(database, locations) == {}
        async with database.reading() as connection:
            seen.append(await connection.run_sync(_told))
        await database.close()
    assert seen[0] == seen[1]
    assert {"inbox", "outbox", "payment_authorization"} <= seen[0].keys()


def _told(connection: Connection) -> dict[str, list[str]]:
    found = inspect(connection)
    return {
        name: [
            *(
                f"{each['name']} {each['type']} {each['nullable']} {each['default']}"
                for each in found.get_columns(name)
            ),
            *sorted(map(str, found.get_indexes(name))),
            *sorted(map(str, found.get_check_constraints(name))),
        ]
        for name in found.get_table_names()
    }
