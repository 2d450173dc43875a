"""A participant whose handler takes its time, for `python -m messaging serve tests.contract.messaging.slow:slow`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from messaging.participant import Participant
from tests.contract.messaging.parcels import Pack, Packed, Refused

slow = Participant("slow_depot")


@slow.handles(Pack)
async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
    """Says that it has begun, and ends when the file is there that the command names."""
    print(f"begun {command.parcel}", flush=True)  # noqa: T201 - the test reads it
    while not Path(command.note).exists():  # noqa: ASYNC110, ASYNC240 - the test, another process, makes it
        await asyncio.sleep(0.02)
    return Packed(parcel=command.parcel)
