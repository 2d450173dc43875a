"""A DATABASE_URL that cannot be right: every command names the variable and shows the form, and no password."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from messaging.__main__ import app as messaging_app
from orchestrator.cli.app import app as amends_app
from services.order.__main__ import app as order_app
from services.payment.__main__ import app as payment_app

SECRET = "s3cr3t-w0rd"
FORMS = "write postgresql://user:password@host:5432/name or sqlite:///file.db"
WRONG = {
    "rubbish": f"this is no database URL; {FORMS}",
    f"nonsense {SECRET}": f"this is no database URL; {FORMS}",
    f"://{SECRET}@host": f"this is no database URL; {FORMS}",
    f"postgresql://u:{SECRET}@host:port/name": f"this is no database URL; {FORMS}",
    f"mysql://u:{SECRET}@host/name": f"'mysql' is no database that Amends runs on; {FORMS}",
    f"postgresql://u:p@{SECRET}@host/name": "there is an @ too many; in a user or password "
    "write it as %40, a slash as %2F",
    "sqlite:///no/such/place/x.db": "there is no directory no/such/place; make it, or name a file in another one",
}
COMMANDS: list[tuple[typer.Typer, tuple[str, ...]]] = [
    (amends_app, ("run",)),
    (amends_app, ("relay",)),
    (amends_app, ("migrate",)),
    (amends_app, ("list",)),
    (amends_app, ("show", "1")),
    (amends_app, ("start", "fulfill_order", "{}")),
    (amends_app, ("config", "show")),
    (order_app, ()),
    (order_app, ("migrate",)),
    (order_app, ("config",)),
    (payment_app, ()),
    (payment_app, ("migrate",)),
    (payment_app, ("config",)),
    (messaging_app, ("migrate",)),
    (messaging_app, ("serve", "docs.examples.trip.participant:travel")),
]


@pytest.mark.parametrize("url", WRONG)
@pytest.mark.parametrize(("app", "words"), COMMANDS)
def test_an_address_that_cannot_be_right_is_explained(
    app: typer.Typer, words: tuple[str, ...], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 78 and one line on stderr: the variable, what is wrong with it, and the form or the way out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", url)
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, result.stdout) == (78, "")
    assert result.stderr == f"configuration: DATABASE_URL: {WRONG[url]}\n"
