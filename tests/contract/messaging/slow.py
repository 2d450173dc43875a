"""A participant whose handler takes its time, for `python -m messaging serve tests.contract.messaging.slow:slow`."""

from __future__ import annotations

import asyncio

from sqlalchemy.ext.asyncio import AsyncSession

from messaging.participant import Participant
from tests.contract.messaging.parcels import Pack, Packed, Refused

slow = Participant("slow_depot")


@slow.handles(Pack)
async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
    """Says that it has begun, and takes as many seconds as the command says."""
    print(f"begun {command.parcel}", flush=True)  # noqa: T201 - the test reads it
    await asyncio.sleep(float(command.note))
    return Packed(parcel=command.parcel)
