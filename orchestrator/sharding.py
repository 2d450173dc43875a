"""Which shard an instance lies in: a function of its id and of how many shards there are, and nothing else.

A jump consistent hash (Lamping and Veach, 2014): every shard gets the same share, and one more shard takes its share
from all of them and moves nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

EXCHANGE = "orchestrator.shards"
"""Where orchestrators hand on what concerns an instance in another shard; the routing key is its number."""
_LOW = (1 << 64) - 1


def shard_of(identity: UUID, shards: int) -> int:
    """The number of the shard, from 0."""
    key = identity.int & _LOW
    at, following = -1, 0
    while following < shards:
        at = following
        key = (key * 2862933555777941757 + 1) & _LOW
        following = int((at + 1) * ((1 << 31) / ((key >> 33) + 1)))
    return at


def queue_of(number: int) -> str:
    """The queue of what is handed on to a shard."""
    return f"orchestrator.shard.{number}"


@dataclass(frozen=True, slots=True)
class Placement:
    """Which of how many shards a process belongs to."""

    number: int = 0
    shards: int = 1

    def __contains__(self, identity: UUID) -> bool:
        """Whether an instance lies here."""
        return shard_of(identity, self.shards) == self.number

    def __str__(self) -> str:
        return f"shard {self.number} of {abs(self.shards)}"

    @property
    def moving(self) -> Placement:
        """As a stamp: instances are being moved towards so many shards, and nobody may work on them meanwhile."""
        return Placement(self.number, -self.shards)


ALONE = Placement()
