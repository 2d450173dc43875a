"""docs/sealing.md: its commands print what it says, and its own signer is believed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from contracts.registry import Registry
from messaging import keys
from messaging.keys import PrivateKey
from messaging.received import Received, Unreadable, read
from messaging.senders import Senders
from messaging.signing import Verifier
from tests.acceptance.pages import ROOT, blocks, sessions
from tests.acceptance.programs import finished
from tests.signatures import delivered
from tests.unit.test_signing import FENCE, NOON, PAINTED, REGISTRY

PAGE = ROOT / "docs" / "sealing.md"


async def test_the_commands_print_what_the_page_says(tmp_path: Path) -> None:
    """In an empty folder; the keys that come of them are usable, each for its service."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    (session,) = sessions(PAGE)
    ended = await asyncio.to_thread(finished, ("sh", "-e", "-c", session.commands), tmp_path, PATH=path)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == session.printed
    public = keys.public_keys(tmp_path / "keys")
    for service in ("orchestrator", "order", "payment"):
        own = keys.private_key((tmp_path / f"{service}-key.json").read_text())
        assert public[f"{service}-1"] == own.public_half


def _page_signer() -> Callable[[str, str, str, str, bytes], dict[str, str]]:
    (block,) = blocks(PAGE, "python")
    names: dict[str, Callable[[str, str, str, str, bytes], dict[str, str]]] = {}
    exec(compile(block.text, str(PAGE), "exec"), names)
    return names["signature_headers"]


def _verdict(key: PrivateKey, headers: dict[str, str], registry: Registry) -> Received | Unreadable:
    senders = Senders(signatures=Verifier({key.id: key.public_half}, lambda: NOON), by_user=False)
    return read(replace(delivered(PAINTED, None), headers=headers), registry, senders)


def test_a_message_that_is_signed_as_the_page_says_is_read() -> None:
    """By a program that has nothing of ours; and not with one byte more."""
    sign = _page_signer()
    outside = (keys.as_json(FENCE), PAINTED.type, PAINTED.message_id, PAINTED.app_id)

    assert isinstance(_verdict(FENCE, sign(*outside, PAINTED.body), REGISTRY), Received)
    assert isinstance(_verdict(FENCE, sign(*outside, PAINTED.body + b" "), REGISTRY), Unreadable)
