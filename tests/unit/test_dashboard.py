"""The dashboard against Grafana's own schema: what Grafana would read of it is all that stands in it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.acceptance.pages import ROOT

FILE = ROOT / "deploy" / "grafana" / "dashboards" / "amends.json"
OLDER = {"/templating/list/1/definition", "/annotations/list/0/titleFormat"}
"""What Grafana writes itself and its schema of 11.6 does not tell of: what a variable's list shows, a mark's title."""


@pytest.fixture(scope="module", autouse=True)
def _panels() -> None:
    """The kinds of panels and of queries that Grafana brings along."""
    plugins.register_default_plugins()


@pytest.fixture
def dashboard() -> Any:
    """As it is shipped."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def _unread(dashboard: Any) -> set[str]:
    """Where something stands in it that is not there any more after it was read, or is something else."""
    return set(_lost(dashboard, json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))))


def _lost(given: Any, read: Any, place: str = "") -> Iterator[str]:
    if isinstance(given, dict):
        for name, value in given.items():
            yield from _lost(value, read[name], f"{place}/{name}") if name in read else (f"{place}/{name}",)
    elif isinstance(given, list):
        for index, (one, other) in enumerate(zip(given, read, strict=True)):
            yield from _lost(one, other, f"{place}/{index}")
    elif given != read:
        yield place


def test_every_field_is_one_that_grafana_knows(dashboard: Any) -> None:
    """In panels, their options and their queries; and it is a dashboard of the version that provisioning takes."""
    assert _unread(dashboard) == OLDER
    kinds = {panel["type"] for panel in dashboard["panels"]}
    assert kinds == {"row", "stat", "timeseries"}
    assert dashboard["schemaVersion"] >= 39


def test_the_panels_lie_on_the_grid_and_none_upon_another(dashboard: Any) -> None:
    """Grafana would move them; it has 24 columns."""
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] <= place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, (panel["title"], taken[x, y])
                taken[x, y] = panel["title"]
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize(
    "place",
    [
        ("refresh",),
        ("time", "from"),
        ("templating", "list", 1, "allValue"),
        ("panels", 1, "targets", 0, "expr"),
        ("panels", 1, "options", "colorMode"),
        ("panels", 1, "fieldConfig", "defaults", "unit"),
        ("panels", 1, "gridPos", "w"),
    ],
)
def test_a_misspelled_field_is_found_out(dashboard: Any, place: tuple[str | int, ...]) -> None:
    """Grafana would say nothing, and show something else."""
    changed = copy.deepcopy(dashboard)
    inside: Any = changed
    for step in place[:-1]:
        inside = inside[step]
    inside[f"{place[-1]}s"] = inside.pop(place[-1])
    assert _unread(changed) - OLDER == {f"/{'/'.join(map(str, place))}s"}
