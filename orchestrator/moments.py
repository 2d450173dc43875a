"""When an input is taken up: within one instance time does not go back, as far as its processes' clocks agree.

Whose clock is wrong where two differ nobody can know. So a small difference is smoothed over, and a large one binds
nobody: an instance that was moved by a process a year ahead must not wait for next year.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import structlog

TOLERANCE = timedelta(minutes=1)
"""By how much the processes' clocks may differ without being told of: far more than synchronized ones do."""


def taken_up(now: datetime, last: datetime | None) -> datetime:
    """The moment of a transition: now, raised to the instance's last one where that is ahead by TOLERANCE at most.

    Another process may have moved it since our transaction began, or by a clock that is ahead of ours.
    """
    return now if last is None or last <= now or last - now > TOLERANCE else last


def told(saga: str, saga_id: UUID, last: datetime | None, at: datetime) -> None:
    """Log it where a transition lies before the last one, because the two processes' clocks differ too much."""
    if last is not None and at < last:
        structlog.get_logger().error(
            "clock_behind",
            saga=saga,
            saga_id=str(saga_id),
            at=at.isoformat(),
            last_moved_at=last.isoformat(),
            mend="synchronize the clocks of the machines that the orchestrator runs on",
        )
