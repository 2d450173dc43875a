"""What stands in a message in the place of what somebody told: sealed, for whoever has no key to it, or erased for all.

A service that has keys seals what its contracts mark as sensitive, and opens it for its handlers. Whoever has none gets
a `Sealed` in the place of the value, and may pass it on; where the key is erased, everybody gets `Erased`. Both lie in
JSON as an object with one name that no value has:

    {"$sealed": "1", "type": "order.created", "field": "email", "key": "…", "nonce": "…", "data": "…"}
    {"$sealed": "1", "erased": true}

`type` and `field` say where the value was sealed: it opens there, and where a contract says that it is carried from
there (`contracts.marks.Carried`).
"""

from __future__ import annotations

import re
from typing import Any, final

from pydantic_core import PydanticCustomError

TYPE_CHECKING = False

MARK = "$sealed"
MARKED_TEXT = '"$sealed"'
"""What any JSON text holds that has a token in it."""
_VERSION = "1"
_NAMES = {"type": 120, "field": 200, "key": 100, "nonce": 40, "data": 500_000}
"""Of a token's texts, and how long each may be."""
_ALL_NAMES = {MARK, *_NAMES}
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


class Unopened(TypeError):
    """What is sealed was used as if it were the value; says what, and what can be done with it."""


class Withheld:
    """The place of a value that cannot be read here. It can be passed on, compared with another, and nothing else."""

    __slots__ = ()

    @property
    def token(self) -> dict[str, Any]:
        """The JSON that stands for it."""
        raise NotImplementedError

    def __copy__(self) -> Withheld:
        return self

    def __deepcopy__(self, memo: object) -> Withheld:
        return self

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Withheld):
            return self.token == other.token
        if other is None:
            return False
        raise self._unopened("compared with a value")

    def __hash__(self) -> int:
        return hash(tuple(self.token.values()))

    def _unopened(self, how: str) -> Unopened:
        return Unopened(f"{self!r} cannot be {how}: nobody can read it here, only pass it on as it is")


# Checkers do not see these, so they refuse what is refused here.
if not TYPE_CHECKING:

    def _refusing(how: str) -> Any:
        def refuse(self: Withheld, *_: object) -> Any:
            raise self._unopened(how)

        return refuse

    def _attribute(self: Withheld, name: str) -> Any:
        if name.startswith("__"):  # asked by the interpreter and by libraries, of whatever they get
            raise AttributeError(name)
        raise self._unopened(f"asked for its {name}")

    Withheld.__getattr__ = _attribute
    for _name, _how in {
        "__str__": "made a text",
        "__format__": "made a text",
        "__bool__": "taken for true or false (compare it with None)",
        "__len__": "measured",
        "__iter__": "gone through",
        "__contains__": "searched",
        "__getitem__": "taken apart",
        **dict.fromkeys(("__lt__", "__le__", "__gt__", "__ge__"), "compared with a value"),
        **dict.fromkeys(("__int__", "__float__", "__index__", "__abs__", "__neg__", "__round__"), "reckoned with"),
        **dict.fromkeys(
            (f"__{side}{each}__" for side in ("", "r") for each in ("add", "sub", "mul", "truediv", "floordiv", "mod")),
            "reckoned with",
        ),
    }.items():
        setattr(Withheld, _name, _refusing(_how))


@final
class Sealed(Withheld):
    """A value that opens with its subject's key. Whoever has no key passes it on.

    It was sealed for the message of that wire `type`, in the place `field` of it: names of fields with dots between,
    `*` for what lies in a list or a mapping. `key` is the id of the subject's key, and says nothing of the subject.
    """

    # No dataclass: pydantic would write it as an object wherever anything may lie.
    __slots__ = ("data", "field", "key", "nonce", "type")

    def __init__(self, type: str, field: str, key: str, nonce: str, data: str) -> None:
        self.type = type
        self.field = field
        self.key = key
        self.nonce = nonce
        self.data = data

    @property
    def token(self) -> dict[str, Any]:
        return {
            MARK: _VERSION,
            "type": self.type,
            "field": self.field,
            "key": self.key,
            "nonce": self.nonce,
            "data": self.data,
        }

    def __repr__(self) -> str:
        return f"<sealed {self.type} {self.field}>"


@final
class Erased(Withheld):
    """The place of a value that nobody can read any more: its subject's key is erased."""

    __slots__ = ()

    @property
    def token(self) -> dict[str, Any]:
        return {MARK: _VERSION, "erased": True}

    def __repr__(self) -> str:
        return "<erased>"


ERASED = Erased()


def is_token(value: object) -> bool:
    """Whether this JSON stands for a value that is withheld, or claims to."""
    return isinstance(value, dict) and MARK in value


def withheld(token: dict[str, Any]) -> Withheld:
    """What a token says. Raises ValueError where it is none of ours."""
    if token.get(MARK) != _VERSION:
        raise ValueError(f"{MARK} is not {_VERSION!r}: sealed by a newer version, or no token of ours")
    if token.get("erased") is True and len(token) == len(ERASED.token):
        return ERASED
    if token.keys() != _ALL_NAMES:
        raise ValueError(f"a token has {', '.join(_NAMES)}")
    for name, longest in _NAMES.items():
        text = token[name]
        if type(text) is not str or not 0 < len(text) <= longest:
            raise ValueError(f"a token's {name} is no text of 1 to {longest} characters")
    key, nonce, data = token["key"], token["nonce"], token["data"]
    if not _BASE64URL.fullmatch(f"{key}{nonce}{data}"):
        raise ValueError("a token's key, nonce and data are base64url")
    return Sealed(token["type"], token["field"], key, nonce, data)


def read(value: object) -> Withheld | None:
    """A `Withheld` for what pydantic is to validate, where it is one or its token; None for a plain value."""
    if isinstance(value, Withheld):
        return value
    if type(value) is dict and MARK in value:
        try:
            return withheld(value)
        except ValueError as error:
            raise PydanticCustomError("sealed", "{why}", {"why": str(error)}) from None
    return None


def for_people(value: Any) -> Any:
    """JSON as people look at it: a word where a token stands."""
    if is_token(value):
        return "<erased>" if value.get("erased") is True else "<sealed>"
    if isinstance(value, dict):
        return {name: for_people(each) for name, each in value.items()}
    if isinstance(value, list):
        return [for_people(each) for each in value]
    return value
