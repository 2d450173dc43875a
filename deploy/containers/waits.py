"""How long messages have waited for their service, by what the tables say: from when one was made to its handling.

A saga waits for one message at a time. So where none waits for long, no saga is held up, and of one that takes long
this says who was waited for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from deploy.containers.stack import SERVICES, Stack

_SENT = """
SELECT json_object_agg(id, extract(epoch FROM at)) FROM (
    SELECT command ->> 'id' AS id, min(at) AS at FROM saga_history, json_array_elements(commands::json) AS command
    WHERE at >= :'since' AND command ->> 'kind' = 'command' GROUP BY command ->> 'id'
) AS sent
"""
_ANSWERED = """
SELECT json_object_agg(
    message_id, json_build_array(answer_id, extract(epoch FROM (answer_body::json ->> 'time')::timestamptz))
) FROM inbox WHERE consumer = :'consumer' AND answer_id IS NOT NULL AND received_at >= :'since'
"""
_RECEIVED = """
SELECT json_object_agg(message_id, extract(epoch FROM received_at))
FROM inbox WHERE consumer = :'consumer' AND received_at >= :'since'
"""
_ORCHESTRATOR, *_PARTICIPANTS = SERVICES
UNATTENDED_SECONDS = 5.0
"""Compose by itself leaves a service without anybody for twice as long."""


class Wait(NamedTuple):
    """When a message was made, and when it was handled, in seconds since 1970."""

    made: float
    handled: float

    @property
    def seconds(self) -> float:
        return self.handled - self.made


class Ending(NamedTuple):
    """When a process was told to end, and when it had, in seconds since 1970."""

    told: float
    over: float

    def met(self, wait: Wait) -> bool:
        """Whether the message waited when the process was told."""
        return wait.made < self.told < wait.handled

    def held(self, wait: Wait) -> bool:
        """Whether it waited then, and still when the process had ended: nobody else took it."""
        return self.met(wait) and self.over < wait.handled


def now(stack: Stack) -> str:
    """The moment, as the database has it."""
    return stack.sql(_ORCHESTRATOR, "SELECT now()")


def since(stack: Stack, moment: str) -> dict[str, list[Wait]]:
    """For each service the waits of the messages that it has handled, of those made since then."""
    found: dict[str, list[Wait]] = {}
    commands = _read(stack, _ORCHESTRATOR, _SENT, moment)
    received = _read(stack, _ORCHESTRATOR, _RECEIVED, moment)
    events = {message: made for message in received if (made := made_at(message)) is not None}
    for participant in _PARTICIPANTS:
        answers = _read(stack, participant, _ANSWERED, moment)
        found[participant] = paired(commands, {command: at for command, (_, at) in answers.items()})
        events |= {answer: at for command, (answer, at) in answers.items() if command in commands}
    return {_ORCHESTRATOR: paired(events, received), **found}


def paired(made: Mapping[str, float], handled: Mapping[str, float]) -> list[Wait]:
    """Of the messages that are in both."""
    return [Wait(made[message], at) for message, at in handled.items() if message in made]


def unattended(found: Sequence[Wait], usual: float) -> list[Wait]:
    """Those that waited so much longer than usual that nobody can have worked there meanwhile.

    A message that was made when the process had been told is not `held` by it, and waits all the same where there is
    nobody else.
    """
    return [each for each in found if each.seconds > usual + UNATTENDED_SECONDS]


def made_at(message: str) -> float | None:
    """When a message was made whose id says so, in seconds since 1970; None where it does not."""
    identity = UUID(message)
    return (identity.int >> 80) / 1000 if identity.version == 7 else None


def _read(stack: Stack, service: str, query: str, moment: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stack.sql(service, query, since=moment, consumer=service) or "{}")
    return found
