"""What two roles of PostgreSQL may do with a service's tables: the one that the service connects as, and the one that
prunes.

Neither owns anything or makes, changes or drops a table: migrations do, as the owner. What is only ever appended to
(a table with `info=APPENDED`) the service may read and add to, and not change; only who prunes may delete there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, text

APPENDED: dict[Any, Any] = {"appended": True}
"""As a Table's `info`: its rows are never changed."""


class NoSuchRole(Exception):
    """A role that is to be granted something is not there, or the database has none; says which, and how to mend it."""


class NotGranted(Exception):
    """The role that we connect as may not use the tables; says what it was refused, and how to mend it."""

    def __init__(self, database: str, user: str | None, refused: str) -> None:
        super().__init__(
            f"{database}: user {user!r} may not use the tables ({refused}); run `migrate` as their owner, with "
            f"AMENDS_APP_ROLE={user}"
        )


@dataclass(frozen=True, slots=True)
class Roles:
    """Who is granted what: the role that the service connects as, and the role that prunes. None: nobody."""

    app: str | None = None
    prune: str | None = None

    def __bool__(self) -> bool:
        return self.app is not None or self.prune is not None


def grant(connection: Connection, roles: Roles, tables: Iterable[Table], kept: Sequence[str]) -> None:
    """Grant what is needed on these tables, and take away what is not; `kept` are tables that nobody but us writes to.

    Raises NoSuchRole.
    """
    if connection.dialect.name != "postgresql":
        raise NoSuchRole("only PostgreSQL has roles; unset AMENDS_APP_ROLE and AMENDS_PRUNE_ROLE")
    named = tuple(tables)
    for role, variable, prunes in ((roles.app, "AMENDS_APP_ROLE", False), (roles.prune, "AMENDS_PRUNE_ROLE", True)):
        if role is None:
            continue
        if connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).first() is None:
            raise NoSuchRole(f"there is no role {role!r} ({variable}); make it first (docs/security.md), or unset it")
        for statement in statements(connection, role, named, kept, prunes=prunes):
            connection.exec_driver_sql(statement)


def statements(
    connection: Connection, role: str, tables: Sequence[Table], kept: Sequence[str], *, prunes: bool
) -> list[str]:
    """What says it for one role."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    to, schema = quote(role), quote(str(connection.exec_driver_sql("SELECT current_schema()").scalar_one()))
    said = [
        f"GRANT USAGE ON SCHEMA {schema} TO {to}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {to}",
    ]
    for table in tables:
        appended = table.info.get("appended", False)
        rights = "SELECT, INSERT, UPDATE, DELETE"
        if appended:
            rights = "SELECT, INSERT, DELETE" if prunes else "SELECT, INSERT"
        name = f"{schema}.{quote(table.name)}"
        # First, in case they were granted more when the table was another.
        said += [f"REVOKE ALL ON {name} FROM {to}", f"GRANT {rights} ON {name} TO {to}"]
    said += [f"GRANT SELECT ON {schema}.{quote(name)} TO {to}" for name in kept]
    return said
