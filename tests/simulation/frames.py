"""PostgreSQL's protocol, as far as one must understand it who stands between a driver and a server."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_CANCEL = 80877102
_ASKS_BACK = (3, 5, 10, 11)
"""What the server says of a login that is not over: it wants a password, or the next part of an exchange."""

READY, DESCRIBED, GREETED, GONE = "ready", "described", "greeted", "gone"
"""What ends an answer: ReadyForQuery, a description, that or a question about the login, the connection's end."""


@dataclass(frozen=True)
class Request:
    """What a driver has written at once."""

    awaits: tuple[str, ...]
    """What will end each of its answers."""
    begins: bool = False
    """Whether BEGIN is in it, by whatever name the server knows it."""
    executes: bool = False
    """Whether another statement is."""
    commits: bool = False
    """Whether COMMIT is in it, alone or behind a statement."""


def messages(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Kind and content of each whole message."""
    at = 0
    while at + 5 <= len(data):
        (length,) = struct.unpack_from("!I", data, at + 1)
        if at + 1 + length > len(data):
            return
        yield chr(data[at]), data[at + 5 : at + 1 + length]
        at += 1 + length


def request(data: bytes, known: dict[bytes, bytes], *, logging_in: bool) -> Request:
    """What a driver wants with this; `known` are the statements that were parsed on its connection, by their names."""
    if logging_in and len(data) == 16 and struct.unpack_from("!I", data, 4) == (_CANCEL,):
        return Request((GONE,))
    if logging_in:
        return Request((GREETED,))
    awaits: list[str] = []
    done: list[bytes] = []
    for kind, content in messages(data):
        match kind:
            case "S":
                awaits.append(READY)
            case "Q":
                awaits.append(READY)
                done.append(content.split(b"\0")[0])
            case "H":
                awaits.append(DESCRIBED)
            case "X":
                awaits.append(GONE)
            case "P":
                name, words, _ = content.split(b"\0", 2)
                known[name] = words
            case "B":
                _, name, _ = content.split(b"\0", 2)
                done.append(known[name])
            case _:
                pass
    done = [words.rstrip(b";") for words in done]
    others = [words for words in done if words not in (b"BEGIN", b"COMMIT")]
    return Request(tuple(awaits), b"BEGIN" in done, bool(others), b"COMMIT" in done)


def ends(awaited: str, kind: str, content: bytes) -> bool:
    """Whether this message of the server's is the last of the answer that is awaited."""
    match awaited:
        case "ready":
            return kind == "Z"
        case "described":
            return kind in "TnE"
        case "greeted":
            return kind in "ZE" or (kind == "R" and struct.unpack_from("!I", content) in {(n,) for n in _ASKS_BACK})
        case _:
            return False


def state_of(content: bytes) -> str:
    """The SQLSTATE of an error."""
    return next((field[1:].decode() for field in content.split(b"\0") if field[:1] == b"C"), "")


def backend_of(content: bytes) -> int:
    """The number of the server's process, of the message that tells it."""
    (number,) = struct.unpack_from("!I", content)
    return int(number)
