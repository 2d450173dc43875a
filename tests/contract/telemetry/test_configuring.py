"""Whether a process traces is said by OpenTelemetry's own variables, and what cannot work by one line and 78."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from messaging.telemetry.configuring import CannotTrace, wanted

EX_CONFIG = 78
EX_UNAVAILABLE = 69


@pytest.mark.parametrize(
    ("environment", "exporter"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, None),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, None),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, None),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "otlp"),
        (
            {
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            "otlp",
        ),
    ],
)
def test_the_variables_say_who_gets_spans(environment: dict[str, str], exporter: str | None) -> None:
    """Nobody, without them."""
    assert wanted(environment) == exporter


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_what_cannot_work_is_told(environment: dict[str, str]) -> None:
    """With the variable that says it."""
    with pytest.raises(CannotTrace, match="OTEL_"):
        wanted(environment)


def _run(tmp_path: Path, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AMENDS_", "OTEL_"))}
    environment |= {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'rows.db'}",
        "AMQP_URL": "amqp://127.0.0.1:1/",
        "AMENDS_START_TIMEOUT": "0",
        "AMENDS_LOG_FORMAT": "json",
        "PORT": "0",
        **variables,
    }
    words = [sys.executable, "-c", code]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)


RUN = "import runpy; runpy.run_module('services.payment', run_name='__main__', alter_sys=True)"
WITHOUT_SDK = "import sys; sys.modules['opentelemetry.sdk.trace'] = None; " + RUN


def test_a_process_that_cannot_trace_as_asked_ends_with_78(tmp_path: Path) -> None:
    """Without the extra, and for an exporter that is none of ours."""
    ended = _run(tmp_path, WITHOUT_SDK, OTEL_TRACES_EXPORTER="otlp")
    assert ended.returncode == EX_CONFIG, ended.stderr
    assert "pip install 'amends[telemetry]'" in ended.stderr
    ended = _run(tmp_path, RUN, OTEL_TRACES_EXPORTER="zipkin")
    assert ended.returncode == EX_CONFIG, ended.stderr
    assert "OTEL_TRACES_EXPORTER=zipkin" in ended.stderr


def test_a_process_that_traces_ends_as_any_other(tmp_path: Path) -> None:
    """A collector that is away delays neither its start nor its end."""
    ended = _run(tmp_path, RUN, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert ended.returncode == EX_UNAVAILABLE, ended.stderr
    assert "Traceback" not in ended.stderr
