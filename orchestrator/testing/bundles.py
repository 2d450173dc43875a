"""Bundles in tests: a recorded saga is replayed, and its outcome can be asserted. No clock, no database, no broker.

def test_the_declined_order() -> None:
    outcome = replay_bundle(Path("declined.json"), sagas=("shop.sagas.checkout",))
    assert outcome.status == "compensated"
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.freeze import breaks
from orchestrator.catalog import DEFAULT_MODULE, Catalog, load
from orchestrator.history import MISSHAPEN, CorruptHistory, why_unreadable
from orchestrator.replay.bundle import Bundle, read_bundle
from orchestrator.replay.collecting import schemas_of
from orchestrator.replay.recorded import Recorded
from orchestrator.replay.replaying import Difference, replay
from orchestrator.saga.fingerprint import describe, differences, fingerprint


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a saga: its status, what became of each step it reached, the messages it sent, its last data."""

    status: str
    steps: Mapping[str, str]
    sent: tuple[str, ...]
    """The wire type of each command and event, in order; what was sent again stands there again."""
    data: Any
    """As JSON."""


def replay_bundle(path: Path, *, sagas: Sequence[str] = (DEFAULT_MODULE,)) -> Outcome:
    """Replay a bundle through the definitions in these modules; its outcome, if it is what was recorded.

    Raises AssertionError, saying what differs and what has changed since, where it is not; InvalidBundle where the
    file is no bundle; InvalidSaga where a module holds no saga.
    """
    __tracebackhide__ = True
    bundle = read_bundle(path)
    catalog = load(sagas)
    difference = replay(bundle.recorded, catalog).difference
    if difference is not None:
        raise AssertionError(explanation(bundle, catalog, difference))
    return outcome_of(bundle.recorded)


def outcome_of(recorded: Recorded) -> Outcome:
    """What a recorded instance came to; raises CorruptHistory."""
    try:
        return Outcome(
            status=recorded.status,
            steps={name: step[0] for name, step in json.loads(recorded.progress)["steps"].items()},
            sent=tuple(each["type"] for line in recorded.transitions for each in json.loads(line.commands)),
            data=json.loads(recorded.data),
        )
    except MISSHAPEN as error:
        raise CorruptHistory(f"saga {recorded.id} cannot be read: {why_unreadable(error)}") from error


def explanation(bundle: Bundle, catalog: Catalog, difference: Difference) -> str:
    """Why a bundle does not replay: the difference, both sides of it, and what has changed since it was exported."""
    recorded = bundle.recorded
    where = f" at transition {difference.seq}" if difference.seq else ""
    what = f" ({difference.input})" if difference.input else ""
    lines = [f"{recorded.name} v{recorded.version} {recorded.id} differs{where}{what}:", f"  {difference.sentence}"]
    lines += [f"  recorded: {each}" for each in difference.recorded]
    lines += [f"  now:      {each}" for each in difference.now]
    changes = changes_since(bundle, catalog)
    if changes:
        # The source of a function takes several lines; all of them stay below its name.
        lines += ["What has changed since it was exported:", *("  " + each.replace("\n", "\n    ") for each in changes)]
    return "\n".join(lines)


def changes_since(bundle: Bundle, catalog: Catalog) -> list[str]:
    """What of the definition and its contracts is another than when the bundle was exported, one sentence each."""
    saga = catalog.get(bundle.recorded.name, bundle.recorded.version)
    if saga is None:
        return []
    told = []
    if fingerprint(saga) == bundle.fingerprint:
        pass
    elif not bundle.description:
        told.append("its definition; how it stood when it was exported, the bundle does not tell")
    else:
        described = json.loads(json.dumps(describe(saga)))
        told += differences(bundle.description, described) or ["the code of a function"]
    for name, schema in schemas_of(saga).items():
        if name in bundle.schemas:
            told += [f"{name}: {each}" for each in breaks(bundle.schemas[name], schema)]
    return told
