"""How many messages a batch takes: more while the queue fills every batch, fewer when a batch takes long.

What a batch costs beside its messages is spread over them, so large ones carry more; but whoever comes while one is
being handled waits for it, its rows are locked for as long, and all of it is done again when its transaction fails.
"""

from __future__ import annotations

FIRST = 100
FEWEST = 10
SOON = 0.25
"""Seconds that a batch may take; one that takes longer halves the next, one that takes less than half lets it grow."""


class Sizing:
    """The size of the next batch, between `FEWEST` and `most` (which may be smaller)."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.now = min(FIRST, most)

    def took(self, count: int, seconds: float) -> None:
        """A batch of so many messages was handled, in so many seconds."""
        if seconds > SOON:
            self.now = min(self.now, max(FEWEST, count // 2), self._most)
        elif count >= self.now and seconds < SOON / 2:
            self.now = min(self.now * 2, self._most)
