"""The SDK, where a process is asked for spans by OpenTelemetry's own variables; everybody else loads none of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version

from messaging.telemetry.provider import in_force

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"


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


def configure(service: str, environment: Mapping[str, str] = os.environ) -> None:
    """Make this process's spans leave it, where the environment asks for that and nobody has done it already.

    Raises CannotTrace, also where the extra `telemetry` is not installed.
    """
    exporter = wanted(environment)
    if exporter is None:
        return
    from opentelemetry import trace

    if in_force() is not None:
        return  # opentelemetry-instrument, or an application that is traced anyway
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
    except ModuleNotFoundError as error:
        raise CannotTrace(f"OTEL_* asks for spans, but {error}; pip install 'amends[telemetry]'") from error
    attributes = {"service.version": version("amends")}
    if not environment.get("OTEL_SERVICE_NAME") and "service.name=" not in environment.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    ):
        attributes["service.name"] = service
    provider = TracerProvider(resource=Resource.create(attributes))
    out: SpanExporter = ConsoleSpanExporter()
    if exporter == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        out = OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(out))
    trace.set_tracer_provider(provider)
