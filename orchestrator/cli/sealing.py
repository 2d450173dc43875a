"""What a person types in, sealed where the command is given the keys of persons; it says so where it is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from contracts.message import Message
from contracts.places import sealed_for
from messaging.clock import SystemClock
from messaging.keys import UnusableKey
from messaging.memory_keys import MemoryKeys
from messaging.process import EX_CONFIG, EX_UNAVAILABLE
from messaging.sealing import Sealing, UnusableSubject
from messaging.strict_json import loads
from messaging.subject_keys import KeysUnavailable, NoKeyYet
from orchestrator.cli.opening import fail, warn
from orchestrator.settings import OrchestratorSettings


@asynccontextmanager
async def sealing_of(settings: OrchestratorSettings) -> AsyncIterator[Sealing | None]:
    """What seals here, where whoever calls the command has keys; ends it with one line where they cannot be used."""
    if settings.subject_keys is None:
        yield None
        return
    from messaging.subjects.master import DamagedKey
    from messaging.subjects.store import store_of

    store = None
    try:
        store = store_of(settings, SystemClock())
        yield None if store is None else Sealing(store)
    except (DamagedKey, NoKeyYet, UnusableSubject) as error:
        fail(str(error), 1)
    except KeysUnavailable as error:
        fail(str(error), EX_UNAVAILABLE)
    except UnusableKey as error:
        fail(str(error), EX_CONFIG)
    finally:
        if store is not None:
            await store.close()


def warn_of_plain(settings: OrchestratorSettings, message: Message) -> None:
    """A line where something will be written in plain text that its contract would have sealed."""
    if settings.subject_keys is None and sealed_for(type(message)):
        warn(f"{message.wire_type} is written in plain text: AMENDS_SUBJECT_KEYS says with which keys it is sealed")


def sealed(settings: OrchestratorSettings, message: Message, *, for_show: bool) -> Any:
    """The data of this message as it is to be kept, where it has something to be sealed; None where it stays as it is.

    What is only shown is sealed with a key that nobody keeps: that makes none in the store of keys.
    """
    warn_of_plain(settings, message)
    if settings.subject_keys is None or not sealed_for(type(message)):
        return None

    async def written() -> str | None:
        async with sealing_of(settings) as sealing:
            # A key that nobody keeps is for what nobody keeps either.
            used = Sealing(MemoryKeys()) if for_show else sealing
            return None if used is None else (await used.written([message]))[0]

    text = asyncio.run(written())
    return None if text is None else loads(text.encode())
