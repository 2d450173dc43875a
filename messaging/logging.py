"""Logs for people and for machines: structlog, one object a line in JSON, ids as fields, to stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TextIO

import structlog

from messaging.telemetry import traceparent

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_BROKER_CLIENTS = ("aio_pika", "aiormq")


_TRACEBACK = structlog.dev.RichTracebackFormatter(show_locals=False)
"""Without local variables: they are passwords, keys, and what was opened for a handler."""


def configure(service: str, level: str, style: Literal["auto", "console", "json"], file: TextIO | None = None) -> None:
    """Set up structlog once for this process; `auto` is for people on a terminal and JSON elsewhere.

    They go to `file` (default: stderr). The loggers of our libraries are heard from `warning` on, in the same shape.
    """
    target = file if file is not None else sys.stderr
    for_people = style == "console" or (style == "auto" and target.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=_TRACEBACK)
        if for_people
        else structlog.processors.JSONRenderer()
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_trace,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    tail = [] if for_people else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[*shared, *tail, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(_LEVELS[level], logging.WARNING))
    for broker_client in _BROKER_CLIENTS:
        # They tell of every lost connection at length; our adapter says it once, with what follows from it.
        logging.getLogger(broker_client).setLevel(logging.CRITICAL)


def _with_trace(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    place = traceparent.read(traceparent.current())
    if place is not None:
        event["trace_id"], event["span_id"] = f"{place[0]:032x}", f"{place[1]:016x}"
    return event


@contextmanager
def configured_meanwhile() -> Iterator[None]:
    """Whatever is configured inside, structlog and the standard library's loggers are then as they were before."""
    configuration = structlog.get_config() if structlog.is_configured() else None
    bound = structlog.contextvars.get_contextvars()
    loggers = {each: each.level for each in map(logging.getLogger, ("", *_BROKER_CLIENTS))}
    root = logging.getLogger()
    handlers = list(root.handlers)
    try:
        yield
    finally:
        if configuration is None:
            structlog.reset_defaults()
        else:
            structlog.configure(**configuration)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**bound)
        for logger, level in loggers.items():
            logger.setLevel(level)
        root.handlers[:] = handlers
