"""Roles on a real PostgreSQL: a service does its work without owning a table, and cannot change what has happened."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Never
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import URL, make_url
from typer import Typer
from typer.testing import CliRunner

from contracts.payment import AuthorizePayment
from messaging import schema
from messaging.memory import MemoryBroker, MemoryBus
from orchestrator.cli.app import app as amends
from orchestrator.schema import collected_letter, saga, saga_history
from services.order.__main__ import app as order
from services.payment.__main__ import app as payment
from services.payment.ledger import Ledger
from services.payment.schema import journal_entry
from tests.acceptance.pages import ROOT
from tests.acceptance.programs import AMENDS, finished
from tests.chaos.waiting import eventually
from tests.integration.shop import NAMES, Shop

PROGRAMS: dict[str, Typer] = {"orchestrator": amends, "order": order, "payment": payment}
SCRIPT = ROOT / "deploy" / "postgresql" / "initialize.sh"


@dataclass(frozen=True)
class Cluster:
    """Databases and roles that `initialize.sh` has made; their names begin with `run`, as tests share the server."""

    server: URL
    run: str
    password: str

    def url(self, service: str, role: str = "") -> str:
        """The service's database, as the role with this ending."""
        name = f"{self.run}_{service}"
        found = self.server.set(username=f"{name}{role}", password=self.password, database=name)
        return found.render_as_string(hide_password=False)


def initialize(server: URL, services: Sequence[str], secrets: Path) -> None:
    """As the image of PostgreSQL does, or an operator."""
    where = {
        "PGHOST": server.host,
        "PGPORT": str(server.port),
        "PGUSER": server.username,
        "PGPASSWORD": str(server.password),
        "SERVICES": " ".join(services),
        "SECRETS": str(secrets),
    }
    environment = os.environ | {name: value for name, value in where.items() if value is not None}
    ended = subprocess.run(["sh", SCRIPT], env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr


def migrate(program: Typer, url: str, **roles: str) -> str:
    """As an operator; what it said."""
    ended = CliRunner().invoke(program, ["migrate"], env={"DATABASE_URL": url} | roles)
    assert ended.exit_code == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def cluster(databases: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three services' databases at head, each migrated by its owner."""
    server = make_url(os.environ["TEST_DATABASE_URL"]).set(drivername="postgresql")
    found = Cluster(server, f"roles_{uuid4().hex[:8]}", "it's-a\\secret")
    services = [f"{found.run}_{name}" for name in NAMES]
    secrets = tmp_path_factory.mktemp("secrets")
    for name in services:
        for role in ("", "_owner", "_prune"):
            (secrets / f"postgres_{name}{role}").write_text(f"{found.password}\n")
    try:
        initialize(server, services, secrets)
        # What is there stays.
        initialize(server, services, secrets)
        for name in NAMES:
            service = f"{found.run}_{name}"
            url = found.url(name, "_owner")
            for _ in range(2):
                said = migrate(PROGRAMS[name], url, AMENDS_APP_ROLE=service, AMENDS_PRUNE_ROLE=f"{service}_prune")
            assert f"{service} and {service}_prune may use the tables, and change none" in said
        yield found
    finally:
        _drop(server, services)


def _drop(server: URL, services: Sequence[str]) -> None:
    with psycopg.connect(server.render_as_string(hide_password=False), autocommit=True) as connection:
        for name in services:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            for role in (name, f"{name}_owner", f"{name}_prune"):
                connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


# -- what each may do ----------------------------------------------------------------------------------------

EVERYTHING = {"DELETE", "INSERT", "SELECT", "UPDATE"}
MESSAGING = {"inbox", "outbox", "outbox_claim", "deferred", "dead_letter"}
CHANGED = {
    "orchestrator": {
        *("saga", "saga_attribute", "saga_search", "saga_definition", "saga_shard"),
        *("parked_event", "collected_letter"),
    },
    "order": {"orders", "order_line", "stock", "idempotency"},
    "payment": {"account", "payment_authorization"},
}
APPENDED = {"orchestrator": {"saga_history"}, "order": set[str](), "payment": {"journal_entry", "journal_posting"}}
GRANTED = """
SELECT c.relname, p.privilege FROM pg_class c
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p(privilege)
WHERE c.relkind IN ('r', 'p', 'v') AND c.relnamespace = 'public'::regnamespace
AND has_table_privilege(c.oid, p.privilege)
"""


def _granted(url: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    with psycopg.connect(url) as connection:
        for table, privilege in connection.execute(GRANTED).fetchall():
            found.setdefault(table, set()).add(privilege)
    return found


@pytest.mark.parametrize("service", NAMES)
def test_a_service_reads_and_writes_rows_and_changes_no_history(cluster: Cluster, service: str) -> None:
    """What is granted on every table that there is, to the service and to who prunes."""
    at_head = {f"alembic_version_{name}": {"SELECT"} for name in ("messaging", service)}
    plain = dict.fromkeys(MESSAGING | CHANGED[service], EVERYTHING)

    assert _granted(cluster.url(service)) == {
        **plain,
        **at_head,
        **{table: {"INSERT", "SELECT"} for table in APPENDED[service]},
    }
    assert _granted(cluster.url(service, "_prune")) == {
        **plain,
        **at_head,
        **{table: {"DELETE", "INSERT", "SELECT"} for table in APPENDED[service]},
    }


@pytest.mark.parametrize("role", ["", "_prune"])
@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("CREATE TABLE mine (id integer)", "permission denied for schema public"),
        ("CREATE SCHEMA mine", "permission denied for database"),
        ("CREATE TEMPORARY TABLE mine (id integer)", "permission denied to create temporary tables"),
        ("CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'", "permission denied for schema public"),
        ("ALTER TABLE saga ADD COLUMN mine integer", "must be owner of table saga"),
        ("CREATE INDEX mine ON saga (name)", "must be owner of table saga"),
        ("DROP TABLE saga", "must be owner of table saga"),
        ("TRUNCATE outbox", "permission denied for table outbox"),
        ("TRUNCATE saga_history", "permission denied for table saga_history"),
        ("UPDATE saga_history SET input = ''", "permission denied for table saga_history"),
        ("UPDATE alembic_version_orchestrator SET version_num = ''", "permission denied for table alembic_version"),
        ("GRANT ALL ON saga TO PUBLIC", None),
        ("CREATE ROLE mine", "permission denied to create role"),
        ("COPY saga TO PROGRAM 'cat'", "COPY to or from an external program"),
    ],
)
def test_what_is_not_granted_is_refused(cluster: Cluster, role: str, statement: str, words: str | None) -> None:
    """Each statement alone; to grant what one has not is no error in PostgreSQL, and changes nothing."""
    before = _granted(cluster.url("orchestrator", role))
    with psycopg.connect(cluster.url("orchestrator", role)) as connection:
        if words is None:
            connection.execute(statement)
            connection.commit()
            assert _granted(cluster.url("orchestrator", role)) == before
            return
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=words):
            connection.execute(statement)


def test_only_who_prunes_deletes_history(cluster: Cluster) -> None:
    """The service is refused, for its history and for its journal."""
    for service, table in (("orchestrator", "saga_history"), ("payment", "journal_posting")):
        with psycopg.connect(cluster.url(service)) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match=table):
                connection.execute(sql.SQL("DELETE FROM {} WHERE false").format(sql.Identifier(table)))
    with psycopg.connect(cluster.url("orchestrator", "_prune")) as connection:
        connection.execute("DELETE FROM saga_history WHERE false")


def test_nobody_reads_anothers_database(cluster: Cluster) -> None:
    """Neither the service nor its owner gets a connection to it."""
    for role in ("", "_owner", "_prune"):
        foreign = make_url(cluster.url("payment", role)).set(database=f"{cluster.run}_order")
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(foreign.render_as_string(hide_password=False))


def test_a_migration_names_roles_that_are_there(cluster: Cluster, tmp_path: Path) -> None:
    """A misspelled one, or one where the database has none: 78, and nothing is changed."""
    for url, words in (
        (cluster.url("payment", "_owner"), "there is no role 'nobody_like_that' (AMENDS_APP_ROLE); make it first"),
        (f"sqlite:///{tmp_path / 'a.db'}", "only PostgreSQL has roles; unset AMENDS_APP_ROLE"),
    ):
        environment = {"DATABASE_URL": url, "AMENDS_APP_ROLE": "nobody_like_that"}
        ended = CliRunner().invoke(payment, ["migrate"], env=environment)
        assert (ended.exit_code, ended.stdout) == (78, "")
        assert words in ended.stderr
        assert cluster.password not in ended.stderr


def test_a_role_that_is_forgotten_is_told_of(cluster: Cluster) -> None:
    """A table that came with a migration which named no role: `migrate` says who lacks it, until it is named again."""
    service = f"{cluster.run}_payment"
    with psycopg.connect(cluster.url("payment", "_owner")) as connection:
        connection.execute("DROP TABLE outbox_claim")
        connection.execute("UPDATE alembic_version_messaging SET version_num = '0002'")
    for roles in ({}, {"AMENDS_PRUNE_ROLE": f"{service}_prune"}):
        ended = CliRunner().invoke(payment, ["migrate"], env={"DATABASE_URL": cluster.url("payment", "_owner")} | roles)
        assert ended.exit_code == 0, ended.stderr
        assert f"{service} may use some of the tables, and not outbox_claim; name it as the migration" in ended.stderr
        assert (f"{service}_prune may use some" in ended.stderr) is (roles == {})
        assert cluster.password not in ended.stderr
    environment = {"DATABASE_URL": cluster.url("payment", "_owner"), "AMENDS_APP_ROLE": service}
    assert CliRunner().invoke(payment, ["migrate"], env=environment).stderr == ""


def test_a_service_that_may_not_migrate_says_so(cluster: Cluster) -> None:
    """As the service's own role the command changes nothing where all is at head; another's tables are refused."""
    assert "at head" in migrate(payment, cluster.url("payment"))
    ended = CliRunner().invoke(order, ["migrate"], env={"DATABASE_URL": cluster.url("payment")})
    assert ended.exit_code == 78
    assert "permission denied for schema public; connect as the role that owns the tables" in ended.stderr


@pytest.mark.parametrize(
    ("taken", "refused"),
    [
        ("USAGE ON SCHEMA public", "no schema is open to it"),
        ("SELECT ON alembic_version_messaging", "permission denied for table alembic_version_messaging"),
    ],
)
def test_a_service_that_was_granted_nothing_says_so(cluster: Cluster, taken: str, refused: str) -> None:
    """With 78 and the variable that grants it: to migrate once more would bring it no further."""
    service = f"{cluster.run}_payment"
    with psycopg.connect(cluster.url("payment", "_owner")) as connection:
        connection.execute(sql.SQL("REVOKE {} FROM {}").format(sql.SQL(taken), sql.Identifier(service)))
    try:
        ended = finished(
            (sys.executable, "-m", "services.payment"),
            ROOT,
            DATABASE_URL=cluster.url("payment"),
            AMQP_URL="amqp://127.0.0.1:1/",
            PORT="0",
            AMENDS_START_TIMEOUT="0",
        )
    finally:
        migrate(payment, cluster.url("payment", "_owner"), AMENDS_APP_ROLE=service)

    assert cluster.password not in ended.stderr
    assert ended.returncode == 78, ended.stderr
    assert f"may not use the tables ({refused}); run `migrate` as their owner, with AMENDS_APP_ROLE={service}" in (
        ended.stderr
    )
    assert "Traceback" not in ended.stderr


# -- the services, as these roles ----------------------------------------------------------------------------


@pytest.fixture
async def shop(cluster: Cluster) -> AsyncIterator[Shop]:
    """The three services as their roles; none of them migrates."""
    broker = MemoryBroker()
    shop = Shop(
        lambda name: MemoryBus(broker, service=name),
        {name: cluster.url(name) for name in NAMES},
        migrate_on_start=False,
    )
    for name in NAMES:
        broker.declare(shop.build(name).topology)
    for name in NAMES:
        await shop.services[name].start()
    yield shop
    await asyncio.gather(*(each.quiesce() for each in shop.services.values()))
    for each in shop.services.values():
        await each.close()


async def _break(self: Ledger, commands: Sequence[AuthorizePayment], *_: object) -> Never:
    raise ValueError("the ledger's page is torn")


async def test_services_and_commands_work_as_these_roles(
    shop: Shop, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orders are paid, one is mended and one compensated by hand, all is looked at, and who prunes removes them."""

    async def command(*words: str, role: str = "") -> str:
        # As a process of its own: some of them set up logging, for which the services here would have to pay.
        url = cluster.url("orchestrator", role)
        ended = await asyncio.to_thread(
            finished, (*AMENDS, *words), ROOT, DATABASE_URL=url, AMENDS_SAGAS="tests.integration.shop"
        )
        assert ended.returncode == 0, (words, ended.stdout, ended.stderr)
        return ended.stdout

    await shop.place(1)
    await shop.come(1, "orchestrator", saga, status="completed")
    with monkeypatch.context() as broken:
        broken.setattr(Ledger, "authorize", _break)
        await shop.place(2)
        await shop.place(3)
        await shop.come(2, "orchestrator", collected_letter, state="open", service="payment")
        (canceled, mended) = json.loads(await command("dead-letters", "list", "-o", "json"))
        await command("why", canceled["correlation_id"])
        await command("compensate", canceled["correlation_id"], "--reason", "tired of waiting", "--yes")
        await shop.come(1, "orchestrator", saga, status="compensated")
        await command("dead-letters", "discard", canceled["id"], "--reason", "canceled", "--yes")
    await command("dead-letters", "redrive", mended["id"], "--reason", "mended", "--yes")
    await shop.come(2, "orchestrator", saga, status="completed")
    for words in (
        ("show", mended["correlation_id"]),
        ("stats",),
        ("replay", "--all"),
        ("preflight",),
        ("reindex",),
    ):
        await command(*words)
    assert await shop.count("payment", journal_entry, operation="capture") == 2

    await shop.come(1, "orchestrator", collected_letter, state="handled")
    for name in NAMES:
        await shop.come(0, name, schema.outbox)
    await command("prune", "--older-than", "0s", "--yes", role="_prune")
    assert await shop.count("orchestrator", saga) == 0
    assert await shop.count("orchestrator", saga_history) == 0


async def test_a_service_does_not_prune_its_history(shop: Shop, cluster: Cluster) -> None:
    """The command ends with 78 and says that it may not, and nothing is gone."""
    await shop.place(4)
    await shop.come(1, "orchestrator", saga, status="completed")
    words = ("prune", "--older-than", "0s", "--yes")
    ended = await asyncio.to_thread(finished, (*AMENDS, *words), ROOT, DATABASE_URL=cluster.url("orchestrator"))

    assert ended.returncode == 78
    assert "permission denied for table saga_history" in ended.stderr
    assert await shop.count("orchestrator", saga, status="completed") == 1


@pytest.mark.parametrize(("service", "table"), [("payment", "inbox"), ("orchestrator", "saga_history")])
async def test_what_a_role_was_not_granted_is_waited_for(
    shop: Shop, cluster: Cluster, service: str, table: str
) -> None:
    """A forgotten grant is nobody's dead letter: the batch waits, readiness says for what, and goes on once granted."""
    role = f"{cluster.run}_{service}"
    took = sql.SQL("REVOKE INSERT ON {} FROM {}").format(sql.Identifier(table), sql.Identifier(role))
    before, buried = (
        await shop.count("orchestrator", saga, status="completed"),
        await shop.count(service, schema.dead_letter),
    )
    with psycopg.connect(cluster.url(service, "_owner")) as connection:
        connection.execute(took)
    try:
        await shop.place(5 + len(table))

        async def waiting() -> bool:
            told = await shop.services[service].obstacles()
            return f"permission denied for table {table}" in told.get("worker", "")

        assert await eventually(waiting), await shop.services[service].obstacles()
        assert await shop.count(service, schema.dead_letter) == buried
    finally:
        owner = cluster.url(service, "_owner")
        await asyncio.to_thread(migrate, PROGRAMS[service], owner, AMENDS_APP_ROLE=role)
    await shop.come(before + 1, "orchestrator", saga, status="completed")
    assert await shop.count("orchestrator", collected_letter, state="open") == 0
