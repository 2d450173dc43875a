"""Moments and lengths of time in words: pure."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator import times

MILLISECONDS_999 = timedelta(milliseconds=999)
ALMOST_A_DAY = timedelta(hours=23, minutes=59, seconds=59, milliseconds=999)


@pytest.mark.parametrize(
    ("length", "exact", "about", "short", "coarse"),
    [
        (timedelta(0), "0 s", "no time", "0.00s", "0s"),
        (timedelta(microseconds=1), "0.000001 s", "no time", "0.00s", "0s"),
        (timedelta(milliseconds=1), "0.001 s", "0.001 s", "0.00s", "0s"),
        (MILLISECONDS_999, "0.999 s", "1 s", "1.00s", "0s"),
        (timedelta(seconds=2.5), "2.5 s", "2.5 s", "2.50s", "2s"),
        (timedelta(seconds=9.94), "9.94 s", "9.9 s", "9.94s", "9s"),
        (timedelta(seconds=9.96), "9.96 s", "10 s", "9.96s", "9s"),
        (timedelta(seconds=10), "10 s", "10 s", "10.00s", "10s"),
        (timedelta(seconds=12, microseconds=345678), "12.345678 s", "12 s", "12.35s", "12s"),
        (timedelta(seconds=59.95), "59.95 s", "60 s", "59.95s", "59s"),
        (timedelta(seconds=59.996), "59.996 s", "60 s", "1m00s", "59s"),
        (timedelta(seconds=60), "1 min", "60 s", "1m00s", "1m"),
        (timedelta(seconds=90.5), "1 min 30.5 s", "90 s", "1m30s", "1m"),
        (timedelta(seconds=119.6), "1 min 59.6 s", "2 min", "1m59s", "1m"),
        (timedelta(minutes=60), "1 h", "60 min", "1h00m", "1h"),
        (timedelta(hours=2, minutes=5), "2 h 5 min", "2 h 5 min", "2h05m", "2h"),
        (timedelta(hours=23, minutes=59), "23 h 59 min", "23 h 59 min", "23h59m", "23h"),
        (ALMOST_A_DAY, "23 h 59 min 59.999 s", "23 h 59 min", "1d00h", "23h"),
        (timedelta(days=1), "1 d", "24 h 0 min", "1d00h", "1d"),
        (timedelta(days=3, hours=4, seconds=1), "3 d 4 h 1 s", "3 d 4 h", "3d04h", "3d"),
        (timedelta(days=400), "400 d", "400 d 0 h", "400d00h", "400d"),
        (timedelta(seconds=-3), "-3 s", "no time", "0.00s", "0s"),
        (timedelta(minutes=-90), "-1 h 30 min", "no time", "0.00s", "0s"),
    ],
)
def test_a_length_of_time_is_as_exact_as_its_place_asks_for(
    length: timedelta, exact: str, about: str, short: str, coarse: str
) -> None:
    """At the edges of every unit too; a length that is only looked at is never below nothing."""
    written = (times.exact(length), times.about(length), times.short(length), times.coarse(length))
    assert written == (exact, about, short, coarse)


def test_a_number_is_a_number_of_seconds() -> None:
    """For whoever has measured them so."""
    told = times.exact(90.5), times.about(90.5), times.short(90.5), times.coarse(90.5)
    assert told == ("1 min 30.5 s", "90 s", "1m30s", "1m")


@pytest.fixture
def in_kolkata(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A reader who is five hours and a half ahead of UTC."""
    with monkeypatch.context() as context:
        context.setenv("TZ", "IST-5:30")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_kolkata")
def test_a_moment_is_written_in_the_readers_time_zone_to_the_second() -> None:
    """With the day, and without it for whoever watches it pass."""
    moment = datetime(2026, 3, 1, 19, 0, 32, 999_999, tzinfo=UTC)
    assert times.clock(moment) == "2026-03-02 00:30:32"
    assert times.time_of_day(moment) == "00:30:32"
