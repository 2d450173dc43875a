"""Commands by which a person decides about sagas: each an entry in the history, with who and why.

Nothing is published from here: commands lie in the outbox and leave with the running orchestrator.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Annotated, NoReturn

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.catalog import Catalog
from orchestrator.cli.carrying_out import Choose, Manner, Opened, carry_out, end, finish, meant, one
from orchestrator.cli.given_events import GivenEvents, answer_of, cancellation_of, definition
from orchestrator.cli.opening import Output, OutputOption, fail, moment_ahead
from orchestrator.cli.options import DryRunOption, WantedOrManyArgument, WhoOption, YesOption
from orchestrator.cli.telling import PAGE, SCREENFUL, Telling
from orchestrator.operations import choice
from orchestrator.operations.action import Outcome, Result
from orchestrator.operations.choice import Chosen
from orchestrator.saga.inputs import Action, PersonActed

StepArgument = Annotated[str | None, typer.Argument(metavar="STEP", help="The step that is meant.")]
StepOption = Annotated[
    str | None, typer.Option("--step", help="The step that is meant; of many, those that wait there.")
]
AllStuckOption = Annotated[bool, typer.Option("--all-stuck", help="Every stuck saga, instead of one.")]
SagaOption = Annotated[str | None, typer.Option("--saga", metavar="NAME", help="Of many, those of this saga only.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept in the history.", show_default=False)]
WithOption = Annotated[str | None, typer.Option("--with", metavar="JSON|@FILE|-", help="The data of the event.")]


def retry(
    wanted: WantedOrManyArgument = None,
    *,
    step: StepOption = None,
    all_stuck: AllStuckOption = False,
    saga: SagaOption = None,
    reason: ReasonOption,
    who: WhoOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send again what a saga waits for; a stuck one goes on.

    A command that was given up is sent as a new one, any other under the id it has.

    Example: amends retry --all-stuck --saga fulfill_order --reason "the gateway is back"
    """
    _plain(Action.RETRY, wanted, step, _stuck(all_stuck, saga, step), saga, Manner(who, reason, dry_run, yes, output))


def skip(
    wanted: WantedOrManyArgument = None,
    place: StepArgument = None,
    *,
    answer: WithOption = None,
    step: StepOption = None,
    all_stuck: AllStuckOption = False,
    saga: SagaOption = None,
    reason: ReasonOption,
    who: WhoOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Take data of yours as a step's answer, and go on.

    The participant is not asked any more. --with is the event that means success, or the one a wait waits for. Without
    it only where nobody reads it.

    Example: amends skip 3fa8 approval --with '{"order_id": "…", "by": "ann"}' --reason "approved by phone"
    """
    manner = Manner(who, reason, dry_run, yes, output)
    name = _one_step(place, step)
    opened, chosen = _choose(wanted, _stuck(all_stuck, saga, name), saga, name, manner)
    events = GivenEvents(opened, answer, lambda found: answer_of(found, name))
    given = manner.person(Action.SKIP, name)
    carry_out(
        opened,
        lambda shown: [(each, replace(given, answer=events.of(each, for_show=shown))) for each in chosen],
        manner,
    )


def resolve(
    wanted: WantedOrManyArgument = None,
    place: StepArgument = None,
    *,
    step: StepOption = None,
    all_stuck: AllStuckOption = False,
    saga: SagaOption = None,
    evidence: Annotated[
        str, typer.Option("--evidence", "--reason", help="How it is known; kept in the history.", show_default=False)
    ],
    who: WhoOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say that a step, or its undoing, was done by hand.

    The saga goes on. The evidence is the reason: where it can be seen that it was done.

    Example: amends resolve 3fa8 authorize_payment --evidence "refund 7731 in the bank's console"
    """
    name = _one_step(place, step)
    many = _stuck(all_stuck, saga, name)
    _plain(Action.RESOLVE, wanted, name, many, saga, Manner(who, evidence, dry_run, yes, output))


def compensate(
    wanted: WantedOrManyArgument = None,
    *,
    step: StepOption = None,
    all_stuck: AllStuckOption = False,
    saga: SagaOption = None,
    reason: ReasonOption,
    who: WhoOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Turn a saga back: undo what it has done.

    Its data stays as it is. Not after its pivot.

    Example: amends compensate 3fa8 --reason "the customer was blocked"
    """
    manner = Manner(who, reason, dry_run, yes, output)
    _plain(Action.COMPENSATE, wanted, None, _stuck_at(all_stuck, saga, step), saga, manner, at=step)


def cancel(
    wanted: WantedOrManyArgument = None,
    *,
    event: WithOption = None,
    step: StepOption = None,
    all_stuck: AllStuckOption = False,
    saga: SagaOption = None,
    reason: ReasonOption,
    who: WhoOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Cancel a saga as its own cancel_on event would.

    The event goes into the data, then all is undone. Works while it is stuck, too, when the event itself would only be
    parked. Not after its pivot.

    Example: amends cancel 3fa8 --with '{"order_id": "…"}' --reason "the customer rang"
    """
    manner = Manner(who, reason, dry_run, yes, output)
    opened, chosen = _choose(wanted, _stuck_at(all_stuck, saga, step), saga, step, manner)
    events = GivenEvents(opened, event, cancellation_of)
    given = manner.person(Action.CANCEL)
    carry_out(
        opened,
        lambda shown: [(each, replace(given, answer=events.of(each, for_show=shown))) for each in chosen],
        manner,
    )


def abandon(
    wanted: WantedOrManyArgument = None,
    *,
    step: StepOption = None,
    all_stuck: AllStuckOption = False,
    saga: SagaOption = None,
    reason: ReasonOption,
    who: WhoOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """End a saga as it is: nothing more is done or undone.

    Example: amends abandon 3fa8 --reason "a test order"
    """
    manner = Manner(who, reason, dry_run, yes, output)
    _plain(Action.ABANDON, wanted, None, _stuck_at(all_stuck, saga, step), saga, manner, at=step)


def reschedule(
    wanted: WantedOrManyArgument = None,
    place: StepArgument = None,
    *,
    to: Annotated[str | None, typer.Option("--to", metavar="MOMENT", help="+15m, +2h, +3d, or a moment.")] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="No deadline: wait until something comes.")] = False,
    step: StepOption = None,
    all_waiting: Annotated[
        bool, typer.Option("--all-waiting", help="Every saga that waits at --step, instead of one.")
    ] = False,
    saga: SagaOption = None,
    reason: ReasonOption,
    who: WhoOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Move or revoke the deadline of a step.

    It must be one that is waited for. A moment that is past is due at once. A stuck saga has no deadlines.

    Example: amends reschedule --all-waiting --step authorize_payment --to +2h --reason "the bank is down until noon"
    """
    if (to is None) is not revoke:
        fail("say --to MOMENT or --revoke; one of both", 2)
    manner = Manner(who, reason, dry_run, yes, output)
    name = _one_step(place, step)

    async def waiting(connection: AsyncConnection) -> list[Chosen]:
        return await choice.waiting(connection, step=name, name=saga)

    opened, chosen = _choose(wanted, waiting if all_waiting else None, saga, name, manner, option="--all-waiting")
    given = replace(manner.person(Action.RESCHEDULE, name), due=None if to is None else moment_ahead(to))
    carry_out(opened, lambda _: [(each, given) for each in chosen], manner)


def migrate_instances(
    wanted: WantedOrManyArgument = None,
    *,
    saga: Annotated[str, typer.Option("--saga", metavar="NAME", help="The saga.")],
    start: Annotated[int, typer.Option("--from", metavar="VERSION", help="The version they have.")],
    to: Annotated[int, typer.Option("--to", metavar="VERSION", help="The version they are to go on as.")],
    reason: ReasonOption,
    who: WhoOption = None,
    dry_run: DryRunOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Migrate those that can be, after showing all.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Bring instances in flight to another version.

    They go through the Migration that it lists. Always shows first which can be and why others cannot; without --yes
    that is all.

    Example: amends migrate-instances --saga fulfill_order --from 1 --to 2 --reason "void is mended" --yes
    """
    manner = Manner(who, reason, dry_run, yes, output)

    async def in_flight(connection: AsyncConnection) -> list[Chosen]:
        return await choice.in_flight(connection, saga, start)

    opened = Opened(wanted)
    _can_migrate(opened.catalog, saga, start, to)
    chosen = opened.choose(one(wanted, asks=not manner.yes) if wanted else in_flight, manner.output)
    if chosen[0].name != saga:
        fail(f"{wanted} is an instance of {chosen[0].name}, not of {saga}", 1)
    given = replace(manner.person(Action.MIGRATE), from_version=start, to_version=to)
    _migrate(opened, [(each, given) for each in chosen], manner)


def _migrate(opened: Opened, both: Sequence[tuple[Chosen, PersonActed]], manner: Manner) -> NoReturn:
    """Show all, and migrate those that can be: what is told in the end begins with those that cannot."""
    only_look, told = manner.dry_run or not manner.yes, Telling(manner.output)
    possible: list[tuple[Chosen, PersonActed]] = []
    seen: list[int] = []
    refused: list[Outcome] = []
    pairs = iter(both)

    def see(outcome: Outcome) -> None:
        pair = next(pairs)
        if outcome.result is Result.POSSIBLE:
            possible.append(pair)
            seen.append(outcome.seen)
        elif len(refused) < PAGE:
            refused.append(outcome)
        if only_look or manner.output is Output.TABLE or outcome.result is Result.REFUSED:
            told.add(outcome)

    with ExitStack() as cut_off:
        # Where it is, what was printed until then is still to become JSON.
        cut_off.callback(told.close)
        opened.rehearse(both, see, bar=not told.interleaved(len(both)))
        cut_off.pop_all()
    if only_look or not possible:
        told.close()
        hint = f"nothing was changed; with --yes {len(possible)} of {len(both)} are migrated" if possible else ""
        end(told, hint)
    if manner.output is Output.JSON:
        finish(opened, possible, seen, told)
    told.close(totals=False)
    telling = Telling(manner.output, page=SCREENFUL)
    for each in refused:
        telling.add(each)
    telling.counted[Result.REFUSED] = told.counted[Result.REFUSED]
    finish(opened, possible, seen, telling)


# -- what is meant -------------------------------------------------------------------------------------------


def _plain(
    action: Action,
    wanted: str | None,
    step: str | None,
    many: Choose | None,
    saga: str | None,
    manner: Manner,
    at: str | None = None,
) -> None:
    given = manner.person(action, step)
    opened, chosen = _choose(wanted, many, saga, at or step, manner)
    carry_out(opened, lambda _: [(each, given) for each in chosen], manner)


def _stuck(wanted: bool, saga: str | None, step: str | None) -> Choose | None:
    async def stuck(connection: AsyncConnection) -> list[Chosen]:
        return await choice.stuck(connection, name=saga, step=step)

    return stuck if wanted else None


def _stuck_at(wanted: bool, saga: str | None, step: str | None) -> Choose | None:
    """Where the action is about the whole saga, and a step only says which of many."""
    if step is not None and not wanted:
        fail("--step narrows --all-stuck; this is about the whole saga", 2)
    return _stuck(wanted, saga, step)


def _choose(
    wanted: str | None,
    many: Choose | None,
    saga: str | None,
    step: str | None,
    manner: Manner,
    *,
    option: str = "--all-stuck",
) -> tuple[Opened, list[Chosen]]:
    find = meant(wanted, many, option=option, saga=saga, asks=not manner.yes)
    opened = Opened(wanted)
    if saga is not None and saga not in opened.catalog.names():
        fail(f"there is no saga {saga!r}; AMENDS_SAGAS loads {', '.join(opened.catalog.names())}", 1)

    async def known(connection: AsyncConnection) -> list[Chosen]:
        found = await find(connection)
        # Asked only then: there may be instances of a definition that is not loaded here.
        if not found and step is not None and not any(step in each.stages for each in opened.catalog):
            fail(f"no saga that AMENDS_SAGAS loads has a step {step!r}", 1)
        return found

    return opened, opened.choose(known, manner.output)


def _one_step(place: str | None, step: str | None) -> str:
    if (place is None) is (step is None):
        fail("name the step: behind the saga's id, or of many with --step", 2)
    return place or step or ""


def _can_migrate(catalog: Catalog, name: str, start: int, to: int) -> None:
    if not any(each.old.version == start for each in definition(catalog, name, to).migrations):
        fail(f"{name} v{to} lists no Migration from v{start}: Saga(..., migrations=(Migration(...),))", 1)
