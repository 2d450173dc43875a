"""python -m deploy.settings_table: docs/configuration.md, written from the settings; `--check` only compares."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from messaging.environment import as_written
from messaging.settings import ServiceSettings
from orchestrator.settings import OrchestratorSettings
from services.order.settings import OrderSettings
from services.payment.settings import PaymentSettings

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"

_HEAD = """\
# Configuration

Written by `python -m deploy.settings_table` from the settings classes; do not edit it here.

Everything comes from the environment. For every variable `NAME` below, `NAME_FILE` may name a file that holds its value
(`DATABASE_URL_FILE=/run/secrets/database`); of the two, `NAME` wins. That of a secret may not be empty. Durations are
seconds (`2.5`) or ISO 8601 (`PT2.5S`). A value that cannot work ends the process with exit code 78 and a line that says
which and why. `amends config show`, `python -m services.order config` and `python -m services.payment config` print
what is in force, without passwords, in a form that these variables take. A variable that is set to nothing
(`PAYMENT_GATEWAY_URL=`) counts as unset where there is no default. One whose name is misspelled is warned of at start
and by those commands.
"""

_REST = """\
## Beside the settings

| variable | default | who reads it, and for what |
| --- | --- | --- |
| `AMENDS_SOURCE` | first word of the event's type | `emit`, in an application that is no service: the source it names |
| `ORCHESTRATOR_DATABASE_URL`, `ORDER_DATABASE_URL`, `PAYMENT_DATABASE_URL` | | `deploy.migrate`, `deploy.audit` |
| `ORDER_URL` | `http://127.0.0.1:8001` | `python -m services.order place`: where the order service is |
| `OTEL_*` | | every service: whether and where spans leave it, see [traces](telemetry.md#traces) |
| `NO_COLOR` | | set to anything: no colors |
| `COLUMNS` | the terminal's | how wide tables may be |
| `PYTHON` | `python3` | `make`: the Python to make `.venv` with |
| `TEST_AMQP_URL`, `TEST_DATABASE_URL`, `TEST_RABBITMQCTL` | | the tests: see [CONTRIBUTING](../CONTRIBUTING.md) |

The embedded mode (`make run`, `make demo`) sets `AMQP_URL`, `DATABASE_URL`, `AMENDS_MIGRATE_ON_START` and
`AMENDS_OUTBOX_GRACE` itself and takes the rest from the environment. In `make run`, `PORT` is the orchestrator's, and
order and payment have the next two; `make demo` always takes free ones. `make up` sets `HOST` and `PORT`.
"""


def page() -> str:
    """The whole page."""
    common = ServiceSettings.model_fields
    parts = [
        _HEAD,
        _section("Every service", "Also `amends relay` and `python -m messaging`.", common.items(), ServiceSettings),
    ]
    for title, words, kind in (
        ("Orchestrator", "`amends` and `python -m orchestrator`.", OrchestratorSettings),
        ("Order service", "`python -m services.order`.", OrderSettings),
        ("Payment service", "`python -m services.payment`.", PaymentSettings),
    ):
        own = [(name, field) for name, field in kind.model_fields.items() if _differs(field, common.get(name))]
        parts.append(_section(title, words, own, kind))
    return "\n".join([*parts, _REST])


def _differs(field: FieldInfo, common: FieldInfo | None) -> bool:
    return common is None or field.default != common.default


def _section(title: str, words: str, settings: Iterable[tuple[str, FieldInfo]], kind: type[ServiceSettings]) -> str:
    lines = [f"## {title}", "", words, "", "| variable | default | what it is for |", "| --- | --- | --- |"]
    for _, field in settings:
        lines.append(f"| `{field.validation_alias}` | {_default(field, kind)} | {_sentence(field)} |")
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo, kind: type[ServiceSettings]) -> str:
    if field.validation_alias == "DATABASE_URL":
        return "" if kind is ServiceSettings else f"`sqlite:///{kind.service}.db`"
    shown = _plain(field.default)
    return f"`{shown}`" if shown else ""


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else as_written(value)


def _sentence(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Write the page; with `--check` return 1 where what is there differs."""
    wanted = page()
    if arguments == ["--check"]:
        if PAGE.read_text(encoding="utf-8") == wanted:
            return 0
        print(f"amends: {PAGE} is not what the settings say; run python -m deploy.settings_table", file=sys.stderr)
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
