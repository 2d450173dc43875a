"""What is logged of an error: where it was raised, and none of the values there."""

from __future__ import annotations

from io import StringIO
from typing import Literal

import pytest
import structlog

from messaging import logging


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_traceback_shows_no_local_variables(style: Literal["console", "json"]) -> None:
    """They are passwords, keys, and what was opened for a handler."""
    file = StringIO()
    with logging.configured_meanwhile():
        logging.configure("shop", "info", style, file=file)
        try:
            _raise("hunter" + "2")
        except ValueError:
            structlog.get_logger().error("ended_badly", exc_info=True)
    told = file.getvalue()
    assert "no such thing" in told
    assert "test_logging.py" in told
    assert "hunter2" not in told


def _raise(password: str) -> None:
    raise ValueError("no such thing")
