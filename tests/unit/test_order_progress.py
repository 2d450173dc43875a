"""What `place` says while the order service is away."""

from __future__ import annotations

import io

from rich.console import Console
from rich.progress import Progress

from services.order.progress import Bars, Lines, display_on

AWAY = "http://127.0.0.1:8001 does not answer: All connection attempts failed; trying for 120 s"


class Log:
    """A pipe that is read back, and a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.written = io.StringIO()
        self.lines = Lines(Console(file=self.written, width=40), clock=lambda: self.now)

    def said(self) -> list[str]:
        return self.written.getvalue().splitlines()


def test_a_service_that_stays_away_is_told_ever_more_seldom() -> None:
    """With an attempt every tenth of a second for a minute there is a line after 1, 2, 4, 8, 16 and 32 seconds."""
    log = Log()
    told = []
    for tenth in range(600):
        log.now = tenth / 10
        before = len(log.said())
        log.lines.unanswered(AWAY)
        if len(log.said()) > before:
            told.append(log.now)
    assert told == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert log.said() == [AWAY] * 6, "a line for a log is not wrapped"


def test_a_moment_without_an_answer_is_not_worth_a_line() -> None:
    """A request that failed and then went through is told neither as an absence nor as a return."""
    log = Log()
    log.lines.unanswered(AWAY)
    log.now = 0.9
    log.lines.unanswered(AWAY)
    log.lines.progress("placing", 1, 10)
    log.now = 1.5
    log.lines.unanswered(AWAY)
    assert log.said() == []


def test_a_service_that_comes_back_is_told_once() -> None:
    """After an absence that was told, the first thing done says that it answers again, and the count starts anew."""
    log = Log()
    for log.now in (0.0, 1.0):
        log.lines.unanswered(AWAY)
    log.lines.progress("placing", 1, 10)
    log.lines.progress("placing", 2, 10)
    for log.now in (20.0, 21.0):
        log.lines.unanswered(AWAY)
    log.lines.progress("placing", 10, 10)
    assert log.said() == [AWAY, "it answers again", AWAY, "it answers again", "placing: 10 of 10"]


def test_on_a_terminal_the_bar_says_it() -> None:
    """While the service is away the terminal shows what is waited for beside the bar, and afterwards the bar alone."""
    bar = Progress(console=Console(file=io.StringIO(), force_terminal=True))
    display = Bars(bar)
    display.progress("placing", 3, 10)
    display.unanswered(AWAY)
    display.unanswered(AWAY)
    assert [task.description for task in bar.tasks] == ["placing", AWAY]
    display.progress("placing", 4, 10)
    assert [(task.description, task.completed) for task in bar.tasks] == [("placing", 4)]


def test_a_terminal_gets_bars_and_a_pipe_gets_lines() -> None:
    """Who cannot see a bar move is given lines."""
    with display_on(Console(file=io.StringIO(), force_terminal=True)) as display:
        assert isinstance(display, Bars)
    with display_on(Console(file=io.StringIO())) as display:
        assert isinstance(display, Lines)
