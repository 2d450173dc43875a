"""Amends: what a team imports to write a saga."""

from orchestrator.saga.definition import Saga
from orchestrator.saga.steps import (
    COMPENSATE,
    CONTINUE,
    PIVOT,
    RETRIABLE,
    Cancel,
    Delay,
    InvalidSaga,
    Parallel,
    Retry,
    Start,
    Step,
    Wait,
    days,
    hours,
    minutes,
    seconds,
)

__all__ = [
    "COMPENSATE",
    "CONTINUE",
    "PIVOT",
    "RETRIABLE",
    "Cancel",
    "Delay",
    "InvalidSaga",
    "Parallel",
    "Retry",
    "Saga",
    "Start",
    "Step",
    "Wait",
    "days",
    "hours",
    "minutes",
    "seconds",
]
