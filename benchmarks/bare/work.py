"""What the orchestrator and its two participants do with a batch of messages: a few statements over arrays."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import asyncpg
from pydantic_core import from_json, to_json

from benchmarks.bare.wire import Message

Event = dict[str, Any]
Handler = Callable[[asyncpg.Connection, Sequence[Event]], Awaitable[list[Message]]]

ROLES = ("orchestrator", "stock", "payment")
DONE = "done"
BINDINGS = {"orchestrator": "evt.#", "stock": "cmd.stock.#", "payment": "cmd.payment.#", DONE: "saga.#"}
FAILS_EVERY = 10
_FILLING = "x" * 200
"""So that bodies and rows are as large as ours."""

START = "evt.order.placed"
NEXT = {
    START: ("RESERVING", "cmd.stock.reserve"),
    "evt.stock.reserved": ("CHARGING", "cmd.payment.charge"),
    "evt.payment.charged": ("SHIPPING", "cmd.stock.ship"),
    "evt.stock.shipped": ("COMPLETED", "saga.completed"),
    "evt.stock.refused": ("REFUNDING", "cmd.payment.refund"),
    "evt.payment.refunded": ("RELEASING", "cmd.stock.release"),
    "evt.stock.released": ("COMPENSATED", "saga.compensated"),
}
"""By the event that comes: the state after it, and what is sent."""
REPLIES = {
    "cmd.stock.reserve": "evt.stock.reserved",
    "cmd.stock.release": "evt.stock.released",
    "cmd.payment.charge": "evt.payment.charged",
    "cmd.payment.refund": "evt.payment.refunded",
}
TABLES = """
    DROP TABLE IF EXISTS bare_saga, bare_history;
    CREATE TABLE bare_saga (
        id uuid PRIMARY KEY, state text NOT NULL, version int NOT NULL, data text NOT NULL) WITH (fillfactor = 70);
    CREATE TABLE bare_history (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, saga_id uuid NOT NULL, state text NOT NULL,
        event text NOT NULL, at timestamptz NOT NULL DEFAULT now());
    CREATE INDEX ON bare_history (saga_id);
"""
TABLES_OF_ROLE = """
    DROP TABLE IF EXISTS bare_inbox_{role}, bare_outbox_{role}, bare_ledger_{role};
    CREATE TABLE bare_inbox_{role} (id uuid PRIMARY KEY);
    CREATE TABLE bare_outbox_{role} (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, message_id uuid, routing_key text, body text);
    CREATE TABLE bare_ledger_{role} (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, saga_id uuid, operation text);
"""


def message(routing_key: str, saga: str, number: int) -> Message:
    """A message about a saga."""
    identity = new_id()
    body = {"id": identity, "type": routing_key, "saga": saga, "n": number, "at": time.time(), "filling": _FILLING}
    return Message(identity, routing_key, to_json(body))


def new_id() -> str:
    """A UUID that sorts by time, as ours do."""
    noise = int.from_bytes(os.urandom(9), "big") & ((1 << 76) - 1)
    whole = (time.time_ns() // 1_000_000) << 80 | 7 << 76 | noise & ~(3 << 62) | 2 << 62
    return str(UUID(int=whole))


def handler(role: str) -> Handler:
    """What a role does with a batch, in the transaction it is given; returns what it sends."""
    return _orchestrate if role == "orchestrator" else _participant(role)


async def _fresh(connection: asyncpg.Connection, role: str, events: Sequence[Event]) -> list[Event]:
    """Those that have not come before."""
    claim = (
        f"INSERT INTO bare_inbox_{role} SELECT * FROM unnest($1::uuid[]) "  # noqa: S608 - one of three names
        "ON CONFLICT DO NOTHING RETURNING id"
    )
    fresh = {str(row[0]) for row in await connection.fetch(claim, [each["id"] for each in events])}
    return [each for each in events if each["id"] in fresh]


async def _orchestrate(connection: asyncpg.Connection, events: Sequence[Event]) -> list[Message]:
    fresh = await _fresh(connection, "orchestrator", events)
    begun = [each for each in fresh if each["type"] == START]
    going = {each["saga"]: each for each in fresh if each["type"] != START}
    out: list[Message] = []
    past: list[tuple[str, str, str]] = []

    def move(event: Event) -> str:
        state, command = NEXT[event["type"]]
        past.append((event["saga"], state, event["type"]))
        out.append(message(command, event["saga"], event["n"]))
        return state

    if begun:
        states = [move(each) for each in begun]
        data = [to_json({"n": each["n"], "filling": _FILLING}).decode() for each in begun]
        await connection.execute(
            "INSERT INTO bare_saga SELECT id, s, 1, d FROM unnest($1::uuid[], $2::text[], $3::text[]) u (id, s, d)",
            [each["saga"] for each in begun],
            states,
            data,
        )
    if going:
        await _change(connection, going, move)
    await connection.execute(
        "INSERT INTO bare_history (saga_id, state, event) SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[])",
        *zip(*past, strict=True),
    )
    return out


async def _change(connection: asyncpg.Connection, going: dict[str, Event], move: Callable[[Event], str]) -> None:
    rows = await connection.fetch(
        "SELECT id, version, data FROM bare_saga WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE", list(going)
    )
    changed = []
    for identity, version, text in rows:
        event = going[str(identity)]
        changed.append((identity, move(event), version + 1, to_json(from_json(text) | {event["type"]: 1}).decode()))
    await connection.execute(
        "UPDATE bare_saga t SET state = u.s, version = u.v, data = u.d "
        "FROM unnest($1::uuid[], $2::text[], $3::int[], $4::text[]) u (id, s, v, d) WHERE t.id = u.id",
        *zip(*changed, strict=True),
    )


def _participant(role: str) -> Handler:
    note = (
        f"INSERT INTO bare_ledger_{role} (saga_id, operation) "  # noqa: S608 - one of three names
        "SELECT * FROM unnest($1::uuid[], $2::text[])"
    )

    async def handle(connection: asyncpg.Connection, events: Sequence[Event]) -> list[Message]:
        fresh = await _fresh(connection, role, events)
        await connection.execute(note, [each["saga"] for each in fresh], [each["type"] for each in fresh])
        return [message(_reply(each), each["saga"], each["n"]) for each in fresh]

    return handle


def _reply(command: Event) -> str:
    if command["type"] in REPLIES:
        return REPLIES[command["type"]]
    return "evt.stock.refused" if command["n"] % FAILS_EVERY == 0 else "evt.stock.shipped"
