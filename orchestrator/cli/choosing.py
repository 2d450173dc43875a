"""Which dead letters a command is about: its options, and what they stand for in a database."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator import letters, queries
from orchestrator.cli.opening import moment
from orchestrator.cli.unasked import heed_key
from orchestrator.letters import Criteria, NoSuchLetter, Shelf, State
from orchestrator.times import clock


class Which(StrEnum):
    """Letters of which state."""

    OPEN = "open"
    REDRIVEN = "redriven"
    HANDLED = "handled"
    DISCARDED = "discarded"
    ALL = "all"


TypeOption = Annotated[str | None, typer.Option("--type", help="Only messages of this type: payment.authorize.")]
ServiceOption = Annotated[str | None, typer.Option("--service", help="Only those of this service.")]
OlderOption = Annotated[str | None, typer.Option("--older-than", help="Only what failed before 90s, 15m, 2h, 3d ago.")]
SinceOption = Annotated[str | None, typer.Option("--since", help="Only what failed since 90s, 15m, 2h, 3d ago.")]
SagaOption = Annotated[
    str | None, typer.Option("--saga", metavar="ID", help="Only those of a saga: its id, the beginning of it, or key.")
]
StateOption = Annotated[Which, typer.Option("--state", help="Only those of this state.")]


@dataclass(frozen=True, slots=True)
class Choice:
    """Letters by id, or by what they are like."""

    ids: tuple[str, ...] = ()
    service: str | None = None
    type: str | None = None
    died_of: str | None = None
    saga: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    which: Which = Which.OPEN

    @property
    def narrowed(self) -> bool:
        """Whether it says more than a state."""
        return self != Choice(which=self.which)


def choice(
    *,
    ids: tuple[str, ...] = (),
    service: str | None,
    type: str | None,
    died_of: str | None,
    saga: str | None,
    since: str | None,
    older_than: str | None,
    which: Which,
) -> Choice:
    """What the options say; ends the command with 2 where a moment is none."""
    return Choice(
        ids,
        service,
        type,
        died_of,
        saga,
        moment(since) if since else None,
        moment(older_than, "--older-than") if older_than else None,
        which,
    )


async def criteria_of(connection: AsyncConnection, shelf: Shelf, chosen: Choice, *, asks: bool = True) -> Criteria:
    """The same with ids and sagas as this database knows them; raises NoSuchLetter and NoSuchSaga.

    `asks` says whether somebody sees what was found before it is acted on: if not, what may as well be the key of
    another saga ends the command with 2.
    """
    states = frozenset(State) if chosen.which is Which.ALL else frozenset({State(chosen.which.value)})
    criteria = Criteria(
        service=chosen.service,
        type=chosen.type,
        reason=chosen.died_of,
        saga=chosen.saga,
        since=chosen.since,
        before=chosen.before,
        states=states,
    )
    if chosen.saga is not None and shelf.everybodys:
        criteria = replace(criteria, saga=await _correlation_id(connection, chosen.saga, asks=asks))
    ids: list[UUID] = []
    for wanted in chosen.ids:
        letter = await letters.find(connection, shelf, wanted)
        if letter.state not in states:
            raise NoSuchLetter(
                f"{letter.id} is {letter.state.value} ({_story(letter)}); "
                f"add --state {letter.state.value} if you mean it all the same"
            )
        ids.append(letter.id)
    return replace(criteria, ids=tuple(ids))


async def _correlation_id(connection: AsyncConnection, wanted: str, *, asks: bool) -> str:
    try:
        return str(UUID(wanted))  # also of a saga that is pruned, or of another system
    except ValueError:
        row = await queries.find(connection, wanted)
        if not asks:
            heed_key(wanted, row.id, row.key)
        return str(row.id)


def _story(letter: letters.Letter) -> str:
    if letter.state is State.HANDLED and letter.handled_at is not None:
        return f"by {letter.service} at {clock(letter.handled_at)}"
    if letter.decided_at is None:
        return f"since {clock(letter.at)}"
    return f"by {letter.decided_by} at {clock(letter.decided_at)}: {letter.decided_why}"
