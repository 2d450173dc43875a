"""A database that is lent to test after test is as good as a new one."""

from __future__ import annotations

import psycopg
import pytest

from tests.databases import Databases


def test_what_is_given_back_is_empty_and_nobodys(databases: Databases) -> None:
    """Tables, types and schemas of the last test are gone, and so is whoever was still connected."""
    name = databases.take()
    url = databases.at(name).render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TYPE mood AS ENUM ('fine'); CREATE TABLE day (mood mood)")
        connection.execute("CREATE SCHEMA another CREATE TABLE night (hours int)")
    left = psycopg.connect(url)
    left.execute("INSERT INTO day VALUES ('fine')")

    databases.give_back(name)
    with pytest.raises(psycopg.OperationalError):
        left.execute("SELECT 1")
    left.close()
    assert databases.take() == name
    with psycopg.connect(url) as connection:
        schemas = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1").fetchall()
        assert schemas == [("information_schema",), ("public",)]
        for catalog in ("pg_class", "pg_type", "pg_proc"):
            found = connection.execute(f"SELECT count(*) FROM {catalog} WHERE oid >= 16384").fetchone()
            assert found == (0,), catalog
        connection.execute("CREATE TABLE day (hours int)")
        connection.rollback()
    databases.give_back(name)


def test_nobody_gets_what_somebody_has(databases: Databases) -> None:
    """Two that are lent at the same time are two."""
    one, other = databases.take(), databases.take()
    assert one != other
    databases.give_back(one)
    databases.give_back(other)
