"""What roles of PostgreSQL may do with tables: the one a service connects as, one that prunes, one that erases persons.

Neither owns anything or makes, changes or drops a table: migrations do, as the owner. What is only ever appended to
(a table with `info=APPENDED`) the service may read and add to, and not change; only who prunes may delete there. Keys
of persons (`info=ERASED`) a service reads and adds to, a third role changes, and nobody deletes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import Connection, Table, text


class Part(Enum):
    """What a role is for; the value is the setting that names it."""

    APP = "AMENDS_APP_ROLE"
    PRUNE = "AMENDS_PRUNE_ROLE"
    ERASE = "AMENDS_ERASE_ROLE"


_CHANGED = {Part.APP: "SELECT, INSERT, UPDATE, DELETE", Part.PRUNE: "SELECT, INSERT, UPDATE, DELETE"}
APPENDED: dict[Any, Any] = {"rights": {Part.APP: "SELECT, INSERT", Part.PRUNE: "SELECT, INSERT, DELETE"}}
"""As a Table's `info`: its rows are never changed."""
ERASED: dict[Any, Any] = {"rights": {Part.APP: "SELECT, INSERT", Part.ERASE: "SELECT, INSERT, UPDATE"}}
"""As a Table's `info`: only who erases changes a row, and nobody deletes one."""


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
    """Who is granted what: the role that the service connects as, the one that prunes, the one that erases persons.

    None: nobody.
    """

    app: str | None = None
    prune: str | None = None
    erase: str | None = None

    def __bool__(self) -> bool:
        return bool(self.named)

    @property
    def named(self) -> dict[Part, str]:
        """Those that are."""
        each = {Part.APP: self.app, Part.PRUNE: self.prune, Part.ERASE: self.erase}
        return {part: role for part, role in each.items() if role is not None}


def grant(connection: Connection, roles: Roles, tables: Iterable[Table], kept: Sequence[str]) -> None:
    """Grant what is needed on these tables, and take away what is not; `kept` are tables that nobody but us writes to.

    Raises NoSuchRole.
    """
    if connection.dialect.name != "postgresql":
        raise NoSuchRole(f"only PostgreSQL has roles; unset {' and '.join(part.value for part in roles.named)}")
    listed = tuple(tables)
    for part, role in roles.named.items():
        if connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).first() is None:
            raise NoSuchRole(f"there is no role {role!r} ({part.value}); make it first (docs/security.md), or unset it")
        for statement in statements(connection, part, role, listed, kept):
            connection.exec_driver_sql(statement)


def statements(
    connection: Connection, part: Part, role: str, tables: Sequence[Table], kept: Sequence[str]
) -> list[str]:
    """What says it for one role."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    to, schema = quote(role), quote(str(connection.exec_driver_sql("SELECT current_schema()").scalar_one()))
    said = [
        f"GRANT USAGE ON SCHEMA {schema} TO {to}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {to}",
    ]
    for table in tables:
        rights = table.info.get("rights", _CHANGED).get(part)
        name = f"{schema}.{quote(table.name)}"
        # First, in case they were granted more when the table was another.
        said.append(f"REVOKE ALL ON {name} FROM {to}")
        if rights is not None:
            said.append(f"GRANT {rights} ON {name} TO {to}")
    said += [f"GRANT SELECT ON {schema}.{quote(name)} TO {to}" for name in kept]
    return said


# Who reads only, and was granted that by somebody else, is none of ours.
_GRANTED = text("""
SELECT role.rolname, wanted.name FROM unnest(CAST(:tables AS text[])) AS wanted (name)
CROSS JOIN pg_roles AS role
WHERE NOT role.rolsuper AND role.rolname <> current_user
AND to_regclass(quote_ident(current_schema()) || '.' || quote_ident(wanted.name)) IS NOT NULL
AND NOT has_table_privilege(role.oid, quote_ident(current_schema()) || '.' || quote_ident(wanted.name), 'SELECT')
AND EXISTS (
    SELECT FROM pg_class AS other, aclexplode(other.relacl) AS granted
    WHERE other.relnamespace = CAST(quote_ident(current_schema()) AS regnamespace)
    AND other.relname = ANY(CAST(:tables AS text[]))
    AND granted.grantee = role.oid AND granted.privilege_type = 'INSERT'
)
ORDER BY role.rolname, wanted.name
""")


def left_out(connection: Connection, tables: Iterable[Table]) -> dict[str, list[str]]:
    """Roles that may write to some of these tables, as `grant` has them do, and may not use others: these, by role.

    So it is after a migration that makes a table and names no role.
    """
    found: dict[str, list[str]] = {}
    if connection.dialect.name == "postgresql":
        for role, table in connection.execute(_GRANTED, {"tables": sorted(each.name for each in tables)}):
            found.setdefault(role, []).append(table)
    return found
