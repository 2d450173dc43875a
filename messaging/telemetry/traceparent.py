"""A place in a trace as it travels: the text that W3C Trace Context calls `traceparent`. Loads no OpenTelemetry.

00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
"""

from __future__ import annotations

import re
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

_API = "opentelemetry.trace"
_TRACING = "messaging.telemetry.tracing"
_TRACE = slice(3, 35)
_FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_IN_BODY = re.compile(rf'"traceparent":"({_FORM.pattern})"')


def current() -> str | None:
    """Where the caller is; None outside any span, and in a process that has never loaded OpenTelemetry."""
    api = sys.modules.get(_API)
    if api is None:
        return None
    context = api.get_current_span().get_span_context()
    return written(context.trace_id, context.span_id, context.trace_flags) if context.is_valid else None


def inside(place: str | None) -> AbstractContextManager[Any]:
    """Meanwhile the caller is at this place of a trace, where this process traces."""
    tracing = sys.modules.get(_TRACING)
    found: AbstractContextManager[Any] = nullcontext() if tracing is None else tracing.Tracing.at(place)
    return found


def written(trace: int, span: int, flags: int) -> str:
    """The text for these numbers."""
    return f"00-{trace:032x}-{span:016x}-{flags:02x}"


def read(text: str | None) -> tuple[int, int, int] | None:
    """Trace, span and flags; None where it is no such text, which whoever sent it may have written himself."""
    if text is None or _FORM.fullmatch(text) is None:
        return None
    return int(text[3:35], 16), int(text[36:52], 16), int(text[53:], 16)


def of_body(body: bytes) -> str | None:
    """That of a message as it lies in the outbox, without reading all of it: it stands before the data."""
    found = _IN_BODY.search(body.partition(b',"data":')[0].decode(errors="replace"))
    return None if found is None else found[1]


def same_trace(one: str | None, other: str | None) -> bool:
    """Whether both are places in one trace; nothing is in none."""
    return one is not None and other is not None and one[_TRACE] == other[_TRACE]
