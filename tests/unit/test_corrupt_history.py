"""What was written is read; whatever lies in its place, the reader says so in its own words, and nobody crashes."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.registry import InvalidMessage, UnknownMessage
from orchestrator import history
from orchestrator.catalog import Catalog
from orchestrator.diagnosis.awaiting import awaited
from orchestrator.history import CorruptHistory, SentMessage, dump_facts, dump_input, dump_progress, dump_sends
from orchestrator.saga import facts as f
from orchestrator.saga.inputs import Action, DeadlinePassed, EventArrived, Input, PersonActed, ReadFailed
from orchestrator.saga.machine import decide, fold
from orchestrator.saga.state import Direction, Send
from tests.unit.begun import RecordedPlay
from tests.unit.play import NOON
from tests.unit.work import Begun, Do, Work, step, work_saga

SAGA = work_saga(step("stock"))
REGISTRY = Catalog([SAGA]).registry

FACTS = (
    f.Started(Work(id=7)),
    f.CommandSent("stock", Direction.ACTION, 1, 1, NOON),
    f.DataChanged(Work(id=7, log=("a",))),
    f.WaitBegun("wait", NOON),
    f.DeadlineMoved("wait", None),
    f.BecameStuck("why", ("stock",)),
    f.Migrated(1, 2, Work(id=7), {"stock": "store"}, {"store": Work(id=7)}),
)
STATE = fold(None, FACTS)
PROGRESS = dump_progress(STATE)
GIVEN: tuple[Input, ...] = (
    EventArrived(NOON, UUID(int=1), Begun(id=7), "shop", UUID(int=2)),
    DeadlinePassed(NOON),
    ReadFailed(NOON, "why"),
    PersonActed(NOON, Action.SKIP, "bea", "why", "stock", Begun(id=7)),
    PersonActed(NOON, Action.RESCHEDULE, "bea", "why", "stock", due=NOON),
    PersonActed(NOON, Action.MIGRATE, "bea", "why", from_version=1, to_version=2),
)
INPUTS = tuple(map(dump_input, GIVEN))
SENDS = dump_sends([Send(UUID(int=3), Do(step="stock", seen=()), "stock")])
WHOLE = RecordedPlay(SAGA, 7).recorded

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    return [path, *(place for key, each in inside for place in _places(each, (*path, key)))]


def _with(value: Any, path: tuple[Any, ...], instead: object) -> Any:
    if not path:
        return instead
    copied = value.copy()
    copied[path[0]] = _with(value[path[0]], path[1:], instead)
    return copied


@st.composite
def _damaged(draw: st.DrawFn, *texts: str) -> str:
    """Text that was written by us with one place of it gone astray, cut off, or something else altogether."""
    text = draw(st.sampled_from(texts))
    match draw(st.sampled_from(("place", "cut", "whole", "text"))):
        case "place":
            value = json.loads(text)
            return json.dumps(_with(value, draw(st.sampled_from(_places(value))), draw(ANYTHING)))
        case "cut":
            return text[: draw(st.integers(0, len(text)))]
        case "whole":
            return json.dumps(draw(ANYTHING))
        case _:
            return draw(st.text())


Place = tuple[Any, ...]
OTHERS: tuple[Any, ...] = (None, True, 7, 1.5, "x", ["x"], {"x": 1})
"""One of each type there is in JSON."""


@dataclass(frozen=True)
class Reading:
    """A text as it was written, how it is read, and what comes out.

    `plain` are the places of which the reader says nothing: it keeps what lies there as it is, or does not look at it.
    `optional` are those that may be null. `number` are those where a saga's or message's own model takes true for 1.
    """

    text: str
    read: Callable[[str], object]
    expected: object
    plain: tuple[Place, ...] = ()
    optional: tuple[Place, ...] = ()
    number: tuple[Place, ...] = ()

    def takes(self, place: Place, before: object, after: object) -> bool:
        """Whether this value may lie there, too."""
        if any(place[: len(each)] == each for each in self.plain) or _type(before) == _type(after):
            return True
        if before is None or after is None:
            return place in self.optional and (after is None or isinstance(after, str))
        return after is True and place in self.number


def _type(value: object) -> type:
    return float if type(value) is int else type(value)


def _progress(text: str) -> object:
    return history.load_state(SAGA, status="stuck", reason="why", data='{"id":7}', progress=text)


def _data(text: str) -> object:
    return history.load_state(SAGA, status="running", reason="", data=text, progress=PROGRESS).data


def _input(text: str) -> object:
    return history.load_input(text, REGISTRY)


_EVENT = (("version",), ("data", "id"))
_ROW_OF_WHOLE = ("steps", "stock")
READINGS = {
    "progress": Reading(
        PROGRESS,
        _progress,
        replace(STATE, data=Work(id=7)),
        optional=(("before",), ("steps", "store", 5), ("steps", "store", 7), ("steps", "wait", 7)),
        number=(("steps", "store", 5, "id"),),
    ),
    "data": Reading('{"id":7,"log":["a"]}', _data, Work(id=7, log=("a",)), optional=((),), number=(("id",),)),
    "event": Reading(INPUTS[0], _input, GIVEN[0], optional=(("causation_id",),), number=_EVENT),
    "deadline": Reading(INPUTS[1], _input, GIVEN[1]),
    "read failed": Reading(INPUTS[2], _input, GIVEN[2]),
    "skip": Reading(INPUTS[3], _input, GIVEN[3], optional=(("step",),), number=_EVENT),
    "reschedule": Reading(INPUTS[4], _input, GIVEN[4], optional=(("step",), ("due",))),
    "migrate": Reading(INPUTS[5], _input, GIVEN[5], optional=(("step",), ("from_version",), ("to_version",))),
    "facts": Reading(
        dump_facts(FACTS),
        lambda text: history.load_facts(text, SAGA),
        FACTS,
        optional=((0, "data"), (1, "due"), (2, "data"), (3, "due"), (4, "due"), (6, "data"), (6, "made_from", "store")),
        number=((0, "data", "id"), (2, "data", "id"), (6, "data", "id"), (6, "made_from", "store", "id")),
    ),
    "facts without a definition": Reading(
        dump_facts(FACTS[:2]),
        lambda text: history.load_facts(text, None),
        (f.Started({"id": 7, "log": []}), FACTS[1]),
        plain=((0, "data"),),
        optional=((1, "due"),),
    ),
    "commands": Reading(
        SENDS,
        history.load_sends,
        (SentMessage(UUID(int=3), "work.do", 1, "stock", {"step": "stock", "seen": []}),),
        plain=((0, "kind"), (0, "compensates"), (0, "data", "step"), (0, "data", "seen")),
        optional=((0, "step"),),
    ),
    "what why reads of a row": Reading(
        WHOLE.progress,
        lambda text: [(each.step, each.attempt) for each in awaited(replace(WHOLE, progress=text), SAGA, {})],
        [("stock", 1)],
        plain=(("before",), ("reason_before",), *((*_ROW_OF_WHOLE, place) for place in (0, 4, 5))),
        optional=((*_ROW_OF_WHOLE, 3),),
        number=((*_ROW_OF_WHOLE, 1), (*_ROW_OF_WHOLE, 2)),
    ),
}


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
def test_what_was_written_is_read(reading: Reading) -> None:
    """As it was."""
    assert reading.read(reading.text) == reading.expected


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
def test_what_is_cut_off_is_refused(reading: Reading) -> None:
    """Wherever: a part of a text is never taken for the whole."""
    for length in range(len(reading.text)):
        with pytest.raises(CorruptHistory):
            reading.read(reading.text[:length])


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
def test_another_type_in_any_place_is_refused(reading: Reading) -> None:
    """A number for a text, a list for a number, ...: but for places that may hold it, it is never read."""
    value = json.loads(reading.text)
    for place in _places(value):
        before = reduce(lambda inside, key: inside[key], place, value)
        for after in OTHERS:
            if not reading.takes(place, before, after):
                with pytest.raises((CorruptHistory, UnknownMessage, InvalidMessage)):
                    pytest.fail(
                        f"{place}: {before!r} became {after!r}, and was read as "
                        f"{reading.read(json.dumps(_with(value, place, after)))!r}"
                    )


@settings(max_examples=100, deadline=None)
@given(_damaged(PROGRESS), st.sampled_from(("running", "stuck", "dreaming")))
def test_a_state_is_read_or_told_to_be_corrupt(progress: str, status: str) -> None:
    """A state that was read can be decided on, too: its numbers are numbers, its moments moments."""
    with suppress(CorruptHistory):
        state = history.load_state(SAGA, status=status, reason="", data='{"id":7}', progress=progress)
        dump_progress(state)
        _ = state.deadline, state.current, state.waits_for
        decide(SAGA, UUID(int=1), state, DeadlinePassed(NOON))


@settings(max_examples=100, deadline=None)
@given(_damaged('{"id":7,"log":[]}'))
def test_the_data_is_read_or_told_to_be_corrupt(data: str) -> None:
    """Of the saga's own data nothing else comes out."""
    with suppress(CorruptHistory):
        history.load_state(SAGA, status="running", reason="", data=data, progress=PROGRESS)


@settings(max_examples=200, deadline=None)
@given(_damaged(*INPUTS))
def test_an_input_is_read_or_told_what_it_is_not(text: str) -> None:
    """One that was read can be written down again, and says a moment that can be compared with any other."""
    with suppress(CorruptHistory, UnknownMessage, InvalidMessage):
        found = history.load_input(text, REGISTRY)
        assert (found.at > NOON) in (True, False)
        assert history.load_input(dump_input(found), REGISTRY) == found


@settings(max_examples=200, deadline=None)
@given(_damaged(dump_facts(FACTS)), st.sampled_from((SAGA, None)))
def test_facts_are_read_or_told_to_be_corrupt(text: str, saga: Any) -> None:
    """With the saga's definition, and without."""
    with suppress(CorruptHistory):
        history.load_facts(text, saga)


@settings(max_examples=100, deadline=None)
@given(_damaged(SENDS))
def test_what_was_sent_is_read_or_told_to_be_corrupt(text: str) -> None:
    """Nothing else comes out."""
    with suppress(CorruptHistory):
        history.load_sends(text)


@pytest.mark.parametrize(
    "read",
    [
        lambda: history.load_state(
            SAGA, status="running", reason="", data="null", progress='{"before":null,"reason_before":"","steps":[]}'
        ),
        lambda: history.load_state(
            SAGA,
            status="running",
            reason="",
            data="null",
            progress='{"before":null,"reason_before":"","steps":{"stock":["running","one",1,null,0,null]}}',
        ),
        lambda: history.load_input('{"kind":"deadline","at":"2026-03-01T12:00:00"}', REGISTRY),
        lambda: history.load_facts('["started"]', SAGA),
        lambda: history.load_facts('[{"fact":"migrated","made_from":[]}]', SAGA),
        lambda: history.load_sends('[{"id":7,"type":"work.do","version":1,"step":null,"data":{}}]'),
    ],
    ids=["steps a list", "a round in words", "no time zone", "a fact a text", "made from a list", "an id a number"],
)
def test_misshapen_json_is_corrupt_history(read: Callable[[], object]) -> None:
    """JSON, but not of the shape that was written."""
    with pytest.raises(CorruptHistory, match="cannot be read"):
        read()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_an_instance_waits_for_is_found_or_its_rows_are_told_to_be_corrupt(data: st.DataObject) -> None:
    """For `amends why`, which also reads what no definition here explains."""
    line = WHOLE.transitions[0]
    part = data.draw(st.sampled_from(("progress", "facts", "commands")))
    if part == "progress":
        torn = replace(WHOLE, progress=data.draw(_damaged(WHOLE.progress)))
    else:
        text = data.draw(_damaged(getattr(line, part)))
        changed = replace(line, facts=text) if part == "facts" else replace(line, commands=text)
        torn = replace(WHOLE, transitions=(changed,))
    with suppress(CorruptHistory):
        awaited(torn, SAGA, {})
