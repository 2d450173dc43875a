"""Where nobody is asked: what may as well be the key of another saga is not taken for the beginning of an id."""

from __future__ import annotations

from uuid import UUID

from orchestrator.cli.opening import fail

ENOUGH = 8
"""Digits with which anything is taken for the beginning of an id where nobody is asked: as many as listings show."""


def heed_key(wanted: str, id: UUID, key: str) -> None:
    """End the command with 2 where `wanted`, which has led to this instance, may have been meant for a key.

    A short number may, and `A-1`: that it is the key of none says only that its saga may have been pruned.
    """
    if key == wanted or len(wanted.replace("-", "")) >= ENOUGH:
        return
    if wanted.isdecimal() or not str(id).startswith(wanted):
        fail(
            f"no saga has the key {wanted!r}; {id} of key {key!r} begins with its digits: if that is meant, give "
            f"{ENOUGH} digits of its id, or leave --yes out",
            2,
        )
