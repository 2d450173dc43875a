"""Roles on the keys of persons, on a real PostgreSQL: who opens keys erases nobody, and nobody deletes a row."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import make_url
from typer.testing import CliRunner, Result

from messaging.clock import SystemClock
from messaging.subject_keys import NoKeyYet
from messaging.subjects.settings import SubjectsSettings
from messaging.subjects.store import store_of
from orchestrator.cli.app import app
from tests.integration.test_database_roles import GRANTED, Cluster, initialize

ROLES = ("", "_owner", "_erase")
READER = "_read"
"""Who a person grants no more than to open keys."""


@pytest.fixture(scope="module")
def keys(databases: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A database of keys as `initialize.sh` and `amends subjects migrate` make it."""
    server = make_url(os.environ["TEST_DATABASE_URL"]).set(drivername="postgresql")
    found = Cluster(server, f"keys_{uuid4().hex[:8]}", "it's-a\\secret")
    name = f"{found.run}_subjects"
    secrets = tmp_path_factory.mktemp("secrets")
    for role in ROLES:
        (secrets / f"postgres_{name}{role}").write_text(f"{found.password}\n")
    try:
        initialize(server, [name], secrets)
        for _ in range(2):
            ended = _amends(
                found, "_owner", secrets, "migrate", AMENDS_APP_ROLE=name, AMENDS_ERASE_ROLE=f"{name}_erase"
            )
            assert ended.exit_code == 0, ended.stderr
        assert f"{name} and {name}_erase may use the tables, and change none" in ended.stdout
        yield found
    finally:
        with psycopg.connect(server.render_as_string(hide_password=False), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            for role in (*ROLES, READER):
                connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(f"{name}{role}")))


def _amends(keys: Cluster, role: str, masters: Path, *words: str, **more: str) -> Result:
    environment = {"AMENDS_SUBJECT_KEYS": keys.url("subjects", role), "AMENDS_MASTER_KEYS": str(masters)}
    return CliRunner().invoke(app, ["subjects", *words], env=environment | more)


def test_what_is_granted(keys: Cluster) -> None:
    """To who makes and opens keys, and to who erases; to delete a row, to nobody."""
    expected = {"": {"SELECT", "INSERT"}, "_erase": {"SELECT", "INSERT", "UPDATE"}}
    for role, rights in expected.items():
        found: dict[str, set[str]] = {}
        with psycopg.connect(keys.url("subjects", role)) as connection:
            for table, privilege in connection.execute(GRANTED).fetchall():
                found.setdefault(table, set()).add(privilege)
        assert found == {"subject_key": rights, "alembic_version_subjects": {"SELECT"}}


def test_each_does_its_work_and_no_more(keys: Cluster, tmp_path: Path) -> None:
    """The service's role starts, makes and opens keys and cannot erase; the other one erases and wraps anew."""

    def amends(role: str, *words: str, **more: str) -> Result:
        return _amends(keys, role, tmp_path, *words, **more)

    assert amends("", "master", "new", str(tmp_path / "a.json"), "--id", "a").exit_code == 0
    assert asyncio.run(_known(keys, tmp_path, "ada", "bob")) == ["ada", "bob"]

    erase = ("erase", "ada", "--reason", "asked", "--as", "grace", "--yes")
    refused = amends("", *erase)
    assert (refused.exit_code, refused.stdout) == (78, "")
    assert "may not be written by you (permission denied for table subject_key); use a user who may" in refused.stderr
    assert keys.password not in refused.stderr
    erased = amends("_erase", *erase)
    assert (erased.exit_code, erased.stdout[:10]) == (0, "erased ada"), erased.stderr
    assert asyncio.run(_known(keys, tmp_path, "ada", "bob")) == ["bob"]

    assert amends("", "master", "new", str(tmp_path / "b.json"), "--id", "b").exit_code == 0
    assert "may not be written by you" in amends("", "rewrap", "--yes", AMENDS_MASTER_KEY_ID="b").stderr
    wrapped = amends("_erase", "rewrap", "--yes", AMENDS_MASTER_KEY_ID="b")
    assert (wrapped.exit_code, wrapped.stdout) == (0, "wrapped 1 key by the master key b\n"), wrapped.stderr
    assert asyncio.run(_known(keys, tmp_path, "ada", "bob", current="b")) == ["bob"]

    for role in ("", "_erase"):
        with psycopg.connect(keys.url("subjects", role)) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for table subject_key"):
                connection.execute("DELETE FROM subject_key")


def test_who_may_only_read_opens_keys_and_makes_none(keys: Cluster, tmp_path: Path) -> None:
    """It starts with few rights, and what it may not do it does not try: that would wait for ever for a right."""
    subjects = keys.url("subjects")
    with psycopg.connect(os.environ["TEST_DATABASE_URL"], dbname=make_url(subjects).database) as connection:
        reader = sql.Identifier(f"{make_url(subjects).username}{READER}")
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(reader, sql.Literal(keys.password)))
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(_database(subjects), reader))
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(reader))
        connection.execute(sql.SQL("GRANT SELECT ON subject_key, alembic_version_subjects TO {}").format(reader))
        connection.execute("DELETE FROM subject_key")
    assert _amends(keys, "", tmp_path, "master", "new", str(tmp_path / "a.json"), "--id", "a").exit_code == 0
    assert asyncio.run(_known(keys, tmp_path, "ada")) == ["ada"]
    assert asyncio.run(_known(keys, tmp_path, "ada", role=READER)) == ["ada"]
    with pytest.raises(NoKeyYet, match="'bob' has no key yet"):
        asyncio.run(_known(keys, tmp_path, "ada", "bob", role=READER))


def _database(url: str) -> sql.Identifier:
    return sql.Identifier(make_url(url).database or "")


async def _known(keys: Cluster, masters: Path, *subjects: str, current: str = "a", role: str = "") -> list[str]:
    """Who of these has a key, as a service that comes anew finds it."""
    given = {"subject_keys": keys.url("subjects", role), "master_keys": masters, "master_key_id": current}
    store = store_of(SubjectsSettings.model_validate(given | {"make_subject_keys": role != READER}), SystemClock())
    assert store is not None
    try:
        await store.start(migrates=False)
        found = await store.ensure(subjects)
        ids = [key.id for key in found.values() if key is not None]
        assert (await store.opened(ids)).keys() == set(ids)
    finally:
        await store.close()
    return [name for name, key in sorted(found.items()) if key is not None]
