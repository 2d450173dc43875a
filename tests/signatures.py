"""Keys for tests, and messages signed with them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from messaging import keys
from messaging.bus import Delivery, Outgoing
from messaging.keys import PrivateKey
from messaging.signing import Signer


def publish(folder: Path, *made: PrivateKey, retired: datetime | None = None) -> Path:
    """Write the public halves into a folder, and the private ones beside it; returns the folder."""
    public = folder / "public"
    public.mkdir(exist_ok=True)
    for key in made:
        (public / f"{key.id}.json").write_text(keys.as_json(replace(key.public_half, retired=retired)))
        keys.write_private(key, folder / f"{key.id}.private.json")
    return public


def delivered(message: Outgoing, key: PrivateKey | None, *, queue: str = "q") -> Delivery:
    """The message as it comes, signed where there is a key."""
    sent = message if key is None else Signer(key).signed(message)
    return Delivery(
        queue=queue,
        tag=1,
        body=sent.body,
        exchange=sent.exchange,
        routing_key=sent.routing_key,
        message_id=sent.message_id,
        type=sent.type,
        content_type=sent.content_type,
        correlation_id=sent.correlation_id,
        app_id=sent.app_id,
        timestamp=sent.timestamp,
        headers=dict(sent.headers),
    )
