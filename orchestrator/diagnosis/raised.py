"""The exception that made a saga stuck, and the line of the team's own code in it, out of a stored traceback."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.diagnosis.findings import Raised

_LONGEST = 400
_BEGIN = "Traceback (most recent call last):"
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+), in (?P<function>.*)$')
_MACHINE = re.compile(r"(^|/)orchestrator/saga/\w+\.py$")
_STANDARD_LIBRARY = re.compile(r"/lib/python3\.\d+/(?!site-packages/|dist-packages/)")
_INSTALLED = re.compile(r".*/(?:site|dist)-packages/([^/]+)")


@dataclass(frozen=True, slots=True)
class _Frame:
    file: str
    line: int
    function: str


def raised(story: str) -> Raised:
    """What a traceback says; `story` may have lost its beginning, and may be no traceback at all."""
    told = story.strip().rpartition(_BEGIN)[2].splitlines()
    frames, last = [], -1
    for number, line in enumerate(told):
        if (found := _FRAME.match(line)) is not None:
            frames.append(_Frame(found["file"], int(found["line"]), found["function"]))
            last = number
    # The code of a frame is indented; what was raised is not.
    begin = next((number for number in range(last + 1, len(told)) if told[number][:1].strip()), len(told))
    error = " ".join(" ".join(told[begin:]).split()) or "an exception"
    own = _own(frames, cut=_BEGIN not in story)
    if own is None:
        return Raised(_short(error))
    return Raised(_short(error), own.file, own.line, own.function)


def _own(frames: list[_Frame], *, cut: bool) -> _Frame | None:
    """The last frame of the team's code: below the machine, which called it, and above the libraries it called.

    Of a traceback that was cut the machine's frames may be gone; otherwise, without them, it is no code of the team's.
    """
    machine = max((at for at, frame in enumerate(frames) if _MACHINE.search(frame.file)), default=-1)
    below = frames[machine + 1 :] if machine >= 0 or cut else []
    if not below:
        return None
    home = _package(below[0])
    mine = [each for each in below if not _STANDARD_LIBRARY.search(each.file) and _package(each) in (None, home)]
    return mine[-1] if mine else None


def _package(frame: _Frame) -> str | None:
    """The installed package a file belongs to; None for one that is not installed as a package."""
    found = _INSTALLED.match(frame.file)
    return found[1] if found else None


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
