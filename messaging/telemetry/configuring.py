"""The SDK, where a process is asked for spans by OpenTelemetry's own variables; everybody else loads none of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog

from messaging.telemetry.provider import in_force

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
LAST_SECONDS = 3.0
"""How long the last spans may take to leave; a collector that does not answer delays no end by more."""


class CannotTrace(Exception):
    """Spans are asked for in a way that cannot work here; says why, and how to mend it."""


def wanted(environment: Mapping[str, str]) -> str | None:
    """Which exporter spans are asked for with: otlp or console; None for none. Raises CannotTrace."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    endpoint = any(environment.get(name, "").strip() for name in _ENDPOINTS)
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() or ("otlp" if endpoint else "none")
    if exporter == "none":
        return None
    if exporter not in ("otlp", "console"):
        raise CannotTrace(f"OTEL_TRACES_EXPORTER={exporter}: spans leave by otlp, or are printed by console")
    for name in _PROTOCOLS if exporter == "otlp" else ():
        protocol = environment.get(name, "").strip()
        if protocol and protocol != _PROTOCOL:
            raise CannotTrace(f"{name}={protocol}: spans leave by {_PROTOCOL} only (a collector's port 4318)")
        if protocol:
            break
    return exporter


@contextmanager
def exporting(service: str, environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Meanwhile this process's spans leave it, where the environment asks for that and nobody has done it already.

    Raises CannotTrace, also where the extra `telemetry` is not installed.
    """
    exporter = wanted(environment)
    if exporter is None:
        yield
        return
    # Before it is asked whether somebody has set a provider: an interface that nobody has loaded has none.
    from opentelemetry import trace

    if in_force() is not None:
        yield  # opentelemetry-instrument, or an application that is traced anyway
        return
    provider = _provider(service, exporter, environment)
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        _end(provider)


def _provider(service: str, exporter: str, environment: Mapping[str, str]) -> TracerProvider:
    try:
        return _made(service, exporter, environment)
    except ModuleNotFoundError as error:
        raise CannotTrace(f"OTEL_* asks for spans, but {error}; pip install 'amends[telemetry]'") from error
    except ValueError as error:
        # The SDK reads its variables as it is made.
        raise CannotTrace(f"OTEL_* says what OpenTelemetry cannot work with: {error}") from error


def _made(service: str, exporter: str, environment: Mapping[str, str]) -> TracerProvider:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

    attributes = {"service.version": version("amends")}
    named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not named:
        attributes["service.name"] = service
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    out: SpanExporter = ConsoleSpanExporter()
    if exporter == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        out = OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(out))
    return provider


def _end(provider: TracerProvider) -> None:
    """Send what is left, for a while: the exporter's own patience is longer than a supervisor's may be."""
    ending = threading.Thread(target=provider.shutdown, name="last spans", daemon=True)
    ending.start()
    ending.join(LAST_SECONDS)
    if ending.is_alive():
        structlog.get_logger().warning("spans_left_behind", seconds=LAST_SECONDS)
