"""Who takes the spans of this process, if anybody does. Loads no OpenTelemetry."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


def in_force() -> TracerProvider | None:
    """The SDK's, or whatever else makes spans here; None where nobody has set one."""
    # Whoever has set up an SDK has loaded its interface; that others have (FastAPI does) says nothing.
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    found: TracerProvider = api.get_tracer_provider()
    return None if isinstance(found, (api.ProxyTracerProvider, api.NoOpTracerProvider)) else found
