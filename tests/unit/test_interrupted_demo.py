"""A Ctrl-C while a statement is under way: the driver may make another error of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest
from sqlalchemy.exc import PendingRollbackError
from structlog.testing import capture_logs

from deploy.embedded import _until_interrupted


@pytest.fixture(autouse=True)
def ctrl_c_as_it_was() -> Iterator[None]:
    """The demo leaves it so that a second one ends the process at once."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


async def _statement(*, interrupted: bool) -> int:
    if interrupted:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise PendingRollbackError("the connection is invalid") from None
    raise PendingRollbackError("the connection is invalid")


def test_what_a_canceled_statement_raises_is_the_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 130 and the one line; what was raised is in the log."""
    with capture_logs() as logs:
        assert asyncio.run(_until_interrupted(_statement(interrupted=True))) == 130
    assert capsys.readouterr().err == "Interrupted: finishing what was begun …\n"
    assert [each["event"] for each in logs] == ["interrupted_in_a_statement"]


def test_what_is_raised_without_a_ctrl_c_is_raised() -> None:
    """It is a mistake of ours then."""
    with pytest.raises(PendingRollbackError):
        asyncio.run(_until_interrupted(_statement(interrupted=False)))
