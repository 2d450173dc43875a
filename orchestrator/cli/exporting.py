"""Commands that export a saga: as a bundle, or as a test. They change nothing in the database."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from messaging.database import Database
from messaging.process import load
from orchestrator import queries
from orchestrator.catalog import Catalog
from orchestrator.catalog import load as load_catalog
from orchestrator.cli.bundled import bundle_named
from orchestrator.cli.opening import catalog_of, fail, warn, with_database
from orchestrator.cli.options import RecordedArgument
from orchestrator.cli.shards import holding
from orchestrator.history import CorruptHistory
from orchestrator.replay.bundle import Bundle, InvalidBundle, as_text, sealed_again
from orchestrator.replay.collecting import collected
from orchestrator.replay.redacting import CannotRedact, redacted
from orchestrator.replay.replaying import replay
from orchestrator.saga.definition import Saga
from orchestrator.settings import OrchestratorSettings
from orchestrator.testing.generating import name_of, source_of_test


def export(
    wanted: RecordedArgument,
    *,
    target: Annotated[
        Path | None, typer.Option("--output-file", "-o", metavar="FILE", help="Write to this file; - is stdout.")
    ] = None,
    redact: Annotated[bool, typer.Option("--redact", help="Replace what is marked sensitive by tokens.")] = False,
    as_test: Annotated[
        bool, typer.Option("--as-test", help="Write a pytest file that replays it, and the bundle beside it.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
) -> None:
    """Export one saga as a bundle, or as a test.

    A bundle is a JSON file that replays without a database. Without -o a bundle goes to stdout, and a test to
    test_NAME_ID.py in the working directory.

    Example: amends export 3fa8 --redact -o declined.json
    Example: amends export 3fa8 --as-test -o tests/test_declined.py
    """
    settings = load(OrchestratorSettings)
    catalog = catalog_of(settings)
    bundle, saga = _found(settings, catalog, wanted)
    if redact:
        bundle = _redacted(bundle, saga, catalog)
    if as_test:
        _write_test(settings, catalog, bundle, target, force=force)
    elif target is None or str(target) == "-":
        typer.echo(as_text(bundle), nl=False)
    else:
        _write({target: as_text(bundle)}, force=force)
        typer.echo(f"written: {target}", err=True)


def seal(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A bundle that was edited on purpose.")],
    *,
    target: Annotated[
        Path | None,
        typer.Option("--output-file", "-o", metavar="FILE", help="Write to this file, and leave the other as it is."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Seal an edited bundle again.

    It can be replayed then, and says from then on that it was edited.

    Example: amends seal declined.json
    Example: amends seal declined.json -o sealed.json
    """
    try:
        text = sealed_again(path)
    except InvalidBundle as error:
        fail(str(error), 1)
    _write({target or path: text}, force=force or target is None)
    typer.echo(f"written: {target or path}", err=True)


def _found(settings: OrchestratorSettings, catalog: Catalog, wanted: str) -> tuple[Bundle, Saga[Any]]:
    bundle = bundle_named(wanted)
    if bundle is not None:
        return bundle, _definition(catalog, bundle.recorded.name, bundle.recorded.version)

    async def look(database: Database) -> tuple[Bundle, Saga[Any]]:
        async with database.snapshot() as connection:
            row = await queries.find(connection, wanted)
            saga = _definition(catalog, row.name, row.version)
            return await collected(connection, row, saga), saga

    try:
        return with_database(holding(settings, wanted), look)
    except queries.NoSuchSaga as error:
        fail(str(error), 1)


def _definition(catalog: Catalog, name: str, version: int) -> Saga[Any]:
    saga = catalog.get(name, version)
    if saga is None:
        fail(
            f"saga {name!r} v{version} is not loaded, and without it nobody knows its contracts; AMENDS_SAGAS loads "
            f"{', '.join(f'{each.name} v{each.version}' for each in catalog)}: name the module that holds it, too",
            1,
        )
    return saga


def _redacted(bundle: Bundle, saga: Saga[Any], catalog: Catalog) -> Bundle:
    try:
        # The secret is forgotten with this process: nobody can compute a token from a guess.
        made = redacted(bundle, saga, secrets.token_bytes(32), catalog)
    except CannotRedact as error:
        fail(f"cannot redact: {error}", 1)
    if made.recorded == bundle.recorded and not bundle.redacted:
        warn(f"nothing in {saga!r} is marked sensitive, so nothing is replaced; mark it: name: Sensitive[str]")
    before, after = replay(bundle.recorded, catalog).difference, replay(made.recorded, catalog).difference
    if before is None and after is not None:
        warn(
            f"redacted, it does not replay as it was recorded ({after.sentence}): "
            "a function of the saga does not pass a sensitive value on, but looks at it"
        )
    return made


def _write_test(
    settings: OrchestratorSettings, catalog: Catalog, bundle: Bundle, target: Path | None, *, force: bool
) -> None:
    recorded = bundle.recorded
    path = target or Path(f"test_{name_of(bundle)}.py")
    if path.suffix != ".py":
        fail(f"a test is a Python file: -o {path.with_suffix('.py')}", 2)
    module = next(each for each in settings.sagas if load_catalog([each]).get(recorded.name, recorded.version))
    try:
        source = source_of_test(bundle, module)
    except CorruptHistory as error:
        fail(str(error), 1)
    _write({path: source, path.with_suffix(".json"): as_text(bundle)}, force=force)
    for written in (path, path.with_suffix(".json")):
        typer.echo(str(written))
    difference = replay(recorded, catalog).difference
    if difference is not None:
        warn(f"as things are, this test fails: {difference.sentence}")


def _write(texts: dict[Path, str], *, force: bool) -> None:
    there = [str(path) for path in texts if path.exists() and not force]
    if there:
        fail(f"{', '.join(there)} is there already; give another -o, or --force to write over it", 1)
    for path, text in texts.items():
        try:
            path.write_text(text, "utf-8")
        except OSError as error:
            fail(f"{path} cannot be written: {error.strerror}", 1)
