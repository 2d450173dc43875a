"""Tokens that stand for sensitive values: the same for the same value, of its form, and nothing to look up.

A token is made with a secret that nobody keeps: whoever guesses a value cannot compute its token.

    an e-mail address     redacted-3f2a9c4e1b7d8605@example.com
    a UUID                another UUID of the same version
    a number              a number of as many digits, with the same sign and as many decimals
    a date, a moment      another day, another time of day
    any other text        redacted-3f2a9c4e1b7d8605; where that is not valid, other letters for letters and other
                          digits for digits
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, timedelta
from itertools import count, islice
from typing import Any
from uuid import UUID

UUID_FORM = re.compile(r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}")
NUMBER_FORM = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_MOMENT = re.compile(r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2})(?:([T ])[0-9]{2}:[0-9]{2}(:[0-9]{2})?(.*))?")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_OF_SOMEBODY = ("key", "nonce", "data")
"""What of something sealed says whose it is, or holds it."""
_FIRST_DAY = date(1950, 1, 1)
_DAYS = 36_000
TRIES = 200
"""Tokens of one form that are tried for a value, until one is free and valid."""


class NoToken(ValueError):
    """Nothing that could stand for a value is valid where it lies."""


class Tokens:
    """Makes tokens that differ from each other and from every value in `hidden`."""

    def __init__(self, secret: bytes, hidden: Iterable[str]) -> None:
        self._secret = secret
        self._taken = set(hidden)

    def token(self, value: str, accepts: Callable[[str], bool]) -> str:
        """A token nobody has yet; raises NoToken where `accepts` takes none."""
        for candidate in self._candidates(value):
            if candidate not in self._taken and accepts(candidate):
                self._taken.add(candidate)
                return candidate
        raise NoToken

    def permuted(self, value: Any, choices: Sequence[Any]) -> Any:
        """The one of few choices that stands for this one: perhaps another, perhaps the same, who knows."""
        shuffled = sorted(choices, key=lambda each: bytes(islice(self._chance("choice", repr(each)), 16)))
        return shuffled[list(choices).index(value)]

    def sealed(self, token: dict[str, Any]) -> dict[str, Any]:
        """What stands for something that is sealed: opened by nobody, and it does not tell whose it is."""
        return {
            name: bytes(islice(self._chance(name, value), 8)).hex() if name in _OF_SOMEBODY else value
            for name, value in token.items()
        }

    def identity(self, identity: UUID) -> UUID:
        """The UUID that stands for a message's id, or a saga's."""
        return UUID(_uuid(str(identity), self._chance("identity", str(identity))))

    def _candidates(self, value: str) -> Iterator[str]:
        for form in (_of_its_form, _disguised):
            for number in range(TRIES):
                yield form(value, self._chance(f"{form.__name__} {number}", value))
        if NUMBER_FORM.fullmatch(value):
            # All numbers of so many digits may be taken, and 0 has no other digits.
            longer = re.sub("[0-9]+", "11111", value, count=1)
            for number in range(TRIES):
                yield _disguised(longer, self._chance(f"longer {number}", value))

    def _chance(self, purpose: str, value: str) -> Iterator[int]:
        """Bytes without an end that look like chance, and are always the same for the same value."""
        for number in count():
            told = f"{purpose}\n{number}\n{value}".encode("utf-8", "surrogatepass")
            yield from hmac.digest(self._secret, told, "sha256")


def _of_its_form(value: str, chance: Iterator[int]) -> str:
    if UUID_FORM.fullmatch(value):
        return _uuid(value, chance)
    if NUMBER_FORM.fullmatch(value):
        return _disguised(value, chance)
    if moment := _MOMENT.fullmatch(value):
        return _moment(moment, chance)
    word = f"redacted-{bytes(islice(chance, 8)).hex()}"
    return f"{word}@example.com" if _EMAIL.fullmatch(value) else word


def _uuid(value: str, chance: Iterator[int]) -> str:
    digits = bytes(islice(chance, 16)).hex()
    of = value.replace("-", "")
    # The digits that say which version and variant it is.
    made = str(UUID(f"{digits[:12]}{of[12]}{digits[13:16]}{of[16]}{digits[17:]}"))
    return made if "-" in value else made.replace("-", "")


def _moment(value: re.Match[str], chance: Iterator[int]) -> str:
    seed = int.from_bytes(bytes(islice(chance, 8)))
    day = (_FIRST_DAY + timedelta(days=seed % _DAYS)).isoformat()
    if value[1] is None:
        return day
    seconds = f":{next(chance) % 60:02d}" if value[2] else ""
    return f"{day}{value[1]}{next(chance) % 24:02d}:{next(chance) % 60:02d}{seconds}{value[3]}"


def _disguised(value: str, chance: Iterator[int]) -> str:
    """Digits for digits and letters for letters; the rest, an exponent and a zero in front stay."""
    mantissa = re.split("[eE]", value, maxsplit=1)[0] if NUMBER_FORM.fullmatch(value) else value
    made: list[str] = []
    for character in mantissa:
        if character.isdigit():
            first = not made or not made[-1].isdigit()
            lowest = 1 if first and character != "0" else 0
            made.append("0" if first and character == "0" else str(lowest + next(chance) % (10 - lowest)))
        elif character.isalpha():
            made.append(chr((ord("A") if character.isupper() else ord("a")) + next(chance) % 26))
        else:
            made.append(character)
    return "".join(made) + value[len(mantissa) :]
