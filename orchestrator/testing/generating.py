"""A bundle as a test: the pytest file that replays the bundle beside it and asserts what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from string import Template

from orchestrator.replay.bundle import Bundle
from orchestrator.testing.bundles import outcome_of

_SOURCE = Template('''\
"""$name as it was recorded.

Instance $id; the bundle beside this file has the whole of it.
"""

from pathlib import Path

from orchestrator.testing.bundles import replay_bundle


def test_$function() -> None:
    """Its $transitions happen again as they were recorded: $status."""
    outcome = replay_bundle(
        Path(__file__).with_suffix(".json"),
        sagas=("$module",),
    )
    assert outcome.status == "$status"
    assert outcome.steps == $steps
    assert outcome.sent == $sent
''')


def name_of(bundle: Bundle) -> str:
    """A name for it that can be a function's and a file's: `fulfill_order_3fa8c1d2`."""
    recorded = bundle.recorded
    return f"{recorded.name.replace('.', '_')}_{recorded.id.hex[:8]}"


def source_of_test(bundle: Bundle, module: str) -> str:
    """The file, laid out as ruff lays it out; `module` is where the saga's definition is."""
    outcome = outcome_of(bundle.recorded)
    number = len(bundle.recorded.transitions)
    return _SOURCE.substitute(
        name=bundle.recorded.name,
        id=bundle.recorded.id,
        function=name_of(bundle),
        transitions=f"{number} transition{'' if number == 1 else 's'}",
        status=outcome.status,
        module=module,
        steps=_block("{", [f"{_text(name)}: {_text(status)}" for name, status in outcome.steps.items()], "}"),
        sent=_tuple([_text(each) for each in outcome.sent]),
    )


def _tuple(items: Sequence[str]) -> str:
    # The comma in a tuple of one is no reason for lines of their own.
    return f"({items[0]},)" if len(items) == 1 else _block("(", items, ")")


def _block(opening: str, items: Sequence[str], closing: str) -> str:
    lines = "".join(f"\n        {each}," for each in items)
    return f"{opening}{lines}\n    {closing}" if lines else opening + closing


def _text(value: str) -> str:
    return json.dumps(value)
