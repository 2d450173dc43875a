"""python -m deploy.alert_resource: the alerts of deploy/prometheus as a resource, for deploy/kubernetes.

The Prometheus Operator reads rules from a resource, Prometheus itself from a file; what they say is the same.
"""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import indent

RULES = Path(__file__).parent / "prometheus" / "alerts.yml"
FILE = Path(__file__).parent / "kubernetes" / "components" / "monitoring" / "alerts.yaml"
_HEAD = """\
# Written by `python -m deploy.alert_resource` from deploy/prometheus/alerts.yml; do not edit it here.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: amends
  labels:
    app.kubernetes.io/part-of: amends
spec:
"""


def content() -> str:
    """The whole file."""
    return _HEAD + indent(RULES.read_text(encoding="utf-8"), "  ")


def main() -> None:
    """Write the file."""
    FILE.write_text(content(), encoding="utf-8")
    print(f"written: {FILE}", file=sys.stderr)


if __name__ == "__main__":
    main()
