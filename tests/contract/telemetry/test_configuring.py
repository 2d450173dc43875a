"""Whether a process traces is said by OpenTelemetry's own variables, and what cannot work by one line and 78."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

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

WITHOUT_EXPORTER = "import sys; sys.modules['opentelemetry.exporter.otlp.proto.http.trace_exporter'] = None; " + RUN


def test_a_process_that_cannot_trace_as_asked_ends_with_78(tmp_path: Path) -> None:
    """Without the extra or a part of it, with a variable that the SDK refuses, for an exporter that is none of ours."""
    ended = _run(tmp_path, WITHOUT_SDK, OTEL_TRACES_EXPORTER="otlp")
    assert ended.returncode == EX_CONFIG, ended.stderr
    assert "pip install 'amends[telemetry]'" in ended.stderr
    ended = _run(tmp_path, WITHOUT_EXPORTER, OTEL_TRACES_EXPORTER="otlp")
    assert ended.returncode == EX_CONFIG, ended.stderr
    assert "pip install 'amends[telemetry]'" in ended.stderr
    ended = _run(tmp_path, RUN, OTEL_TRACES_EXPORTER="otlp", OTEL_BSP_MAX_QUEUE_SIZE="100")
    assert ended.returncode == EX_CONFIG, ended.stderr
    assert "OTEL_* says what OpenTelemetry cannot work with: max_export_batch_size must be less" in ended.stderr
    ended = _run(tmp_path, RUN, OTEL_TRACES_EXPORTER="zipkin")
    assert ended.returncode == EX_CONFIG, ended.stderr
    assert "OTEL_TRACES_EXPORTER=zipkin" in ended.stderr


def test_a_process_that_traces_ends_as_any_other(tmp_path: Path) -> None:
    """With the exit code it would have had without."""
    ended = _run(tmp_path, RUN, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert ended.returncode == EX_UNAVAILABLE, ended.stderr
    assert "Traceback" not in ended.stderr


SPAN = """
import sys
from messaging import logging
from messaging.telemetry import configuring
from opentelemetry import trace

configuring.LAST_SECONDS = float(sys.argv[1])
logging.configure("shop", "info", "json")
with configuring.exporting("shop"):
    trace.get_tracer("shop").start_span("checkout").end()
print("ended", flush=True)
"""


def _export(endpoint: str, seconds: float) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1"}
    words = [sys.executable, "-c", SPAN, str(seconds)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_spans_reach_a_collector_before_the_process_ends() -> None:
    """By HTTP, under the service's name."""
    taken: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """It is silent."""

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        ended = _export(f"http://127.0.0.1:{server.server_port}", 60)
        server.shutdown()
        serving.join()
    assert (ended.returncode, ended.stdout) == (0, "ended\n"), ended.stderr
    (sent,) = [ExportTraceServiceRequest.FromString(each) for each in taken]
    (resource,) = sent.resource_spans
    assert {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"] == "shop"
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["checkout"]


def test_a_collector_that_does_not_answer_delays_no_end_for_long() -> None:
    """The spans it did not take are left behind, and a line says so."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        ended = _export(f"http://127.0.0.1:{deaf.getsockname()[1]}", 0.1)
    assert (ended.returncode, ended.stdout) == (0, "ended\n"), ended.stderr
    assert "spans_left_behind" in ended.stderr
