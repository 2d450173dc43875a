"""What is sealed, in a definition: nobody can read it there, so nothing may depend on it that is known beforehand.

A saga passes such values on. Keys, conditions, delays and search attributes made of them are refused, as far as trying
the functions on an event whose sealed fields are sealed can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel

from contracts.annotations import annotation_of, is_model, kinds
from contracts.marks import Carried
from contracts.message import Event, Message
from contracts.places import Place, cannot_hold, sealed_for
from contracts.withheld import Sealed, Unopened, Withheld
from orchestrator.saga.steps import Cancel, Delay, InvalidSaga, Start, Step, Wait


def seals(events: Iterable[type[Event]]) -> bool:
    """Whether a saga that hears these may be told something that is sealed."""
    return any(sealed_for(event) for event in events)


def check_sealed(
    where: str,
    *,
    data: type[BaseModel],
    starts_on: Start[Any],
    stages: Iterable[Step[Any] | Wait[Any] | Delay[Any]],
    cancel_on: Cancel[Any] | None,
    heard: Iterable[type[Event]],
    sent: Iterable[type[Message]],
    search: Iterable[str],
) -> None:
    """What can be found out beforehand of a saga that is told something sealed; raises InvalidSaga."""
    heard = tuple(heard)
    if (why := cannot_hold(data)) is not None:
        raise InvalidSaga(f"{where}: {why}")
    subjects = {event.subject_field for event in heard}
    _check_key(f"{where}, starts_on", starts_on.event, starts_on.key)
    if cancel_on is not None:
        _check_key(f"{where}, cancel_on", cancel_on.event, cancel_on.key)
    for stage in stages:
        place = f"{where}, step {stage.name!r}"
        if isinstance(stage, Wait):
            _check_key(place, stage.event, stage.key)
        if stage.when is not None:
            _check_condition(f"{place}: when", data, stage.when, subjects)
        if isinstance(stage, Delay) and callable(stage.duration):
            _check_condition(f"{place}: duration", data, stage.duration, subjects)
    for name in search:
        if name.rpartition(".")[2] not in subjects and _is_marked(data, name.split(".")):
            raise InvalidSaga(
                f"{where}: search names {name!r}, which is marked as sensitive and may be sealed, and what is sealed "
                "cannot be searched for; search for the subject, or drop the mark"
            )
    for message in sent:
        _check_sent(where, message, heard)


def _check_key(where: str, event: type[Event], key: Callable[[Any], object]) -> None:
    sealed = {place.path for place in sealed_for(event)}
    if sealed and _depends(key, _Seen(event, lambda path: Sealed(event.wire_type, path, "?", "?", "?"), sealed)):
        raise InvalidSaga(
            f"{where}: its key is made of what {event.wire_type} seals ({', '.join(sorted(sealed))}), and nobody can "
            "read that here; take another field"
        )


def _check_condition(
    where: str, data: type[BaseModel], function: Callable[[Any], object], subjects: set[str | None]
) -> None:
    marked = {name for name in data.model_fields if name not in subjects and _is_marked(data, [name])}
    if marked and _depends(function, _Seen(data, lambda path: Sealed("saga.data", path, "?", "?", "?"), marked)):
        raise InvalidSaga(
            f"{where} depends on what may be sealed ({', '.join(sorted(marked))} of {data.__name__}), and nobody can "
            "read that here, only see whether it is None; let a participant decide, or drop the mark"
        )


def _check_sent(where: str, message: type[Message], heard: tuple[type[Event], ...]) -> None:
    known = [Carried(event.wire_type, place.path) for event in heard for place in sealed_for(event)]
    for place in sealed_for(message):
        field = message.model_fields.get(place.path.partition(".")[0])
        needed = field is None or field.is_required()
        if needed and not any(each in known for each in place.carried):
            raise InvalidSaga(
                f"{where}: {message.wire_type} {place.path} is sealed, and nothing that this saga hears is carried "
                f"there; say in {message.__name__} from where: Annotated[Sensitive[...], {_likely(place, known)}]"
            )


def _likely(place: Place, known: list[Carried]) -> str:
    name = place.path.rpartition(".")[2]
    found = next((each for each in known if each.field.rpartition(".")[2] == name), known[0])
    return f'Carried("{found.type}", "{found.field}")'


def _is_marked(model: type[BaseModel], path: list[str]) -> bool:
    found: list[Any] = [model]
    for part in path:
        fields = [each.model_fields[part] for each in found if is_model(each) and part in each.model_fields]
        inside = [kind for field in fields for kind in kinds(annotation_of(field))]
        if any(kind.marked for kind in inside):
            return True
        found = [kind.bare for kind in inside]
    return False


def _depends(function: Callable[[Any], object], seen: _Seen) -> bool:
    """Whether a function uses what is sealed; False where it does with the rest what cannot be tried."""
    try:
        return isinstance(function(seen), Withheld)
    except Unopened:
        return True
    except Exception:  # noqa: BLE001 - a definition's own function, given what it was not written for
        return False


class _Seen:
    """A model as a saga's function sees it: sealed where it is, and of the rest nothing that could be decided on."""

    def __init__(
        self, model: type[BaseModel], sealed: Callable[[str], Sealed], paths: set[str], prefix: str = ""
    ) -> None:
        self.__dict__ |= {"_of": (model, sealed, paths, prefix)}

    def __getattr__(self, name: str) -> Any:
        model, sealed, paths, prefix = self.__dict__["_of"]
        if name.startswith("__") or name not in model.model_fields:
            raise AttributeError(name)
        path = f"{prefix}{name}"
        if path in paths:
            return sealed(path)
        models = [kind.bare for kind in kinds(annotation_of(model.model_fields[name])) if is_model(kind.bare)]
        return _Seen(models[0], sealed, paths, f"{path}.") if models else _Something()


class _Something:
    """A value of which nothing is known: it can be shown and passed on, and decided on by nobody."""

    def __str__(self) -> str:
        return "something"

    def __bool__(self) -> bool:
        raise LookupError("nothing is known of it")

    def __eq__(self, other: object) -> bool:
        raise LookupError("nothing is known of it")

    __hash__ = None  # type: ignore[assignment]
