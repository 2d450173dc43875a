"""Signatures on messages: made when a message leaves, looked at before anything in it is believed.

What is signed is the body as it is sent, byte for byte, so that no reader needs a second way of writing JSON; beside it
what the outside repeats of it for those who do not open the body (the type, the id and the source), and the key's id.
Only a structured CloudEvent has a signature that counts: there everything that a reader acts upon is in the body.
The signature travels in two AMQP headers, so the message is read as before by whoever does not care.

Not signed is where a message goes: exchange, routing key and queue change on its way, into dead letters or to a shard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from messaging.bus import Answers, Bus, Delivery, Outgoing, QueueState, Receipt, Subscription
from messaging.envelope import is_structured
from messaging.keys import PrivateKey, PublicKey, UnusableKey, decoded, encoded, require_library
from messaging.senders import Unproven
from messaging.topology import Topology

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KEY_HEADER = "amends-key"
SIGNATURE_HEADER = "amends-signature"
SIGNED_AT_ONCE = 20
"""Messages that are signed before somebody else has a turn: a millisecond or two."""
_WHAT = b"amends-signature-1"


class Signer:
    """Signs as one service. Raises UnusableKey where there is no library to do it, or the key's halves differ."""

    def __init__(self, key: PrivateKey) -> None:
        require_library()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        own = Ed25519PrivateKey.from_private_bytes(key.private)
        if own.public_key().public_bytes_raw() != key.public:
            raise UnusableKey(f"the two halves of the key {key.id!r} do not belong together; make a new one")
        self._id = key.id
        self._sign = own.sign

    def signed(self, message: Outgoing) -> Outgoing:
        """The same message with its signature beside it."""
        text = signed_text(self._id, message.type, message.message_id, message.app_id, message.body)
        signature = encoded(self._sign(text))
        return replace(message, headers={**message.headers, KEY_HEADER: self._id, SIGNATURE_HEADER: signature})


class Verifier:
    """Says for which service a message was signed, by these public keys; implements `messaging.senders.Signatures`.

    Raises UnusableKey where there is no library to do it.
    """

    def __init__(self, keys: Mapping[str, PublicKey], now: Callable[[], datetime]) -> None:
        require_library()
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        self._invalid = InvalidSignature
        self._now = now
        self._keys: dict[str, tuple[PublicKey, Ed25519PublicKey]] = {
            name: (key, Ed25519PublicKey.from_public_bytes(key.public)) for name, key in keys.items()
        }

    def speaker(self, delivery: Delivery) -> str:
        """The service whose key has signed it. Raises Unproven."""
        name, given = delivery.headers.get(KEY_HEADER), delivery.headers.get(SIGNATURE_HEADER)
        if name is None and given is None:
            raise Unproven("it is not signed")
        if not isinstance(name, str) or not isinstance(given, str):
            raise Unproven(f"its signature is not two texts, {KEY_HEADER} and {SIGNATURE_HEADER}")
        if not is_structured(delivery):
            raise Unproven("it is signed, but no structured CloudEvent: what it says stands outside of what is signed")
        if name not in self._keys:
            raise Unproven(f"it is signed with the key {name[:100]!r}, which is not among the public keys here")
        key, public = self._keys[name]
        if key.is_retired(self._now()):
            raise Unproven(
                f"it is signed with the key {name!r}, which is retired since {key.retired:%Y-%m-%dT%H:%M:%S%z}"
            )
        text = signed_text(name, delivery.type or "", delivery.message_id or "", delivery.app_id or "", delivery.body)
        try:
            public.verify(decoded(given), text)
        except (self._invalid, ValueError):
            raise Unproven(
                f"its signature with the key {name!r} is wrong: its body, type, id or source is not what was signed"
            ) from None
        return key.service


def signed_text(key: str, wire_type: str, message_id: str, source: str, body: bytes) -> bytes:
    """The bytes that a signature is made of: what this is, four texts in UTF-8, the body, each with its length."""
    outside = (text.encode("utf-8", "surrogatepass") for text in (key, wire_type, message_id, source))
    return b"".join(len(each).to_bytes(4, "big") + each for each in (_WHAT, *outside, body))


class SigningBus:
    """A bus on which everything that is published is signed; a `messaging.bus.Bus`."""

    def __init__(self, bus: Bus, signer: Signer) -> None:
        self._bus = bus
        self._signer = signer
        self._turn = asyncio.Lock()

    @property
    def connected(self) -> bool:
        return self._bus.connected

    async def start(self) -> None:
        await self._bus.start()

    async def declare(self, topology: Topology) -> None:
        await self._bus.declare(topology)

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[Receipt]:
        # A call that takes long to sign must not be overtaken. When it leaves the turn nothing else runs before the
        # inner bus has it: that keeps calls in order by itself.
        async with self._turn:
            signed = []
            for number, each in enumerate(messages, 1):
                signed.append(self._signer.signed(each))
                if number % SIGNED_AT_ONCE == 0:
                    await asyncio.sleep(0)
        return await self._bus.publish(signed)

    def send_now(self, messages: Sequence[Outgoing]) -> Answers | None:
        if self._turn.locked() or len(messages) >= SIGNED_AT_ONCE:
            return None
        return self._bus.send_now([self._signer.signed(each) for each in messages])

    def prepare(self, messages: Sequence[Outgoing]) -> None:
        """Nothing: these are not the messages that leave."""

    async def subscribe(self, queue: str, *, prefetch: int, deliver: Callable[[Delivery], None]) -> Subscription:
        return await self._bus.subscribe(queue, prefetch=prefetch, deliver=deliver)

    async def inspect(self, queue: str) -> QueueState | None:
        return await self._bus.inspect(queue)

    async def close(self) -> None:
        await self._bus.close()
