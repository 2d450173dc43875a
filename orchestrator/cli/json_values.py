"""Our values as JSON for programs: one form of each, whichever command prints it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from messaging.envelope import stamp


def in_json(value: object) -> str:
    """What JSON has no form of, for `json.dumps(default=...)`: a moment as RFC 3339 in UTC, with a Z; an id as text."""
    return stamp(value) if isinstance(value, datetime) else str(value)


def plain_json(value: object) -> Any:
    """The value as it is once printed and read again: made of dicts, lists, texts and numbers alone."""
    return json.loads(json.dumps(value, default=in_json))
