"""What a service tells of itself: figures at `/metrics`, and spans where the process has an OpenTelemetry SDK.

Nothing here is loaded or counted before somebody asks for it: prometheus_client comes with the first look at
`/metrics`, OpenTelemetry with a process that has it.
"""
