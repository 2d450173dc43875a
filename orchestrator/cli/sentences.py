"""A diagnosis in sentences that somebody woken at 3 a.m. understands: the most likely cause first."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.diagnosis import findings
from orchestrator.diagnosis.findings import Almost, Awaited, Awaits, Cause, Diagnosis, Place, StuckBy, Then
from orchestrator.saga.inputs import Action
from orchestrator.saga.state import Direction
from orchestrator.saga.story import times
from orchestrator.times import about, clock
from orchestrator.words import last_line

MOST_LATE = 5
"""Late inputs that are told one by one; programs get them all."""


@dataclass(frozen=True, slots=True)
class Section:
    """Some sentences under a heading."""

    title: str
    lines: tuple[str, ...]


def sections(found: Diagnosis) -> list[Section]:
    """What to tell, in order; sections that say nothing are left out."""
    explaining = [each for each in found.causes if _explains(found, each)]
    others = [each for each in found.causes if each not in explaining]
    said = [*map(_cause, explaining), *_verdict(found), *map(_cause, others)]
    first, *rest = said or [_nothing(found)]
    told = [
        Section("Most likely" if found.ended_at is None else "How it ended", (first,)),
        Section("Also", tuple(rest)),
        Section("Where it is", tuple(line for each in found.awaited for line in _where(found, each))),
        Section("Next", _STANDING if _stands(found) else tuple(_next(found, each) for each in found.awaited)),
        Section("Late", tuple(_late(found))),
        Section("What you can do", tuple(_repairs(found))),
        Section("Not looked at", (found.broker,) if found.broker else ()),
    ]
    return [each for each in told if each.lines]


# -- the verdict: stuck, ended, or nothing ---------------------------------------------------------------------


def _explains(found: Diagnosis, cause: Cause) -> bool:
    """Whether it stands because of this: its row cannot be read, or nobody answers a command that has not left."""
    return isinstance(cause, findings.RowUnreadable) or (
        found.stuck is not None
        and found.stuck.by is StuckBy.NO_ANSWER
        and isinstance(cause, findings.StillInOutbox)
        and cause.held_up
        and cause.message_id in {each.command_id for each in found.awaited}
    )


def _verdict(found: Diagnosis) -> Iterator[str]:
    if found.ended_at is not None:
        why = f": {found.reason.strip()}" if found.reason else ""
        took = about(found.ended_at - found.started_at)
        yield f"It is {found.status} since {clock(found.ended_at)}, {took} after it began{why}."
    if (stuck := found.stuck) is not None:
        since = f"It is stuck since {clock(stuck.since)} and waits for a person"
        match stuck.by:
            case StuckBy.EXCEPTION if stuck.raised is not None:
                told = f"{stuck.raised.error}{_place(stuck.raised)}"
                yield f"{since}: its own code raised, when {stuck.given} came, {told}."
            case StuckBy.UNREADABLE if _cannot_be_read(found):
                yield f"{since}."
            case StuckBy.UNREADABLE:
                yield f"{since}: {stuck.reason}. It can be read here: deploy this definition, and then retry."
            case StuckBy.CONTRACT:
                yield f"{since}: {stuck.reason}."
            case _:
                yield f"{since}: {stuck.reason}. It is not sent again by itself."


def _cannot_be_read(found: Diagnosis) -> bool:
    return any(isinstance(each, findings.RowUnreadable) for each in found.causes)


def _stands(found: Diagnosis) -> bool:
    """Whether only a person moves it on."""
    return found.stuck is not None or _cannot_be_read(found)


def _place(raised: findings.Raised) -> str:
    return f" ({raised.file}:{raised.line} in {raised.function})" if raised.file else ""


def _nothing(found: Diagnosis) -> str:
    if not found.awaited:
        return "Nothing is wrong that can be seen from here."
    each = next((each for each in found.awaited if _overdue(found, each)), found.awaited[0])
    match each.awaits:
        case Awaits.TIME:
            return f"Nothing is wrong: {each.step} lets time pass."
        case Awaits.EVENT:
            return f"Nothing is wrong that can be seen from here: {_or(each.types)} has not come yet."
    if _overdue(found, each):
        return (
            f"{each.participant} does not answer, and nothing here says why. Look at {each.participant} itself: its "
            "/readyz, its log, its deferred table."
        )
    return f"Nothing is wrong so far: {each.participant} has been asked and has not answered yet."


def _overdue(found: Diagnosis, each: Awaited) -> bool:
    waited = (found.now - each.since).total_seconds()
    return waited > each.usual.p99 if each.usual is not None else each.attempt > 1


def _late(found: Diagnosis) -> Iterator[str]:
    if len(found.late) > MOST_LATE:
        yield f"{len(found.late)} inputs; the last {MOST_LATE} of them:"
    for each in found.late[-MOST_LATE:]:
        yield f"{each.given} at {clock(each.at)}: {each.why}."


# -- causes ----------------------------------------------------------------------------------------------------


def _cause(cause: Cause) -> str:
    match cause:
        case findings.DefinitionMissing(name, version):
            return (
                f"{name} v{version} is in no module that AMENDS_SAGAS names here. If the running orchestrator has not "
                "got it either, the saga stands still: load its module again."
            )
        case findings.RowUnreadable(name, version, reason):
            return (
                f"{reason[:1].upper()}{reason[1:]}. Deploy a definition of {name} v{version} that reads it, and then "
                "retry; or abandon it."
            )
        case findings.NobodyActs(deadline, late):
            return (
                f"Its deadline passed at {clock(deadline)}, {about(late)} ago, and nobody has acted on it: no "
                "orchestrator runs that knows this saga, or it cannot reach its database."
            )
        case findings.StillInOutbox():
            return _in_outbox(cause)
        case findings.DeadLettered():
            return _dead_letter(cause)
        case findings.ParkedHere(wire_type, _, reason, at):
            return f"{wire_type} came at {clock(at)} and is parked: {reason}."
        case findings.NearMiss():
            return _near_miss(cause)
        case findings.NoQueue() | findings.NobodyReads() | findings.Backlog():
            return _of_queue(cause)


def _in_outbox(cause: findings.StillInOutbox) -> str:
    if not cause.held_up:
        return f"{cause.type} was written to the outbox {about(cause.age)} ago and is about to leave."
    tries = f", {_tries(cause.attempts)}" if cause.attempts else ""
    words = f"{cause.type} has not left the outbox: row {cause.id}, {about(cause.age)} old{tries}"
    if cause.last_error:
        words += f", last error: {cause.last_error}"
    if cause.ahead:
        first = cause.ahead[0]
        words += f". It stands behind row {first.id}, {first.type}"
        words += f" ({_tries(first.attempts)}, last error: {first.last_error})" if first.last_error else ""
        words += f" and {len(cause.ahead) - 1} more" if len(cause.ahead) > 1 else ""
        words += ": messages of one saga leave in order"
    return f"{words}."


def _dead_letter(cause: findings.DeadLettered) -> str:
    what = f"The command {cause.type}" if cause.is_command else f"{cause.type or 'A message'} of this saga"
    words = (
        f"{what} became a dead letter of {cause.service} at {clock(cause.at)} ({cause.reason}): "
        f"{last_line(cause.error).rstrip('.')}."
    )
    if cause.sent_again_at is not None:
        when = clock(cause.sent_again_at)
        words += f" Sent again by {cause.sent_again_by} at {when}, and nothing has been heard of it since."
    return f"{words} {_see(cause.id)}"


def _see(letter: object) -> str:
    return f"See amends dead-letters show {str(letter)[:8]}"


_HOW = {
    Almost.CASE: "different only in upper and lower case",
    Almost.WHITESPACE: "different only in whitespace",
    Almost.DASHES: "different only in dashes",
    Almost.WRITING: "different only in case, whitespace and dashes",
    Almost.PREFIX: "the one a beginning of the other",
    Almost.ONE_CHARACTER: "one character different",
    Almost.TWO_CHARACTERS: "two characters different",
}


def _near_miss(cause: findings.NearMiss) -> str:
    lies, see = "is parked", ""
    if cause.place is Place.DEAD_LETTER:
        lies, see = "is a dead letter", f" {_see(cause.id)}"
    came = f"{cause.type} came at {clock(cause.at)} and {lies} ({cause.reason})"
    if cause.almost is Almost.SAME:
        return f"{came}: it has this saga's {cause.what}, {cause.found!r}.{see}"
    return (
        f"{came}, meant for this saga, it seems: its {cause.what} is {cause.found!r}, this saga's is "
        f"{cause.wanted!r}, {_HOW[cause.almost]}.{see}"
    )


def _of_queue(cause: findings.NoQueue | findings.NobodyReads | findings.Backlog) -> str:
    match cause:
        case findings.NoQueue(queue):
            return f"The broker has no queue {queue}: {_service(queue)} has never run there."
        case findings.NobodyReads(queue, ready):
            return f"Nobody reads the queue {queue} ({_messages(ready)} in it): start {_service(queue)}."
        case findings.Backlog(queue, ready, consumers):
            wait = "waits" if ready == 1 else "wait"
            return f"{_messages(ready)} {wait} in the queue {queue} for its {_consumers(consumers)}."


def _service(queue: str) -> str:
    return queue.partition(".")[0]


def _messages(number: int) -> str:
    return "1 message" if number == 1 else f"{number:,} messages"


def _tries(number: int) -> str:
    return "1 attempt" if number == 1 else f"{number} attempts"


def _consumers(number: int) -> str:
    return "1 consumer" if number == 1 else f"{number} consumers"


# -- where it is, and what comes next ----------------------------------------------------------------------------


def _where(found: Diagnosis, each: Awaited) -> Iterator[str]:
    waited = (found.now - each.since).total_seconds()
    since = f"since {clock(each.since)}, for {about(waited)}"
    match each.awaits:
        case Awaits.TIME:
            yield f"{each.step} has let time pass {since}."
            return
        case Awaits.EVENT:
            yield f"{each.step} waits for {_or(each.types) or 'an event'} {since}."
        case Awaits.ANSWER:
            command = f"{each.command}, its compensation," if each.direction is Direction.COMPENSATION else each.command
            yield f"{each.step} waits for {each.participant} to answer {command} {since}{_attempts(each)}."
    yield _compared(each, waited)


def _attempts(each: Awaited) -> str:
    rounds = f", round {each.round}" if each.round > 1 else ""
    if each.attempts is not None:
        return f"; sent {times(each.attempt)} of {each.attempts}{rounds}"
    again = ", and again for ever" if each.then is Then.SENT_FOR_EVER else ""
    return f"; sent {times(each.attempt)}{again}{rounds}"


def _compared(each: Awaited, waited: float) -> str:
    if each.usual is None:
        return "There is no earlier one of this step to compare with."
    usual = each.usual
    verdict = "that is within the usual"
    if waited > usual.p99:
        # Of fewer than a hundred the 99th percentile is the longest.
        verdict = f"that is longer than {'any of them' if usual.sample < 100 else '99 of 100'} took"
    elif waited > usual.p50:
        verdict = "that is longer than half of them took"
    others = "1 other" if usual.sample == 1 else f"{usual.sample:,} others"
    return f"Usually it takes {about(usual.p50)} (p50) to {about(usual.p99)} (p99), by {others}: {verdict}."


def _next(found: Diagnosis, each: Awaited) -> str:
    if each.due is None:
        return f"{each.step} has no deadline: only {_or(each.types) or 'an event'} or a person moves it on."
    moment = f"At {clock(each.due)}" if each.due > found.now else f"Now, since {clock(each.due)} has passed,"
    match each.then:
        case Then.SENT_AGAIN:
            return f"{moment} {each.command} is sent again ({each.attempt + 1} of {each.attempts})."
        case Then.SENT_FOR_EVER:
            return f"{moment} {each.command} is sent again: there is no way back from here, so until it is answered."
        case Then.IN_DOUBT:
            return f"{moment} {each.step} is taken to be in doubt, and the saga goes back, beginning with it."
        case Then.STUCK:
            return f"{moment} the saga gets stuck: the compensation of {each.step} was sent as often as it may be."
        case Then.GOES_BACK:
            return f"{moment} the saga stops waiting for {_or(each.types)} and goes back."
        case Then.GOES_ON:
            return f"{moment} the saga goes on."
        case None:
            return f"{moment} something happens that its definition, which is not loaded here, would tell."


_STANDING = ("Nothing happens by itself: what comes for it is parked until a person decides.",)


def _or(types: tuple[str, ...]) -> str:
    return " or ".join(types)


# -- what a person can do ----------------------------------------------------------------------------------------

_MEANS = {
    Action.RETRY: "send what is awaited again",
    Action.SKIP: "go on with an answer of yours",
    Action.RESOLVE: "say that it was done by hand, and how that is known",
    Action.COMPENSATE: "go back and undo what was done",
    Action.ABANDON: "end it here, as it is",
}


def _repairs(found: Diagnosis) -> Iterator[str]:
    """The commands, ready to be pasted, each below what it means, where something has to be done."""
    if found.ended_at is not None or (not _stands(found) and not any(_overdue(found, each) for each in found.awaited)):
        return
    for each in found.repairs:
        step = f" {shlex.quote(each.step)}" if each.step else ""
        answer = f" --with @{each.needs}.json" if each.needs else ""
        means = f"{_MEANS[each.action]} ({each.needs}, its data as JSON)" if each.needs else _MEANS[each.action]
        why = "--evidence" if each.action is Action.RESOLVE else "--reason"
        yield f"# {means}"
        yield f"amends {each.action.value} {found.id}{step}{answer} {why} '…'"
