"""The journal on both databases: it cannot be changed, it adds up, and the migrations make it."""

from __future__ import annotations

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only

from contracts.payment import AuthorizePayment
from messaging import migrate
from messaging.database import Database
from services.payment.audit import audit
from services.payment.schema import metadata
from tests.contract.payment.service import HISTORY, Service, ask


@pytest.mark.parametrize("table", ["journal_entry", "journal_posting"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}"])
async def test_the_journal_cannot_be_changed(service: Service, table: str, statement: str) -> None:
    """The database refuses to change or delete what the journal says."""
    await service.send(ask(300))
    column = "order_id" if table == "journal_entry" else "amount"

    with pytest.raises(DBAPIError, match="append-only"):
        async with service.database.transaction() as connection:
            await connection.execute(text(statement.format(table, column, column)))


async def test_the_audit_finds_what_was_forged(service: Service) -> None:
    """A posting out of balance, an authorization moved by hand and an account moved by hand are all found."""
    command = ask(300)
    await service.send(command, ask(200, customer_id="bob"))
    async with service.database.transaction() as connection:
        await connection.execute(
            text(
                "INSERT INTO journal_posting (entry_id, line, account, amount, currency) "
                "SELECT id, 9, 'holds', 5, 'USD' FROM journal_entry WHERE order_id = :order_id"
            ),
            {"order_id": command.order_id if service.database.dialect == "postgresql" else command.order_id.hex},
        )
        await connection.execute(text("UPDATE account SET held = held + 1 WHERE customer_id = 'bob'"))
        await connection.execute(text("UPDATE payment_authorization SET status = 'captured' WHERE customer_id = 'bob'"))

    assert (await audit(service.database)).findings == [
        "held: the journal says 505 USD, the authorizations 300",
        "captured: the journal says 0 USD, the authorizations 200",
        "all postings of USD sum to 5, not to zero",
        "1 journal entries do not balance",
        "1 accounts differ from the journal",
    ]


async def test_an_audit_sees_one_moment(service: Service) -> None:
    """A payment made while an audit is under way is seen by none of its queries or by all of them."""
    await service.send(ask(300))
    engine = service.database.engine.sync_engine
    queries: list[str] = []

    def pay_in_between(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        queries.append(statement)
        if [each.startswith("SELECT") for each in queries].count(True) == 2 and not paid:
            paid.append(ask(400))
            await_only(service.send(*paid))

    paid: list[AuthorizePayment] = []
    event.listen(engine, "before_cursor_execute", pay_in_between)
    during = await audit(service.database)
    event.remove(engine, "before_cursor_execute", pay_in_between)

    assert (during.held, during.entries, during.findings) == ({"USD": 300}, 1, [])
    assert (await audit(service.database)).held == {"USD": 700}


async def test_an_empty_service_is_sound(database: Database) -> None:
    """Where nothing has happened the audit finds nothing."""
    found = await audit(database)

    assert (found.sound, found.entries, found.held, found.captured) == (True, 0, {}, {})


async def test_the_migrations_make_the_tables_the_code_knows(database: Database) -> None:
    """A migrated database has exactly the tables, columns and indexes of the service's metadata."""

    def differences(connection: Connection) -> list[Any]:
        options = {"include_name": lambda name, kind, _: kind != "table" or not str(name).startswith("alembic_")}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    async with database.reading() as connection:
        assert await connection.run_sync(differences) == []


async def test_the_migrations_lead_back(database: Database) -> None:
    """Down and up again leaves nothing behind and works."""
    await migrate.downgrade(database, [HISTORY])
    async with database.reading() as connection:
        left = await connection.run_sync(lambda each: set(inspect(each).get_table_names()))
    assert left <= {"alembic_version_payment"}

    await migrate.upgrade(database, [HISTORY])
    assert await migrate.pending(database, [HISTORY]) == {}
