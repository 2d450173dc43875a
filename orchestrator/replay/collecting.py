"""A bundle out of the orchestrator's database: all that belongs to one instance."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.freeze import schema_of
from orchestrator import queries, versions
from orchestrator.replay.bundle import Bundle, ParkedMessage
from orchestrator.replay.reading import recorded
from orchestrator.saga.definition import Saga
from orchestrator.saga.fingerprint import describe, fingerprint
from orchestrator.schema import saga_definition


async def collected(connection: AsyncConnection, row: Row[Any], saga: Saga[Any]) -> Bundle:
    """The bundle of the instance with this row of `saga`, which has this definition.

    The fingerprint is that of the definition that the orchestrator runs, as it wrote it down when it started, which may
    be another than the one given.
    """
    mark, description = await _definition(connection, saga)
    return Bundle(
        recorded=await recorded(connection, row),
        parked=tuple(
            ParkedMessage(each.message_id, each.type, each.queue, each.body, each.reason, each.parked_at, each.retry_at)
            for each in await queries.parked_for(connection, row.id)
        ),
        fingerprint=mark,
        description=description,
        schemas=schemas_of(saga),
        amends=version("amends"),
    )


def schemas_of(saga: Saga[Any]) -> dict[str, Mapping[str, Any]]:
    """The JSON Schema of every message that a definition hears or sends, by `order.created.v1`."""
    named = {f"{each.wire_type}.v{each.wire_version}": each for each in saga.messages()}
    return {name: schema_of(named[name]) for name in sorted(named)}


async def _definition(connection: AsyncConnection, saga: Saga[Any]) -> tuple[str, Mapping[str, Any]]:
    table = saga_definition.c
    query = select(saga_definition).where(table.name == saga.name, table.version == saga.version)
    row = (await connection.execute(query)).one_or_none()
    mark = fingerprint(saga)
    if row is None or row.fingerprint == mark:
        return mark, describe(saga)
    # Torn words are no reason to keep back a history: without them the bundle replays all the same.
    return row.fingerprint, versions.described(row.description) or {}
