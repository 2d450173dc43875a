"""An orchestrator's database as it is after a million sagas: copies of a few histories, made by PostgreSQL itself.

The copies have ids of their own, spread like real ones, in the order of the index: filling by random ids would take
longer and leave pages no emptier than a rebuild does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import asyncpg
from sqlalchemy import Table

from benchmarks.histories import fill
from messaging import migrate
from messaging.database import Database
from messaging.schema import inbox
from orchestrator.assembly import MIGRATIONS
from orchestrator.instance import SOURCE
from orchestrator.schema import saga, saga_attribute, saga_history

TEMPLATES = 10
"""Histories that are copied: the ten kinds of ends, and for those that wait the first."""
CHUNK = 50_000
"""Copies of all templates in one transaction, divided by their number."""
ENDED, WAITING = "ended", "waiting"

# Sixteen hexadecimal digits that grow with k and are spread over all there are, then what makes each copy its own.
_SPREAD = "lpad(to_hex((k * $3::bigint)::bigint), 8, '0') || substr(md5({seed}), 9)"
_COPY = "(" + _SPREAD.format(seed="t.kind || t.id::text || k") + ")::uuid"
_COPY_OF_LINE = "(" + _SPREAD.format(seed="t.kind || t.saga_id::text || k") + ")::uuid"
# Like a UUIDv7: what is older sorts first.
_MESSAGE = (
    "(lpad(to_hex(1700000000000 + k * 1000 + t.seq), 12, '0') || "
    "substr(md5(t.kind || t.saga_id::text || k || t.seq), 13))::uuid"
)


@dataclass(frozen=True, slots=True)
class Filled:
    """How many rows there are now, by table, and how many seconds they took."""

    rows: Mapping[str, int]
    bytes: int
    seconds: float


async def fill_up(url: str, ended: int, waiting: int, say: Callable[[str], None]) -> Filled:
    """Make so many ended and so many waiting sagas, with history, inbox and attributes, in a database that has none.

    The deadlines of those that wait are a day away. VACUUM, ANALYZE and CHECKPOINT follow, so that none of them falls
    into what is measured afterwards.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    await _templates(url)
    await asyncio.gather(
        *(
            _copies(url, table, columns, kind, number, say)
            for table, columns in _WRITTEN
            for kind, number in ((ENDED, ended), (WAITING, waiting))
            if number
        )
    )
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("DROP TABLE template_saga, template_line")
        for table in (saga, saga_history, saga_attribute, inbox):
            await connection.execute(f"VACUUM (ANALYZE) {table.name}")
        await connection.execute("CHECKPOINT")
        rows = {
            table.name: int(await connection.fetchval(f"SELECT count(*) FROM {table.name}"))  # noqa: S608 - our own names
            for table in (saga, saga_history, saga_attribute, inbox)
        }
        size = int(await connection.fetchval("SELECT pg_database_size(current_database())"))
    finally:
        await connection.close()
    return Filled(rows, size, loop.time() - began)


def there(ended: int, waiting: int) -> dict[str, int]:
    """How many sagas of each status `fill_up` makes: six of ten that have ended are completed."""
    copies = -(-ended // TEMPLATES)
    return {"completed": 6 * copies, "compensated": 4 * copies, "running": waiting}


async def _templates(url: str) -> None:
    """Tables with the rows that are copied, `kind` beside them; the tables they come from are empty again."""
    database = Database(url, pool_size=1)
    try:
        await migrate.upgrade(database, [migrate.MESSAGING, MIGRATIONS])
        connection = await asyncpg.connect(url)
        try:
            for kind in (ENDED, WAITING):
                await fill(database, TEMPLATES if kind == ENDED else 1, waiting=kind == WAITING)
                await connection.execute(_TAKE[kind])
        finally:
            await connection.close()
    finally:
        await database.close()


_TAKE = {
    ENDED: """
        CREATE TABLE template_saga AS SELECT 'ended' AS kind, s.* FROM saga s;
        CREATE TABLE template_line AS SELECT 'ended' AS kind, h.* FROM saga_history h;
        TRUNCATE saga, saga_history""",
    WAITING: """
        INSERT INTO template_saga SELECT 'waiting' AS kind, s.* FROM saga s;
        INSERT INTO template_line SELECT 'waiting' AS kind, h.* FROM saga_history h;
        TRUNCATE saga, saga_history""",
}
_AGO = "now() - interval '30 days' + k * interval '1 second'"
_OWN: Mapping[str, Mapping[str, str]] = {
    saga.name: {
        "id": _COPY,
        "key": _COPY + "::text",
        "started_at": _AGO,
        "updated_at": _AGO,
        "deadline": "CASE WHEN t.deadline IS NOT NULL THEN now() + interval '1 day' + k * interval '1 second' END",
    },
    saga_history.name: {"saga_id": _COPY_OF_LINE, "at": _AGO},
    saga_attribute.name: {"saga_id": _COPY, "name": "'customer_id'", "value": "'customer-' || k % 100000"},
    inbox.name: {
        "message_id": _MESSAGE,
        "consumer": f"'{SOURCE}'",
        "status": "'done'",
        "received_at": _AGO,
        "answer_id": "NULL",
        "answer_type": "NULL",
        "answer_body": "NULL",
    },
}
_LINES = (saga_history, inbox)
_WRITTEN: Sequence[tuple[Table, Sequence[str]]] = [
    (table, [column.name for column in table.columns if column.computed is None])
    for table in (saga, saga_history, saga_attribute, inbox)
]


async def _copies(
    url: str, table: Table, columns: Sequence[str], kind: str, number: int, say: Callable[[str], None]
) -> None:
    source = "template_line" if table in _LINES else "template_saga"
    values = ", ".join(_OWN[table.name].get(column, f"t.{column}") for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    statement = (
        f"INSERT INTO {table.name} ({names}) SELECT {values} "  # noqa: S608 - our own names
        f"FROM generate_series($1::bigint, $2::bigint) k, {source} t WHERE t.kind = '{kind}'"
    )
    templates = TEMPLATES if kind == ENDED else 1
    last = -(-number // templates)
    apart = 0xFFFFFFFF // (last + 1)
    connection = await asyncpg.connect(url)
    try:
        if "$3" not in statement:
            statement = statement.replace("WHERE", "WHERE $3::bigint IS NOT NULL AND")
        step = CHUNK // templates
        for begin in range(1, last + 1, step):
            await connection.execute(statement, begin, min(begin + step - 1, last), apart)
    finally:
        await connection.close()
    say(f"{table.name}: {number:,} sagas {kind}")
