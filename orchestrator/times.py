"""Moments and lengths of time in words: one way to write each, as exactly as its place asks for.

A length is a timedelta or a number of seconds. One that is compared (`exact`) keeps its sign. Where a length is only
looked at, less than nothing is nothing: the clocks of two machines differ.
"""

from __future__ import annotations

from datetime import datetime, timedelta

Length = timedelta | float


def clock(moment: datetime) -> str:
    """A moment in the reader's own time zone, to the second: `2026-03-01 12:00:32`."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def time_of_day(moment: datetime) -> str:
    """The same without the day, for whoever watches it pass: `12:00:32`."""
    return moment.astimezone().strftime("%H:%M:%S")


def exact(length: Length) -> str:
    """To the microsecond, for comparing: `30 s`, `1 min 30.5 s`, `1 h 30 min`, `2 d`, `-3 s`."""
    rest = round(_seconds(length) * 1_000_000)
    if rest < 0:
        return f"-{exact(timedelta(microseconds=-rest))}"
    parts = []
    for unit, size in (("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    if rest or not parts:
        parts.append(f"{rest / 1_000_000:.6f}".rstrip("0").rstrip(".") + " s")
    return " ".join(parts)


def about(length: Length) -> str:
    """As somebody would say it in a sentence: `no time`, `0.41 s`, `45 s`, `26 min`, `2 h 5 min`, `3 d 4 h`."""
    seconds = _seconds(length)
    if seconds < 0.001:
        return "no time"
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = int(max(seconds, 120) // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def short(length: Length) -> str:
    """For a column: `0.46s`, `18m30s`, `2h05m`, `3d04h`."""
    hundredths = max(round(_seconds(length) * 100), 0)
    if hundredths < 6000:
        return f"{hundredths / 100:.2f}s"
    minutes, seconds = divmod(hundredths // 100, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02d}h"
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s"


def coarse(length: Length) -> str:
    """For a narrow column, in its largest unit, which has passed in full: `40s`, `59m`, `23h`, `12d`."""
    seconds = max(int(_seconds(length)), 0)
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _seconds(length: Length) -> float:
    return length / timedelta(seconds=1) if isinstance(length, timedelta) else length
