"""Keys of the persons that messages are about: who has them reads what is sealed; who erases one erases a person.

A subject is whatever a contract's `subject=` field says (a customer's id, say); a key's own id is random, and says
nothing of the subject.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Protocol

KEY_BYTES = 32
"""Of a subject's key: AES-256."""
LONGEST_SUBJECT = 200
"""Characters: an index has to hold it."""
_ID_BYTES = 16
_IMPOSSIBLE = re.compile("[\0\ud800-\udfff]")
"""What PostgreSQL does not store: NUL, and half of a surrogate pair."""


def can_name(subject: str) -> bool:
    """Whether a text can name a person: 1 to LONGEST_SUBJECT characters that can be stored."""
    return 0 < len(subject) <= LONGEST_SUBJECT and _IMPOSSIBLE.search(subject) is None


def new_key_id(random: Callable[[int], bytes] = token_bytes) -> str:
    """22 characters of base64url with 127 random bits. The first is a letter: "-" would begin a command's option."""
    first, *others = random(_ID_BYTES)
    return urlsafe_b64encode(bytes((first & 0x7F, *others))).rstrip(b"=").decode("ascii")


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """One subject's key. `id` is what a token names."""

    id: str
    key: bytes = field(repr=False)


class KeysUnavailable(Exception):
    """The store of keys does not answer now: whoever needs them waits and tries again. Says which, and why."""


class NoKeyYet(ValueError):
    """Somebody has no key, and whoever asks may not make one; says what to do."""


class Keys(Protocol):
    """Where keys come from. An implementation looks once for a whole call, and remembers for some seconds.

    Both raise KeysUnavailable where the store does not answer.
    """

    async def ensure(self, subjects: Collection[str]) -> Mapping[str, SubjectKey | None]:
        """The key of each of these subjects, made where there is none; None for one that is erased, and stays so."""
        ...

    async def opened(self, ids: Collection[str]) -> Mapping[str, SubjectKey | None]:
        """The keys of these ids; None for one that is erased. An id that was never made is absent."""
        ...
