"""Words of a history: what is kept of an exception that a definition's own functions raised, and how often."""

from __future__ import annotations

import traceback

LONGEST_TRACEBACK = 4000
"""Characters; of a longer one the end, where the error is."""


def times(number: int) -> str:
    """How often, as people say it."""
    return "once" if number == 1 else f"{number} times"


def story(error: Exception) -> str:
    """The traceback as the reason for which an instance is stuck, storable in every database."""
    return "".join(traceback.format_exception(error))[-LONGEST_TRACEBACK:].replace("\x00", "\ufffd")
