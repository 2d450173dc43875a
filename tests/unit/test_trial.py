"""`make test-containers`, as far as it can be judged without an engine: what it reads of the page and writes there."""

from __future__ import annotations

import json
import re

import pytest

from deploy.containers import waits
from deploy.containers.__main__ import Result, written
from deploy.containers.engine import CommandFailed, Engine
from deploy.containers.page import PAGE, commands
from deploy.containers.stack import Stack
from deploy.containers.trial import Wrong
from tests.acceptance.pages import ROOT, blocks


def test_every_command_of_the_page_is_followed() -> None:
    """All its `sh` blocks, in order; without Grafana only where that cannot be had."""
    every = [block.text for block in blocks(PAGE, "sh")]
    assert commands(grafana=True) == every
    assert every[0].startswith("sh deploy/secrets.sh\n")
    (profile,) = [each for each in every if "--profile observability up --wait\n" in each]
    rest = [each for each in every if each != profile]
    without = profile.replace("up --wait\n", "up --wait prometheus collector orchestrator order payment\n")
    assert sorted(commands(grafana=False)) == sorted([*rest, without])
    assert len(every) == 5


def test_the_page_names_the_variables_that_compose_reads() -> None:
    """Ports, tags and images that it says can be changed, can be."""
    read = set(re.findall(r"\$\{(\w+)", (ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8")))
    named = set(re.findall(r"`((?:PORT|TAG)_[A-Z]+|[A-Z]+_IMAGE)`", PAGE.read_text(encoding="utf-8")))
    assert named <= read
    assert {"PORT_ORDER", "PORT_GRAFANA", "TAG_PAYMENT", "POSTGRES_IMAGE"} <= named


def test_results_replace_those_of_the_last_time() -> None:
    """Nothing else of the page changes."""
    page = "before\n<!-- trial -->\nold\n<!-- end -->\nbehind\n"
    once = written(page, [Result("orders", "40 placed", 12.34)])
    assert once.startswith("before\n<!-- trial -->\nAs of 2")
    assert once.endswith("| orders | 40 placed | 12 |\n<!-- end -->\nbehind\n")
    assert "old" not in once
    assert written(once, [Result("orders", "40 placed", 12.34)]).count("| orders |") == 1


def test_a_page_without_a_place_for_results_is_refused() -> None:
    """Instead of losing them."""
    with pytest.raises(Wrong, match="no place for the results"):
        written("a page\n", [])


def test_a_message_waits_from_when_it_was_made_until_it_was_handled() -> None:
    """Of those made since then; one that was made before, or is not handled yet, counts for nothing."""
    made = {"before": 1.0, "short": 10.0, "long": 10.5, "not yet": 11.0}
    found = waits.paired(made, {"older": 99.0, "short": 10.125, "long": 10.75})
    assert [each.seconds for each in found] == [0.125, 0.25]


@pytest.mark.parametrize(
    ("made", "handled", "met", "held"),
    [(9, 9.5, False, False), (9, 11, True, False), (9, 13, True, True), (11, 13, False, False)],
)
def test_a_message_was_held_that_waited_for_a_process_from_its_signal_to_its_end(
    made: float, handled: float, met: bool, held: bool
) -> None:
    """One that was handled meanwhile was in other hands; one that came later was never this one's."""
    ending, wait = waits.Ending(10, 12), waits.Wait(made, handled)
    assert (ending.met(wait), ending.held(wait)) == (met, held)


def test_a_message_waited_for_nobody_that_waited_seconds_longer_than_usual() -> None:
    """Whether it came before a process was told to end or after that."""
    short, long = waits.Wait(9, 14.5), waits.Wait(11, 16.625)
    assert waits.unattended([short, long], usual=0.5) == [long]


class _Docker(Engine):
    """Says of containers what a test wants."""

    def __init__(self, *events: tuple[str, str, float]) -> None:
        self._events = events

    def says(self, *arguments: str, seconds: float = 120.0) -> str:
        assert arguments[0] == "events"
        said = (
            {"Action": what, "Actor": {"ID": container}, "timeNano": int(at * 1e9)}
            for container, what, at in self._events
        )
        return "\n".join(map(json.dumps, said))


def test_a_process_ends_from_its_first_signal_on() -> None:
    """Docker kills what does not end; of one that ended by itself it is said, as nobody knows what waited for it."""
    told = (("a", "kill", 10.0), ("b", "kill", 11.0), ("a", "kill", 12.0), ("a", "die", 12.5), ("b", "die", 13.0))
    assert Stack(_Docker(*told), {}, (), "shop").endings("order", 0.0) == [(10.0, 12.5), (11.0, 13.0)]
    with pytest.raises(CommandFailed, match="a process of order has ended, and nothing says that Docker told it to"):
        Stack(_Docker(("a", "die", 12.5)), {}, (), "shop").endings("order", 0.0)


def test_an_id_that_has_its_time_says_when_a_message_was_made() -> None:
    """What a service says of itself has such an id; an answer's id is derived."""
    assert waits.made_at("01a21755-6c2c-7305-94c0-56cf8bccb320") == 1795687803.948
    assert waits.made_at("9db6ecdb-ff59-5614-90e1-3ca1e1ac12c8") is None
