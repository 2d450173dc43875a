"""The store of subjects' keys of a run: it outlives every service, and at times it does not answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from messaging.memory_keys import MemoryKeys
from tests.simulation.plan import Spell


class SimKeys(MemoryKeys):
    """Keys that are away during these spells."""

    def __init__(self, loop: asyncio.AbstractEventLoop, chance: random.Random, keyless: Sequence[Spell]) -> None:
        super().__init__(random=chance.randbytes, name=lambda: f"{chance.getrandbits(64):x}")
        self._loop = loop
        self._keyless = tuple(keyless)

    def _look(self) -> None:
        now = self._loop.time()
        self.away = any(spell.at <= now < spell.at + spell.length for spell in self._keyless)
        super()._look()
