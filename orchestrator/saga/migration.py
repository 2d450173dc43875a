"""What a user says of how instances of one version come to another, checked when the definition is made."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

from pydantic import BaseModel

from orchestrator.saga.meaning import meaning_of
from orchestrator.saga.steps import D, InvalidSaga, Kind, Step, Wait

if TYPE_CHECKING:
    from orchestrator.saga.definition import Saga

Old = TypeVar("Old", bound=BaseModel)


@final
class Migration(Generic[Old, D]):
    """How instances of another version of a saga, `old`, come to the one that lists this migration.

    `convert` makes the new data from the old: pure, like every function of a saga. `steps` gives the new name of each
    step that is called otherwise now. `passed` are steps that only the new version has, and that an instance which is
    past their place does without; an instance that has not come so far meets them as any other.
    """

    def __init__(
        self,
        old: Saga[Old],
        convert: Callable[[Old], D],
        *,
        steps: Mapping[str, str] | None = None,
        passed: tuple[str, ...] = (),
    ) -> None:
        self.old = old
        self.convert = convert
        self.steps: Mapping[str, str] = dict(steps or {})
        self.passed = passed

    def now_called(self, name: str) -> str:
        """The new name of a step of the old version."""
        return self.steps.get(name, name)


def other_keys(new: Saga[Any], migration: Migration[Any, Any]) -> frozenset[str]:
    """The waits of the new version whose event finds its instance by another key than it did in the old one."""
    return frozenset(
        migration.now_called(name)
        for name, before in migration.old.stages.items()
        if isinstance(before, Wait)
        and isinstance(after := new.stages.get(migration.now_called(name)), Wait)
        and before.key is not after.key
        and meaning_of(before.key) != meaning_of(after.key)
    )


def check_migrations(new: Saga[Any], migrations: object) -> None:
    """Everything about them that can be found at import; raises InvalidSaga."""
    where = f"saga {new.name!r} v{new.version}"
    if not isinstance(migrations, tuple) or not all(isinstance(each, Migration) for each in migrations):
        raise InvalidSaga(f"{where}: migrations must be a tuple of Migration: migrations=(Migration(...),)")
    seen: set[int] = set()
    for migration in migrations:
        old: Saga[Any] = migration.old
        place = f"{where}, migration from v{old.version}"
        if old.name != new.name:
            raise InvalidSaga(f"{place}: {old!r} is another saga; a migration is between versions of one")
        if old.version == new.version:
            raise InvalidSaga(f"{place}: it leads to the same version; give the new definition another one")
        if old.version in seen:
            raise InvalidSaga(f"{place}: there are two of them; drop one")
        seen.add(old.version)
        _check_names(place, new, migration)
        _check_passed(place, new, migration)
        _check_convert(place, new, migration)


def _check_names(place: str, new: Saga[Any], migration: Migration[Any, Any]) -> None:
    before = migration.old.stages
    if len(set(migration.steps.values())) < len(migration.steps):
        raise InvalidSaga(f"{place}: two steps are to become one; instances that have reached both have no place then")
    for name, now in migration.steps.items():
        if name not in before:
            raise InvalidSaga(f"{place}: v{migration.old.version} has no step {name!r} to rename")
        if now not in new.stages:
            raise InvalidSaga(f"{place}: {name!r} is to become {now!r}, which is no step of v{new.version}")
        if name in new.stages:
            raise InvalidSaga(
                f"{place}: {name!r} is to become {now!r}, but v{new.version} has a step {name!r} too, whose commands "
                "would have the ids of the old one's; give it a name that no version has had"
            )
        if now in before:
            raise InvalidSaga(f"{place}: {name!r} is to become {now!r}, which was another step before")


def _check_passed(place: str, new: Saga[Any], migration: Migration[Any, Any]) -> None:
    kept = {migration.now_called(name) for name in migration.old.stages}
    for name in migration.passed:
        stage = new.stages.get(name)
        if stage is None:
            raise InvalidSaga(f"{place}: passed names {name!r}, which is no step of v{new.version}")
        if name in kept:
            raise InvalidSaga(f"{place}: passed names {name!r}, which v{migration.old.version} has too; drop it there")
        if isinstance(stage, Step) and stage.kind is Kind.PIVOT:
            raise InvalidSaga(f"{place}: passed names the pivot {name!r}, which no instance can do without")


def _check_convert(place: str, new: Saga[Any], migration: Migration[Any, Any]) -> None:
    convert = migration.convert
    name = getattr(convert, "__name__", repr(convert))
    try:
        hints = typing.get_type_hints(convert)
    except NameError as error:
        raise InvalidSaga(f"{place}: the annotations of {name} cannot be read: {error}") from error
    except TypeError as error:
        raise InvalidSaga(f"{place}: {name} is no plain function; write `def` with its annotations") from error
    result = hints.pop("return", None)
    taken = next(iter(hints.values()), None)
    before, after = migration.old.data, new.data
    fits = isinstance(taken, type) and issubclass(before, taken)
    if not (fits and isinstance(result, type) and issubclass(result, after)):
        raise InvalidSaga(f"{place}: write `def {name}(data: {before.__name__}) -> {after.__name__}`")
