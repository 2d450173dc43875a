"""A server that has become a standby, or was made read-only, while we were connected to it."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from messaging.database import Database, is_transient


async def test_a_connection_that_may_only_read_is_left_for_another(postgres_url: str) -> None:
    """What was to be written may be tried again, and then finds the server that takes it."""
    database = Database(postgres_url, pool_size=1)
    try:
        async with database.transaction() as connection:
            await connection.execute(text("CREATE TABLE page (words text)"))
            await connection.execute(text("SET default_transaction_read_only = on"))
        with pytest.raises(DBAPIError, match="read-only transaction") as refused:
            async with database.transaction() as connection:
                await connection.execute(text("INSERT INTO page VALUES ('lost')"))
        assert is_transient(refused.value)
        async with database.transaction() as connection:
            await connection.execute(text("INSERT INTO page VALUES ('kept')"))
        async with database.reading() as connection:
            assert (await connection.execute(text("SELECT words FROM page"))).scalars().all() == ["kept"]
    finally:
        await database.close()
