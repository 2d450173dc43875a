"""What a saga's functions return is what the database gives back, or the instance is stuck with the reason."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from contracts.money import Money
from orchestrator import PIVOT, InvalidSaga, Parallel, Saga, Start, Step, history
from orchestrator.saga.fingerprint import fingerprint
from orchestrator.saga.inputs import EventArrived
from orchestrator.saga.machine import decide, fold
from orchestrator.saga.state import SagaState, saga_id
from orchestrator.saga.stored import Unstorable, as_stored, may_change
from tests.unit.work import Begun, Do, Done

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ME = saga_id("work", 7)


class Work(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: int
    ref: str = ""
    price: float = 0.0
    extra: Any = None


class More(Work):
    more: int = 0


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (Work(id=7).model_copy(update={"ref": None}), "ref: Input should be a valid string, found None"),
        (Work(id=7, price=float("nan")), "price: Input should be a valid number, found None"),
        (Work(id=7).model_copy(update={"id": "seven"}), "id: Input should be a valid integer.*found 'seven'"),
        (More(id=7), "a More would be read as the Work that it is stored as"),
    ],
)
def test_data_that_could_not_be_read_again_is_refused_by_field(data: Work, told: str) -> None:
    """model_copy checks nothing, and a row that nobody can read would hold its instance for ever."""
    with pytest.raises(Unstorable, match=told):
        as_stored(Work, data)


def test_data_is_taken_as_it_will_be_read() -> None:
    """So no process ever sees another value than the next one; and nothing of the function's own objects stays."""
    names = ("a", 1)
    data = Work(id=7, extra=names).model_copy(update={"ref": UUID(int=5)})
    found, text = as_stored(Work, data)
    assert found == Work(id=7, ref="00000000-0000-0000-0000-000000000005", extra=["a", 1])
    assert text == '{"id":7,"ref":"00000000-0000-0000-0000-000000000005","price":0.0,"extra":["a",1]}'


def _saga(data: type[Any], begin: Callable[[Begun], Any], take: Callable[[Any, Done], Any]) -> Saga[Any]:
    def first(work: Any) -> Do:
        return Do(step="dig", seen=tuple(str(each) for each in getattr(work, "log", ())))

    return Saga(
        name="work",
        version=1,
        data=data,
        starts_on=Start(Begun, begin, key=lambda event: event.id),
        steps=(Parallel(Step("dig", first, on_success=take), Step("fill", first)), Step("sign", first, kind=PIVOT)),
    )


def _begun(saga: Saga[Any]) -> tuple[SagaState, UUID]:
    transition = decide(saga, ME, None, EventArrived(NOW, UUID(int=1), Begun(id=7), "desk"))
    return fold(None, transition.facts), transition.sends[0].id


class Listed(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: int
    log: list[str] = Field(default_factory=list)


class Open(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


def test_data_changed_in_place_is_found_out_and_has_not_happened() -> None:
    """Frozen is only the outermost model; the history would not notice what became of the list in it."""

    def add(work: Listed, event: Done) -> Listed:
        work.log.append("dug")
        return work

    saga = _saga(Listed, lambda event: Listed(id=event.id), add)
    state, command = _begun(saga)
    with pytest.raises(TypeError, match=r"add changed the saga's data in place.*model_copy"):
        decide(saga, ME, state, EventArrived(NOW, UUID(int=2), Done(), "digger", command))
    assert state.data == Listed(id=7, log=[])


def test_a_list_may_be_replaced() -> None:
    """Only changing it in place is refused."""
    saga = _saga(
        Listed,
        lambda event: Listed(id=event.id),
        lambda work, event: work.model_copy(update={"log": [*work.log, "dug"]}),
    )
    state, command = _begun(saga)
    transition = decide(saga, ME, state, EventArrived(NOW, UUID(int=2), Done(), "digger", command))
    assert fold(state, transition.facts).data == Listed(id=7, log=["dug"])


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    id: int
    who: UUID = UUID(int=5)
    log: tuple[str, ...] = ()


def test_strict_data_is_read_wherever_it_is_stored() -> None:
    """In the row, in its facts, and as what the command under way was made from."""
    saga = _saga(
        Strict, lambda event: Strict(id=event.id), lambda work, event: work.model_copy(update={"log": ("dug",)})
    )
    before, command = _begun(saga)
    transition = decide(saga, ME, before, EventArrived(NOW, UUID(int=2), Done(), "digger", command))
    state = fold(before, transition.facts)
    assert state.steps["fill"].made_from == Strict(id=7)
    assert history.load_facts(history.dump_facts(transition.facts), saga) == transition.facts
    found = history.load_state(
        saga,
        status=state.status.value,
        reason=state.reason,
        data=history.dump_data(state.data),
        progress=history.dump_progress(state),
    )
    assert found == state


class Excluded(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: int
    tag: str = Field(default="none", exclude=True)


class Private(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: int
    _tag: str = PrivateAttr(default="none")


@pytest.mark.parametrize(("data", "name"), [(Excluded, "tag"), (Private, "_tag")])
def test_data_that_is_never_stored_is_refused_at_import(data: type[Any], name: str) -> None:
    """It would be there until the end of a batch, and a replay would know it where the engine does not."""
    with pytest.raises(InvalidSaga, match=f"{data.__name__} has {name}, which is never stored"):
        _saga(data, lambda event: data(id=event.id), lambda work, event: work)


class Loose(BaseModel):
    at: datetime = NOW


class Color(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("kind", "may"),
    [
        (int, False),
        (Color, False),
        (Optional[UUID], False),  # noqa: UP045 - as people write it
        (tuple[str, ...], False),
        (Annotated[timedelta, "long"], False),
        (Literal["a"], False),
        (Money, False),
        (frozenset[Money], False),
        (list[str], True),
        (tuple[list[str], ...], True),
        (dict[str, int] | None, True),
        (Loose, True),
        (Listed, True),
        (Open, True),
        (Any, True),
    ],
)
def test_what_can_be_changed_in_place_is_known_by_its_type(kind: Any, may: bool) -> None:
    """Functions are given copies of such data, and of no other: it takes time."""
    assert may_change(kind) is may


def test_a_definition_whose_data_is_read_more_strictly_is_another_one() -> None:
    """An instance in flight may hold what the stricter one refuses."""

    class Lax(Strict):
        model_config = ConfigDict(frozen=True, strict=False)

    lax, strict = Lax, Strict
    lax.__name__ = lax.__qualname__ = "Strict"
    one, other = (_saga(each, lambda event: None, lambda work, event: work) for each in (lax, strict))
    assert fingerprint(one) != fingerprint(other)
