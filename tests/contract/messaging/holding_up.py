"""Whether a migration keeps a table that may be large from those who work with it, for longer than a look."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

_NAME = r"(?:ONLY )?(?:IF (?:NOT )?EXISTS )?(?:public\.)?\"?(\w+)\"?"
_ALTER = re.compile(rf"ALTER TABLE {_NAME} (.*)", re.IGNORECASE | re.DOTALL)
_INDEX = re.compile(
    rf"CREATE (?:UNIQUE )?INDEX (CONCURRENTLY )?(?:IF NOT EXISTS )?\S+ ON {_NAME}", re.IGNORECASE | re.DOTALL
)
_ROWS = re.compile(rf"(?:UPDATE|DELETE FROM|INSERT INTO|TRUNCATE(?: TABLE)?) {_NAME}", re.IGNORECASE)
_WHOLE = re.compile(rf"(?:LOCK TABLE|VACUUM FULL|CLUSTER|REINDEX TABLE) {_NAME}", re.IGNORECASE)

_ACTIONS = (
    (r"ADD (?:COLUMN )?.*\b(?:STORED|SERIAL|BIGSERIAL|IDENTITY)\b", "is written anew, for a value in every row"),
    # A constant costs nothing; what has to be worked out is, for every row.
    (r"ADD (?:COLUMN )?.*\bDEFAULT\b(?!\s+(?:'[^']*'|-?\d+|true|false|null|now\(\)|CURRENT_TIMESTAMP)(?:\W|$))",
     "may be written anew, for a default that is no constant"),
    (r"ADD (?:COLUMN )?(?!CONSTRAINT).*\b(?:REFERENCES|CHECK|UNIQUE|PRIMARY KEY)\b(?!.*\bNOT VALID\b)",
     "is read through for a new rule: add the rule NOT VALID, and validate it later"),
    (r"ADD CONSTRAINT(?!.*\b(?:NOT VALID|USING INDEX)\b)",
     "is read through for a new rule: add the rule NOT VALID, and validate it later"),
    (r"ALTER (?:COLUMN )?.*\b(?:SET DATA )?TYPE\b", "is written anew, for another type"),
    (r"ALTER (?:COLUMN )?.*\bSET NOT NULL\b", "is read through, for nulls"),
    (r"SET (?:TABLESPACE|LOGGED|UNLOGGED|ACCESS METHOD)\b", "is written anew"),
)  # fmt: skip
_PATTERNS = tuple((re.compile(action, re.IGNORECASE | re.DOTALL), why) for action, why in _ACTIONS)


def holds_up(statements: Sequence[str], there: Collection[str]) -> list[str]:
    """What these statements do to the tables that were `there` before that takes as long as the table is large.

    In words, a table and what becomes of it each; empty where all of it takes no longer than a look.
    """
    return [f"{table} {why}" for each in statements for table, why in _of(" ".join(each.split())) if table in there]


def _of(statement: str) -> Iterator[tuple[str, str]]:
    if (found := _ALTER.match(statement)) is not None:
        for action in _apart(found[2]):
            why = next((words for pattern, words in _PATTERNS if pattern.match(action)), None)
            if why is not None:
                yield found[1], why
    elif (found := _INDEX.match(statement)) is not None and not found[1]:
        yield found[2], "takes no writes while it is indexed"
    elif (found := _ROWS.match(statement)) is not None:
        yield found[1], "has its rows changed in one transaction: that is for a program beside the services"
    elif (found := _WHOLE.match(statement)) is not None:
        yield found[1], "is locked as a whole"


def _apart(actions: str) -> Iterator[str]:
    """The actions of one ALTER TABLE: at commas that stand in no parentheses and no text."""
    depth, quoted, start = 0, False, 0
    for position, sign in enumerate(actions):
        quoted ^= sign == "'"
        if quoted:
            continue
        depth += (sign == "(") - (sign == ")")
        if sign == "," and depth == 0:
            yield actions[start:position].strip()
            start = position + 1
    yield actions[start:].strip()
