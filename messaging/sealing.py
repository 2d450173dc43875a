"""Sealing: what contracts mark as sensitive is encrypted with its subject's key where a message is first written, and
opened where a handler gets it. In between everybody carries tokens.

AES-256-GCM over the value's JSON, filled up with spaces, with a random nonce. Subject, wire type and place are
authenticated with it, so that a token that was put elsewhere does not open. A service without keys seals nothing, and
loads no cryptography.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from secrets import token_bytes
from typing import Any, Protocol, TypeVar, runtime_checkable

from pydantic_core import from_json, to_json

from contracts.message import Message
from contracts.places import Place, check_tokens, places, subject_of
from contracts.registry import InvalidMessage, Registry, UnknownMessage
from contracts.withheld import ERASED, Sealed, is_token
from messaging.keys import decoded, encoded, require_library
from messaging.received import Received
from messaging.subject_keys import LONGEST_SUBJECT, Keys, SubjectKey, can_name

T = TypeVar("T")

NONCE_BYTES = 12
PADDED = 32
"""Bytes: what is encrypted is so many long, or several times so many. A token's length would tell true from false."""
_WHAT = b"amends-sealed-1"
_LEAST_SECRET = 3
"""Characters of a text that is worth looking for in an error: shorter ones are in every other word."""
_HIDDEN = "<sealed>"
_QUOTED = (
    (re.compile(r"input_value=.*?, input_type=", re.DOTALL), f"input_value={_HIDDEN}, input_type="),
    (re.compile(r"(for query argument \$\d+[^:\n]*: ).*(?= \()"), rf"\g<1>{_HIDDEN}"),
    (re.compile(r"(Failing row contains \().*?(?=\)\.$)", re.DOTALL | re.MULTILINE), rf"\g<1>{_HIDDEN}"),
)
"""How pydantic, asyncpg and PostgreSQL quote a value, which they shorten: so it is not found by itself."""


class Unopenable(Exception):
    """What is sealed in a message does not open, and never will; says what, and why. Quotes nothing of it."""


class UnusableSubject(ValueError):
    """Nobody can have a key by that name."""


class Sealing:
    """Seals and opens with keys from `keys`. Raises UnusableKey where there is no library to do it.

    `loop` is the one that `keys` live on, for whoever writes messages outside of it: a thread without a loop.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        nonce: Callable[[int], bytes] = token_bytes,
    ) -> None:
        require_library("sealing needs")
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._keys = keys
        self._loop = loop
        self._nonce = nonce
        self._cipher = AESGCM
        self._invalid = InvalidTag

    # -- sealing ---------------------------------------------------------------------------------------------

    async def written(self, messages: Sequence[Message]) -> list[str]:
        """The JSON of each message's data, sealed where its contract says so: one look for keys for all of them.

        Of somebody whose key is erased nothing is written down. Raises UnusableSubject, Misplaced, KeysUnavailable.
        """
        subjects = {check_subject(each) for each in messages if places(type(each)) is not None}
        keys = await self._keys.ensure(subjects) if subjects else {}
        return [self._written(each, keys) for each in messages]

    async def rewritten(self, message: Message, data: Any) -> Any:
        """Parsed JSON that was read as this message, sealed in the same way; what its contract does not know stays.

        Raises what `written` raises.
        """
        root = places(type(message))
        if root is None:
            return data
        keys = await self._keys.ensure({check_subject(message)})
        return from_json(self._sealed(message, root, data, keys))

    def _written(self, message: Message, keys: Mapping[str, SubjectKey | None]) -> str:
        root = places(type(message))
        if root is None:
            return message.__pydantic_serializer__.to_json(message, by_alias=True).decode()
        return self._sealed(message, root, _content(message), keys)

    def _sealed(self, message: Message, root: Place, content: Any, keys: Mapping[str, SubjectKey | None]) -> str:
        subject = subject_of(message)
        key = keys[subject]

        def leaf(place: Place, value: Any) -> Any:
            if is_token(value):
                return value  # it is passed on
            return ERASED.token if key is None else self._token(key, subject, message.wire_type, place.path, value)

        sealed = to_json(root.rebuilt(content, leaf)).decode()
        check_tokens(type(message), sealed)
        return sealed

    def _token(self, key: SubjectKey, subject: str, wire_type: str, field: str, value: Any) -> dict[str, Any]:
        nonce = self._nonce(NONCE_BYTES)
        text = to_json(value)
        text += b" " * (-len(text) % PADDED)
        data = self._cipher(key.key).encrypt(nonce, text, authenticated(subject, wire_type, field))
        return Sealed(wire_type, field, key.id, encoded(nonce), encoded(data)).token

    def check(self, message: Message) -> None:
        """Raise UnusableSubject where nobody could have a key, before anything is written."""
        if places(type(message)) is not None:
            check_subject(message)

    def wait(self, doing: Coroutine[Any, Any, T]) -> T:
        """What somebody without a loop gets of a method of this; raises RuntimeError where that cannot be."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if self._loop is None or here is self._loop:
            doing.close()
            raise RuntimeError(
                "a plain Session cannot wait for a subject's key on the loop that fetches it: use an AsyncSession "
                "there; where there is no loop, sealing_in_a_thread()"
            )
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result()

    # -- opening ---------------------------------------------------------------------------------------------

    async def opened(self, received: Sequence[Received], registry: Registry) -> list[Received | Unopenable]:
        """Each with its message as its handler gets it: one look for keys for all of them. What is plain stays so.

        Where a key is erased, there is `ERASED` in the value's place. Raises KeysUnavailable.
        """
        needed = [_key_ids(each, registry) for each in received]
        wanted = {key for ids in needed if ids is not None for key in ids}
        keys = await self._keys.opened(wanted) if wanted else {}
        return [
            each if ids is None else self._opened(each, registry, keys)
            for each, ids in zip(received, needed, strict=True)
        ]

    def _opened(
        self, received: Received, registry: Registry, keys: Mapping[str, SubjectKey | None]
    ) -> Received | Unopenable:
        wire_type, version = received.envelope.type, received.envelope.version
        secrets: list[str] = []

        try:
            message = received.message
            if not isinstance(message, registry.class_of(wire_type, version) or ()):
                message = registry.as_written(wire_type, version, received.data)
            subject = subject_of(message)

            def leaf(_: Place, value: Any) -> Any:
                if not is_token(value) or "erased" in value:
                    return value
                value = self._value(value, subject, keys)
                secrets.extend(_texts(value))
                return value

            root = places(type(message))
            data = received.data if root is None else root.rebuilt(received.data, leaf)
            return replace(received, message=registry.parse(wire_type, version, data), secrets=tuple(secrets))
        except Unopenable as error:
            return error
        except (InvalidMessage, UnknownMessage) as error:
            return Unopenable(f"what was sealed does not fit its contract: {hiding(str(error), secrets)}")

    def _value(self, token: Mapping[str, str], subject: str, keys: Mapping[str, SubjectKey | None]) -> Any:
        what = f"what was sealed for {token['type']} {token['field']}"
        if token["key"] not in keys:
            raise Unopenable(f"{what} names a key that was never made here: sealed with another store of keys")
        key = keys[token["key"]]
        if key is None:
            return ERASED.token
        bound = authenticated(subject, token["type"], token["field"])
        try:
            text = self._cipher(key.key).decrypt(decoded(token["nonce"]), decoded(token["data"]), bound)
        except (self._invalid, ValueError):
            raise Unopenable(
                f"{what} does not open here: it was changed, or sealed for another subject, type or field"
            ) from None
        try:
            return from_json(text, allow_inf_nan=False)
        except ValueError:
            raise Unopenable(f"{what} opens, and is no JSON: whoever has sealed it does it wrongly") from None


@runtime_checkable
class _Closing(Protocol):
    async def close(self) -> None: ...


@contextmanager
def sealing_in_a_thread(keys: Callable[[], Keys]) -> Iterator[Sealing]:
    """Sealing for a program that has no loop (a script, Flask): `keys` is called, and fetches, in a thread of its own.

    Give it to `Emitting(sealing=...)`, and leave it open while the program runs. At its end a store of keys is closed.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="subjects' keys", daemon=True)
    thread.start()

    async def made() -> Keys:
        return keys()

    try:
        found = asyncio.run_coroutine_threadsafe(made(), loop).result()
        try:
            yield Sealing(found, loop=loop)
        finally:
            if isinstance(found, _Closing):
                asyncio.run_coroutine_threadsafe(found.close(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def in_plain_text(message: Message) -> list[str]:
    """Which places of this message, told as in tokens, hold what its contract would have sealed, and are not."""
    root = places(type(message))
    found: dict[str, None] = {}

    def leaf(place: Place, value: Any) -> Any:
        if not is_token(value):
            found[place.path] = None
        return value

    if root is not None:
        root.rebuilt(_content(message), leaf)
    return list(found)


def _content(message: Message) -> Any:
    return message.__pydantic_serializer__.to_python(message, mode="json", by_alias=True)


def check_subject(message: Message) -> str:
    """Who a message is about, as keys are called; raises UnusableSubject."""
    subject = subject_of(message)
    if not can_name(subject):
        raise UnusableSubject(
            f"{message.wire_type}: its subject {message.subject_field} has {len(subject)} characters, and a key is "
            f"found by 1 to {LONGEST_SUBJECT} that can be stored, none of them NUL"
        )
    return subject


def authenticated(subject: str, wire_type: str, field: str) -> bytes:
    """What a token is bound to: what this is and three texts in UTF-8, each with its length in four bytes before it."""
    parts = (_WHAT, *(text.encode("utf-8", "surrogatepass") for text in (subject, wire_type, field)))
    return b"".join(len(each).to_bytes(4, "big") + each for each in parts)


def hiding(text: str, secrets: Sequence[str]) -> str:
    """A text that may quote what was opened for a handler, without that."""
    for quoted, told in _QUOTED if secrets else ():
        text = quoted.sub(told, text)
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def _texts(value: Any) -> Iterator[str]:
    """What a value may be quoted as."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif value is not None and not isinstance(value, bool) and len(str(value)) >= _LEAST_SECRET:
        yield str(value)
        if isinstance(value, str) and repr(value)[1:-1] != value:
            yield repr(value)[1:-1]


def _key_ids(received: Received, registry: Registry) -> set[str] | None:
    """Of the keys that a message needs to be opened; None where nothing in it is withheld."""
    kind = registry.class_of(received.envelope.type, received.envelope.version)
    root = None if kind is None else places(kind)
    if root is None:
        return None
    tokens: list[Mapping[str, str]] = []

    def leaf(_: Place, value: Any) -> None:
        if is_token(value):
            tokens.append(value)

    root.rebuilt(received.data, leaf)
    return {each["key"] for each in tokens if "erased" not in each} if tokens else None
