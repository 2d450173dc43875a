"""What a person types in, sealed where the command is given the keys of persons; it says so where it is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from contracts.message import Message
from contracts.places import Misplaced, sealed_for
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
    except (DamagedKey, Misplaced, NoKeyYet, UnusableSubject) as error:
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


def seals(settings: OrchestratorSettings, message: Message) -> bool:
    """Whether this message has something to be sealed, and this command the keys to do it."""
    return settings.subject_keys is not None and bool(sealed_for(type(message)))


def sealed(settings: OrchestratorSettings, message: Message, data: object = None, *, for_show: bool) -> Any:
    """The data of this message, which `seals`, as it is to be kept; `data` is what a person typed, of which all stays.

    What is only shown makes nobody a key: of who has none yet it is sealed with one that nobody keeps.
    """

    async def written(sealing: Sealing) -> Any:
        return (
            loads((await sealing.written([message]))[0].encode())
            if data is None
            else (await sealing.rewritten(message, data))
        )

    async def look() -> Any:
        # A key that nobody keeps is for what nobody keeps either; and not for what would be refused.
        anew = for_show and settings.make_subject_keys
        async with sealing_of(
            settings.model_copy(update={"make_subject_keys": False}) if anew else settings
        ) as sealing:
            if sealing is None:
                return data
            try:
                return await written(sealing)
            except NoKeyYet:
                if not anew:
                    raise
                return await written(Sealing(MemoryKeys()))

    return asyncio.run(look())
