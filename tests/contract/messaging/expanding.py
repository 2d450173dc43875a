"""Whether a migration only adds: what the code before it reads and writes is as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, inspect


@dataclass(frozen=True, slots=True)
class Column:
    """What code that knows nothing of a migration minds of a column."""

    kind: str
    required: bool
    """Whether an INSERT that does not name it fails."""
    nullable: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table's columns, and what its rows have to fulfill."""

    columns: Mapping[str, Column]
    rules: frozenset[str]


def snapshot(connection: Connection) -> dict[str, Table]:
    """All tables as they are now."""
    found = inspect(connection)
    return {
        name: Table(
            {
                each["name"]: Column(
                    str(each["type"]),
                    not each["nullable"]
                    and each["default"] is None
                    and not each.get("computed")
                    and not each.get("identity")
                    and each.get("autoincrement") is not True,
                    bool(each["nullable"]),
                )
                for each in found.get_columns(name)
            },
            frozenset(
                [
                    f"primary key {found.get_pk_constraint(name)['constrained_columns']}",
                    *(f"unique {each['column_names']}" for each in found.get_unique_constraints(name)),
                    *(f"unique {each['column_names']}" for each in found.get_indexes(name) if each["unique"]),
                    *(f"check {each['sqltext']}" for each in found.get_check_constraints(name)),
                    *(f"foreign key {each['constrained_columns']}" for each in found.get_foreign_keys(name)),
                ]
            ),
        )
        for name in found.get_table_names()
    }


def broken(before: Mapping[str, Table], after: Mapping[str, Table]) -> list[str]:
    """What the code from before could trip over, in words; empty where everything was only added to."""
    found = [f"{name} is gone" for name in sorted(before.keys() - after.keys())]
    for name in sorted(before.keys() & after.keys()):
        old, new = before[name], after[name]
        found += [f"{name}.{each} is gone" for each in sorted(old.columns.keys() - new.columns.keys())]
        found += [
            f"{name}.{each} is new and has to be given: give it a default, or let it be null"
            for each in sorted(new.columns.keys() - old.columns.keys())
            if new.columns[each].required
        ]
        for each in sorted(old.columns.keys() & new.columns.keys()):
            was, now = old.columns[each], new.columns[each]
            if was.kind != now.kind:
                found.append(f"{name}.{each} was {was.kind} and is {now.kind}")
            if was.nullable and not now.nullable:
                found.append(f"{name}.{each} could be null and must not be any more")
            if now.required and not was.required and not was.nullable:
                found.append(f"{name}.{each} has lost its default")
        found += [f"{name} has a new rule: {each}" for each in sorted(new.rules - old.rules)]
    return found
