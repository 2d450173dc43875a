"""Whether two keys were meant to be one, and how they differ."""

from __future__ import annotations

from orchestrator.diagnosis.findings import Almost

_LONGEST = 200
_PREFIX = 4
"""Characters that a common beginning needs to be no accident; and a key, to be one mistyped character away."""


def almost(wanted: str, found: str) -> Almost | None:
    """How `found` differs from `wanted`; None where it is simply another key."""
    if wanted == found:
        return Almost.SAME
    if wanted.casefold() == found.casefold():
        return Almost.CASE
    if _without_space(wanted) == _without_space(found):
        return Almost.WHITESPACE
    if _without_dashes(wanted) == _without_dashes(found):
        return Almost.DASHES
    one, other = _bare(wanted), _bare(found)
    if one == other:
        return Almost.WRITING
    shorter, longer = sorted((one, other), key=len)
    if len(shorter) >= _PREFIX and longer.startswith(shorter):
        return Almost.PREFIX
    return _mistyped(shorter, longer)


def _mistyped(shorter: str, longer: str) -> Almost | None:
    # Of short keys almost every pair is only a character or two apart.
    if len(shorter) < _PREFIX or len(longer) - len(shorter) > 2 or len(longer) > _LONGEST:
        return None
    match _distance(shorter, longer):
        case 1:
            return Almost.ONE_CHARACTER
        case 2 if len(shorter) >= 2 * _PREFIX:
            return Almost.TWO_CHARACTERS
        case _:
            return None


def _distance(one: str, other: str) -> int:
    """Characters to insert, delete or replace."""
    row = list(range(len(other) + 1))
    for at, mine in enumerate(one, 1):
        before, row[0] = row[0], at
        for column, theirs in enumerate(other, 1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (mine != theirs))
    return row[-1]


def _bare(key: str) -> str:
    return _without_dashes(_without_space(key)).casefold()


def _without_space(key: str) -> str:
    return "".join(key.split())


def _without_dashes(key: str) -> str:
    return key.replace("-", "").replace("_", "")
