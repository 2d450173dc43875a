"""python -m deploy.broker_resources: deploy/kubernetes/components/rabbitmq/topology.yaml, for the three services.

What `amends broker resources` prints, for sagas and services of one's own too.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.broker_definitions import VHOST, needs
from messaging.rabbitmq_definitions import definitions
from messaging.rabbitmq_resources import as_yaml, resources

FILE = Path(__file__).parent / "kubernetes" / "components" / "rabbitmq" / "topology.yaml"
CLUSTER = "rabbitmq"
_HEAD = """\
# Written by `python -m deploy.broker_resources` from what the services say that they need; do not edit it here.
"""


def content() -> str:
    """The whole file."""
    return _HEAD + as_yaml(resources(definitions(needs(), VHOST, {}), CLUSTER))


def main() -> None:
    """Write the file."""
    FILE.write_text(content(), encoding="utf-8")
    print(f"written: {FILE}", file=sys.stderr)


if __name__ == "__main__":
    main()
