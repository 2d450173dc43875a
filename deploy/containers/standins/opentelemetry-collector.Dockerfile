# As the image otel/opentelemetry-collector is for the services of deploy/compose.yaml: it takes what they send.
FROM python:3.13-slim
COPY collector.py /collector.py
USER 10001:10001
STOPSIGNAL SIGKILL
ENTRYPOINT ["python", "/collector.py"]
