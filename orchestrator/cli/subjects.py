"""`amends subjects`: the keys of persons, and erasing one, which erases the person from everything that is sealed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from messaging.clock import SystemClock
from messaging.commandline import bring_to_head
from messaging.database import Database
from messaging.keys import UnusableKey, write_secret
from messaging.privileges import Roles
from messaging.process import EX_CONFIG, load
from messaging.prune_command import confirm, progress
from messaging.reaching import reach
from messaging.strict_json import NotStrictJson, loads
from messaging.subjects import erasing, master, rewrapping
from messaging.subjects.erasing import Erased, Erasure, Subject
from messaging.subjects.master import UnknownMaster
from messaging.subjects.rewrapping import Rewrapped
from messaging.subjects.settings import HISTORY, SubjectsSettings
from messaging.subjects.store import REMEMBERED_SECONDS, check_subject, masters_of
from orchestrator.cli.opening import Output, OutputOption, fail, login, moment, screen, warn
from orchestrator.cli.options import DryRunOption, WhoOption, YesOption
from orchestrator.cli.subject_pictures import as_json, keys, shown, table, whom

T = TypeVar("T")
PROGRAM = "amends subjects"
app = typer.Typer(
    help="The keys of persons: erase one, and the person is erased.\n\nExample: amends subjects show customer-7",
    no_args_is_help=True,
    rich_markup_mode=None,
)
masters = typer.Typer(
    help="The keys that these keys are wrapped by.\n\nExample: amends subjects master new keys/2026.json",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(masters, name="master")


@masters.command("new")
def new_master(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where it goes; only its owner can read it.")],
    *,
    identity: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="By which it is known.  [default: master-…]")
    ] = None,
) -> None:
    """Make a master key.

    Whoever has it and the database opens every key: keep it apart from both, and a copy where no fire reaches. Nothing
    is written over.

    Example: amends subjects master new master-keys/2026.json --id 2026
    """
    try:
        key = master.new(identity)
    except UnusableKey as error:
        fail(str(error), 2)
    try:
        write_secret(master.as_json(key), file)
    except FileExistsError:
        fail(f"there already: {file}; a key is never written over", 1)
    except OSError as error:
        fail(f"{error.filename or file} cannot be written: {error.strerror}", 1)
    typer.echo(f"{file}: {key.id}")


@app.command()
def migrate() -> None:
    """Bring the table of keys to head.

    Safe to run again. AMENDS_APP_ROLE and AMENDS_ERASE_ROLE name who may make and open keys, and who may erase.

    Example: AMENDS_SUBJECT_KEYS=postgresql://subjects_owner@localhost/subjects amends subjects migrate
    """
    settings = _settings()
    bring_to_head(settings, [HISTORY], Roles(settings.app_role, erase=settings.erase_role))


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="Who is meant: what a message says, or a key's id.")],
    *,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show whether there is a key of a person, since when, or who erased it and why. Never the key.

    Example: amends subjects show customer-7
    """

    async def look(database: Database) -> Subject | None:
        async with database.reading() as connection:
            return await erasing.find(connection, name)

    found = _reach(look)
    if found is None:
        fail(f"nobody has made a key for {name!r}, nor erased one, nor is it the id of a key", 1)
    if output is Output.JSON:
        typer.echo(as_json(found))
        return
    typer.echo("\n".join(shown(found)))


@app.command()
def erase(
    name: Annotated[str | None, typer.Argument(metavar="ID", help="Who is meant, as messages name them.")] = None,
    *,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; kept for ever, so name nobody in it.")] = None,
    again: Annotated[
        Path | None, typer.Option("--again", metavar="FILE", help="Everybody whom `erasures -o json` has listed.")
    ] = None,
    who: WhoOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Erase a person: the key goes for good, and nobody ever makes another.

    What is sealed with it can then be read by nobody, wherever it lies: messages, tables, histories, archives. Also for
    somebody of whom there is no key yet. There is no way back. --again repeats, after the keys came out of a backup,
    what was erased since.

    Example: amends subjects erase customer-7 --reason "request 2026-114" --as ada
    """
    wanted = _wanted(name, reason, again, who)

    async def look(database: Database) -> list[Subject | None]:
        async with database.reading() as connection:
            return [await erasing.find(connection, each.subject) for each in wanted]

    looked = _reach(look)
    for each, found in zip(wanted, looked, strict=True):
        if found is not None and found.subject != each.subject:
            fail(f"{each.subject} is the id of the key of {found.subject}: name the person", 1)
    there = {each.subject: each for each in looked if each is not None}
    left = [each for each in wanted if each.subject not in there or there[each.subject].erased_at is None]
    if len(wanted) == 1 and not left:
        warn(f"erased before: {', '.join(shown(there[wanted[0].subject]))}")
    if dry_run:
        _tell(f"would erase {whom(left, there)}" if left else "nobody to erase", left, output)
        return
    if left:
        confirm(f"erase {whom(left, there)}, for good", yes=yes)

    async def act(database: Database) -> Erased:
        return await erasing.erase(database, left)

    # Also where nobody is left: what an earlier time could not overwrite is overwritten now.
    done = _reach(act)
    erased = [each for each in left if each.subject in done.subjects]
    _tell(f"erased {whom(erased, there)}" if erased else "nobody to erase", erased, output)
    if erased:
        warn(f"processes that have used a key forget it within {REMEMBERED_SECONDS:.0f} s")
    if done.remains:
        fail(
            "who is erased stays so, but somebody was using the database, and its files still hold what the master key "
            "opens: run the same again, at best while no service runs",
            1,
        )


@app.command()
def erasures(
    *,
    since: Annotated[str | None, typer.Option("--since", help="Only those since then: 30d, or a moment.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List who was erased, when, by whom and why, the first ones first.

    Keep what it prints as JSON apart from the backups of the keys: `erase --again` takes it after one was restored.

    Example: amends subjects erasures --since 30d --output json
    """
    begin = None if since is None else moment(since)

    async def look(database: Database) -> list[Erasure]:
        async with database.reading() as connection:
            return await erasing.erasures(connection, begin)

    found = _reach(look)
    if output is Output.JSON:
        typer.echo(as_json(found))
        return
    screen().print(table(found))


@app.command()
def rewrap(*, dry_run: DryRunOption = False, yes: YesOption = False, output: OutputOption = Output.TABLE) -> None:
    """Wrap anew, by the current master key, all keys that another wraps.

    In small batches, beside services that run; stopped half way it goes on when it is run again. AMENDS_MASTER_KEYS has
    to hold both, AMENDS_MASTER_KEY_ID names the new one. Afterwards nothing needs the old one any more, but backups
    made before: destroy it, and nobody opens those either.

    Example: AMENDS_MASTER_KEY_ID=2026 amends subjects rewrap
    """
    settings = _settings()
    try:
        found = masters_of(settings)
    except UnusableKey as error:
        fail(str(error), EX_CONFIG)

    async def look(database: Database) -> dict[str, int]:
        async with database.reading() as connection:
            return await rewrapping.others(connection, found.current)

    others = _reach(look)
    missing = sorted(others.keys() - set(found.ids))
    if missing:
        fail(f"not in AMENDS_MASTER_KEYS: {', '.join(missing)}, which wraps {keys(others[missing[0]])}", EX_CONFIG)
    total = sum(others.values())
    words = f"{keys(total)} by the master key {found.current}"
    if dry_run or not total:
        _tell(f"would wrap {words}" if total else "nothing to wrap anew", Rewrapped(total), output)
        return
    confirm(f"wrap {words} ({', '.join(f'{number} by {old}' for old, number in others.items())} now)", yes=yes)

    async def act(database: Database) -> Rewrapped:
        with progress(total, "wrapping") as told:
            return await rewrapping.rewrap(database, found, told=told)

    try:
        done = _reach(act)
    except UnknownMaster as error:
        fail(f"{error}; put it into AMENDS_MASTER_KEYS, and run it again", EX_CONFIG)
    _tell(f"wrapped {keys(done.keys)} by the master key {found.current}", done, output)
    if done.damaged:
        fail(f"damaged, restore them from a backup: {', '.join(done.damaged)}", 1)


# -- what they share -----------------------------------------------------------------------------------------


def _settings() -> SubjectsSettings:
    settings = load(SubjectsSettings)
    if not settings.database:
        fail(
            "AMENDS_SUBJECT_KEYS must say where the keys of persons are: postgresql://user:password@host/name",
            EX_CONFIG,
        )
    return settings


def _reach(act: Callable[[Database], Awaitable[T]]) -> T:
    return reach(_settings(), act, program=PROGRAM)


def _wanted(name: str | None, reason: str | None, again: Path | None, who: str | None) -> list[Erasure]:
    """Who is to be erased, by what was given; ends the command with 2."""
    if again is not None:
        if name is not None or reason is not None or who is not None:
            fail("--again takes everything from the file: no ID, --reason or --as beside it", 2)
        return _listed(again)
    if name is None or not (reason or "").strip():
        fail("say who is meant, and --reason why; or --again FILE", 2)
    _check(name)
    return [Erasure(name, SystemClock().now(), who or login(), str(reason))]


def _listed(file: Path) -> list[Erasure]:
    """What `erasures -o json` has printed; ends the command with 2 where it is anything else."""
    try:
        found = [_said(each) for each in loads(file.read_bytes())]
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}", 2)
    except (NotStrictJson, TypeError, KeyError, ValueError):
        fail(f"{file} is not what `amends subjects erasures --output json` prints", 2)
    for each in found:
        _check(each.subject)
    return found


def _said(each: Mapping[str, str]) -> Erasure:
    """One of a list. Raises ValueError, TypeError, KeyError."""
    found = Erasure(each["subject"], datetime.fromisoformat(each["at"]), each["by"], each["why"])
    if found.at.tzinfo is None or not all(isinstance(text, str) for text in (found.subject, found.by, found.why)):
        raise ValueError("a moment without its offset, or no text")
    return found


def _check(subject: str) -> None:
    try:
        check_subject(subject)
    except ValueError as error:
        fail(str(error), 2)


def _tell(words: str, found: Rewrapped | Sequence[Erasure], output: Output) -> None:
    typer.echo(as_json(found) if output is Output.JSON else words)
