"""Versions of definitions: an instance keeps the one it started with, and that one may not change under it.

Each process writes down the fingerprint of every definition it knows. Where a definition differs from the one written
down while instances of it are in flight, the process refuses to start: a changed order of steps or another amount would
be applied to sagas that are half done.

While it runs, another process may start with a changed definition where nothing is in flight. So whoever moves an
instance looks, in the same transaction, whether what is written down is still its own definition, and ends where it is
not: no instance is ever moved by two definitions. Whoever starts an instance holds the row meanwhile, and whoever
changes the row counts the instances in flight while holding it: either the instance is seen, or the change.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import structlog
from sqlalchemy import Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import bulk
from messaging.bulk import Outcome, Writes
from messaging.consumer import CannotGoOn
from messaging.database import Database
from messaging.plans import plan
from messaging.process import BadConfiguration
from messaging.shapes import Select
from orchestrator.catalog import Catalog
from orchestrator.saga.definition import Saga
from orchestrator.saga.fingerprint import describe, differences, fingerprint
from orchestrator.saga.state import Status
from orchestrator.schema import saga, saga_definition

_ENDED = [status.value for status in Status if status.terminal]
MOST_NAMED = 10
UNKNOWN = "nobody can say: its description in saga_definition cannot be read; restore that row from a backup"
"""What differs between a definition and one that is not readable any more."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A definition that is not the one written down; `before` and `after` as `fingerprint.describe` tells them.

    `before` is None where it cannot be read any more: that there is a difference, the fingerprints say.
    """

    name: str
    version: int
    before: dict[str, Any] | None
    after: dict[str, Any]

    @property
    def differences(self) -> list[str]:
        """What differs, one sentence each."""
        return [UNKNOWN] if self.before is None else differences(self.before, self.after)


class DefinitionChanged(BadConfiguration, CannotGoOn):
    """A definition is not what the instances in flight were started with; names what differs, and which instances."""


async def check(database: Database, catalog: Catalog, accepted: Collection[str], now: datetime) -> None:
    """Write down the definitions of this process.

    Raises DefinitionChanged where one changed under instances in flight and is not `accepted` ("name:version").
    """
    refusals = []
    async with database.transaction() as connection:
        # In one order, by which `hold` goes too: nobody waits for a row while holding one that the other waits for.
        for definition in sorted(catalog, key=lambda each: (each.name, each.version)):
            refusals += await _check(connection, definition, accepted, now)
        if refusals:
            raise DefinitionChanged("\n".join(refusals))
        await _warn_of_unknown(connection, catalog)


async def changed(connection: AsyncConnection, catalog: Catalog) -> list[Changed]:
    """The definitions of this checkout that differ from those written down under the same name and version."""
    table = saga_definition
    written = {(row.name, row.version): row for row in (await connection.execute(select(table))).all()}
    found = []
    for definition in catalog:
        row = written.get((definition.name, definition.version))
        if row is not None and row.fingerprint != _fingerprint(definition):
            before = described(row.description)
            found.append(Changed(definition.name, definition.version, before, _words(definition)))
    return found


def described(text: str) -> dict[str, Any] | None:
    """A definition as `fingerprint.describe` told it; None for a text that is none, torn or written by hand.

    The fingerprint beside it decides; these words only say what differs, so nobody has to fail for want of them.
    """
    try:
        found = json.loads(text)
        stages = found["stages"].values()
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    return found if all(isinstance(each, dict) and isinstance(each.get("is"), str) for each in stages) else None


async def accept(connection: AsyncConnection, definition: Saga[Any], now: datetime) -> None:
    """Write a changed definition down as the one its instances go on with; a process that knows it then starts."""
    table = saga_definition
    await connection.execute(
        update(table)
        .where(table.c.name == definition.name, table.c.version == definition.version)
        .values(fingerprint=_fingerprint(definition), description=json.dumps(_words(definition)), seen_at=now)
    )


# Reading the code of every function of a definition takes tens of milliseconds, and it cannot change in a process.
_fingerprint, _words = lru_cache(maxsize=256)(fingerprint), lru_cache(maxsize=256)(describe)


async def _check(
    connection: AsyncConnection, definition: Saga[Any], accepted: Collection[str], now: datetime
) -> list[str]:
    table, name, version = saga_definition, definition.name, definition.version
    found = _fingerprint(definition)
    row = (
        await connection.execute(
            select(table).where(table.c.name == name, table.c.version == version).with_for_update()
        )
    ).one_or_none()
    if row is not None and row.fingerprint == found:
        await _started_with(connection, definition, row, now)
        return []
    words = _words(definition)
    written = {"fingerprint": found, "description": json.dumps(words), "seen_at": now}
    if row is None:
        fresh = {"name": name, "version": version, **written}
        # Several processes may start at once on an empty database: what another has written meanwhile is compared.
        if await bulk.insert(connection, table, tuple(fresh), [fresh], ignore_conflicts=True, returning="name"):
            return []
        return await _check(connection, definition, accepted, now)
    in_flight = await _in_flight(connection, name, version)
    if not in_flight or f"{name}:{version}" in accepted:
        await accept(connection, definition, now)
        return []
    return [_refusal(in_flight, Changed(name, version, described(row.description), words))]


async def _started_with(connection: AsyncConnection, definition: Saga[Any], row: Row[Any], now: datetime) -> None:
    """Say that it is in use still, in words that can be read."""
    table = saga_definition
    values: dict[str, Any] = {"seen_at": max(now, row.seen_at)}
    if described(row.description) is None:
        structlog.get_logger().warning("definition_written_anew", saga=row.name, version=row.version)
        values["description"] = json.dumps(_words(definition))
    await connection.execute(
        update(table).where(table.c.name == row.name, table.c.version == row.version).values(**values)
    )


async def is_as_written(connection: AsyncConnection, definition: Saga[Any], *, hold: bool = False) -> bool | None:
    """Whether this is the definition that the orchestrator has started with; None where it never has.

    Only looks, but for `hold`: then it stays so until the end of the transaction.
    """
    table = saga_definition
    query = select(table.c.fingerprint).where(table.c.name == definition.name, table.c.version == definition.version)
    query = query.with_for_update(read=True) if hold else query
    written = (await connection.execute(query)).scalar_one_or_none()
    return None if written is None else bool(written == _fingerprint(definition))


FINGERPRINT = (
    (
        "fingerprint",
        "(SELECT d.fingerprint FROM saga_definition AS d WHERE d.name = saga.name AND d.version = saga.version)",
    ),
)
"""A computed column beside a row of `saga`: what is written down of its definition. It cannot change while the instance
is in flight, unless a person lets it, so nobody has to hold it.
"""
_HELD = (saga_definition.c.name, saga_definition.c.version, saga_definition.c.fingerprint)
_HOLD = plan(Select, _HELD, saga_definition.c.name, "ORDER BY name, version FOR SHARE")


async def hold(connection: AsyncConnection, starting: Iterable[Saga[Any]]) -> None:
    """Before instances of these definitions are started: nobody changes them until the end of this transaction.

    Raises DefinitionChanged where somebody has. One statement, or none where nothing is started. A definition that is
    not written down counts as unchanged: every process writes down its own before it takes anything in, and `prune`
    forgets only those that a newer version has replaced.
    """
    definitions, reads = list(starting), Writes()
    held = hold_with(reads, definitions)
    await reads.run(connection)
    written = written_of(held, definitions)
    await _compare(connection, [(each, written[name]) for each in definitions if (name := key(each)) in written])


def hold_with(reads: Writes, starting: Iterable[Saga[Any]]) -> Outcome:
    """The same together with what else is read; `written_of` its outcome has to be compared afterwards."""
    # With the other versions of the same names, which hardly anybody changes, and in the order in which `check` goes.
    return reads.add(_HOLD, sorted({each.name for each in starting}))


def written_of(held: Outcome, starting: Iterable[Saga[Any]]) -> dict[tuple[str, int], str]:
    """The fingerprints written down of these definitions, where there are any."""
    known = {(row.name, row.version): row.fingerprint for row in held.rows}
    return {name: known[name] for each in starting if (name := key(each)) in known}


def same(written: Mapping[tuple[str, int], str], definitions: Iterable[Saga[Any]]) -> bool:
    """Whether what is written down of these definitions, where that is so, is what they are here."""
    return all(written.get(key(each), _fingerprint(each)) == _fingerprint(each) for each in definitions)


def key(definition: Saga[Any]) -> tuple[str, int]:
    """What a definition is written down by."""
    return definition.name, definition.version


async def compare(connection: AsyncConnection, catalog: Catalog, written: Mapping[tuple[str, int], str | None]) -> None:
    """Raises DefinitionChanged where a fingerprint that is written down is not that of the definition loaded here."""
    pairs = ((catalog.get(name, version), found) for (name, version), found in written.items())
    await _compare(connection, [(each, found) for each, found in pairs if each is not None and found is not None])


async def _compare(connection: AsyncConnection, written: Iterable[tuple[Saga[Any], str]]) -> None:
    outdated = [definition for definition, found in written if found != _fingerprint(definition)]
    if not outdated:
        return
    table, complaints = saga_definition, []
    for each in outdated:
        query = select(table.c.description).where(table.c.name == each.name, table.c.version == each.version)
        after = described((await connection.execute(query)).scalar_one())
        differing = [UNKNOWN] if after is None else differences(_words(each), after)
        complaints.append(_outdated(each, differing))
    raise DefinitionChanged("\n".join(complaints))


def _outdated(definition: Saga[Any], differing: Sequence[str]) -> str:
    return (
        f"saga {definition.name!r} v{definition.version} was changed while this process ran: another one has started "
        f"with another definition. What differs there: {'; '.join(differing) or 'a function of it'}. An instance is "
        "never moved by two definitions, so this process ends; its messages stay on the queue for those that have the "
        "other one. If this one is outdated, deploy the other in its place; if it is the right one, end the other "
        "processes first, then start it again"
    )


async def _in_flight(connection: AsyncConnection, name: str, version: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """The first few instances that have not ended, each with the number of all of them."""
    query = (
        select(saga.c.id, func.count().over())
        .where(saga.c.name == name, saga.c.version == version, saga.c.status.not_in(_ENDED))
        .order_by(saga.c.id)
        .limit(MOST_NAMED)
    )
    return (await connection.execute(query)).all()


def _refusal(in_flight: Sequence[Row[*tuple[Any, ...]]], changed: Changed) -> str:
    number = in_flight[0][1]
    named = ", ".join(str(row[0]) for row in in_flight) + (", …" if number > len(in_flight) else "")
    changes = "; ".join(changed.differences) or "a function of it"
    return (
        f"saga {changed.name!r} v{changed.version} has changed while {number} of its instances are in flight "
        f"({named}). What differs: {changes}. Run `amends preflight`: it says which of them would notice, and "
        f"`amends preflight --accept` lets the change in where none would. Otherwise give the changed definition "
        f"version={changed.version + 1} and keep the old one beside it, let the instances end first, or "
        f"set AMENDS_ACCEPT_CHANGED={changed.name}:{changed.version} to take the risk"
    )


async def _warn_of_unknown(connection: AsyncConnection, catalog: Catalog) -> None:
    """Instances whose definition is not loaded stand still; during a roll-out that passes, otherwise it does not."""
    query = (
        select(saga.c.name, saga.c.version, func.count())
        .where(saga.c.status.not_in(_ENDED))
        .group_by(saga.c.name, saga.c.version)
    )
    for name, version, number in (await connection.execute(query)).all():
        if catalog.get(name, version) is None:
            structlog.get_logger().error(
                "definition_not_loaded",
                saga=name,
                version=version,
                instances=number,
                mend="keep the old definition beside the new one, and name its module in AMENDS_SAGAS",
            )
