"""The command that asks a recorded saga what if. Publishes nothing, and touches no history."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from messaging.process import load
from orchestrator.cli import fork_pictures
from orchestrator.cli.opening import Output, OutputOption, catalog_of, fail, json_given, screen
from orchestrator.cli.options import RecordedArgument
from orchestrator.cli.replaying import recorded_of
from orchestrator.cli.timeline import story
from orchestrator.history import CorruptHistory
from orchestrator.replay.edits import CannotFork, Change, Drop, Duplicate, Edit, Swap
from orchestrator.replay.forking import Fork, Timeout
from orchestrator.replay.forking import fork as fork_at
from orchestrator.replay.injecting import Inject
from orchestrator.settings import OrchestratorSettings


def fork(
    wanted: RecordedArgument,
    *,
    at: Annotated[int, typer.Option("--at", min=0, help="Everything up to this transition stays; 0: from the start.")],
    drop: Annotated[list[int] | None, typer.Option(metavar="SEQ", help="This input never comes.")] = None,
    duplicate: Annotated[list[int] | None, typer.Option(metavar="SEQ", help="This input comes twice.")] = None,
    swap: Annotated[
        tuple[int, int] | None, typer.Option(metavar="SEQ SEQ", help="These two come in each other's place.")
    ] = None,
    edit: Annotated[
        tuple[int, str] | None,
        typer.Option(metavar="SEQ FIELD=VALUE", help="This event says something else: 4 amount.amount=1."),
    ] = None,
    inject: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="TYPE JSON", help="This event comes right after --at; @FILE and - are read."),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="STEP", help="Nothing comes until this step's deadline has passed.")
    ] = None,
    silence: Annotated[
        bool, typer.Option("--silence", help="After the last input nobody answers: let every deadline pass.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """What if? Replay a saga as if something else had come.

    Both timelines side by side. Publishes nothing and writes nothing. Exit codes: 0 done, 1 no such saga, or not
    possible with this history.

    Example: amends fork 3fa8 --at 2 --drop 3 --silence
    Example: amends fork 3fa8 --at 2 --inject payment.failed '{"order_id": "…", "reason": "card_declined"}'
    """
    edits: list[Edit] = [*map(Drop, drop or ()), *map(Duplicate, duplicate or ())]
    if swap is not None:
        edits.append(Swap(*swap))
    if edit is not None:
        path, equals, value = edit[1].partition("=")
        if not equals:
            fail(f"--edit {edit[0]} {edit[1]}: write FIELD=VALUE", 2)
        edits.append(Change(edit[0], path, value))
    after: list[Inject | Timeout] = []
    if timeout is not None:
        after.append(Timeout(timeout))
    if inject is not None:
        after.append(Inject(inject[0], json_given(inject[1])))
    settings = load(OrchestratorSettings)
    catalog = catalog_of(settings)
    try:
        found = fork_at(recorded_of(settings, wanted), catalog, at, edits, after=after, silence=silence)
    except CannotFork as error:
        fail(str(error), 1)
    try:
        if output is Output.JSON:
            typer.echo(json.dumps(as_json(found), indent=2))
        else:
            fork_pictures.side_by_side(found, screen())
    except CorruptHistory as error:
        fail(str(error), 1)


def as_json(found: Fork) -> dict[str, Any]:
    """Both timelines for programs; `origins` and `hows` belong to the forked entries after `at`."""
    return {
        "at": found.at,
        "differs": found.forked != found.recorded,
        "recorded": story(found.recorded).as_json(),
        "forked": story(found.forked).as_json(),
        "origins": found.origins,
        "hows": found.hows,
        "unheard": [{"origin": each.origin, "input": each.input, "why": each.why} for each in found.unheard],
        "waits_for": found.waits_for,
    }
