"""`python -m deploy.migrate` and `python -m deploy.audit`, which containers run once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from deploy import audit, migrate

NAMES = ("orchestrator", "order", "payment")


def _run(program: typer.Typer, *words: str, **environment: str) -> Result:
    return CliRunner().invoke(program, words, env=environment)


def _files(folder: Path) -> dict[str, str]:
    """A database each, named in a file as a mounted secret names it."""
    environment = {}
    for name in NAMES:
        secret = folder / f"{name}_database_url"
        secret.write_text(f"sqlite:///{folder / name}.db\n")
        environment[f"{name.upper()}_DATABASE_URL_FILE"] = str(secret)
    return environment


def test_each_service_has_tables_in_its_own_database(tmp_path: Path) -> None:
    """All that are named come to head, may come again, and an audit of nothing finds nothing."""
    environment = _files(tmp_path)
    for _ in range(2):
        ended = _run(migrate.app, **environment)
        assert ended.exit_code == 0, ended.stderr
        assert ended.stdout.splitlines() == [
            f"sqlite:///{tmp_path}/orchestrator.db: messaging, orchestrator at head",
            f"sqlite:///{tmp_path}/order.db: messaging, services.order at head",
            f"sqlite:///{tmp_path}/payment.db: messaging, services.payment at head",
        ]
    looked = _run(audit.app, "--wait", "0", **environment)
    assert (looked.exit_code, looked.stderr) == (0, "")
    assert looked.stdout.splitlines()[0] == "orders: none"
    assert looked.stdout.splitlines()[-1] == "nothing was lost, nothing happened twice"


def test_the_keys_of_persons_have_a_table_in_a_database_of_their_own(tmp_path: Path) -> None:
    """With the others where it is named in the environment, alone where it is asked for; nothing else lies there."""
    environment = _files(tmp_path) | {"AMENDS_SUBJECT_KEYS": f"sqlite:///{tmp_path}/subjects.db"}
    told = f"sqlite:///{tmp_path}/subjects.db: messaging.subjects at head"
    ended = _run(migrate.app, "subjects", **environment)
    assert (ended.exit_code, ended.stdout.splitlines()) == (0, [told]), ended.stderr
    with closing(sqlite3.connect(tmp_path / "subjects.db")) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    assert {name for (name,) in found} == {"subject_key", "alembic_version_subjects"}
    ended = _run(migrate.app, **environment)
    assert ended.exit_code == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == told
    assert len(ended.stdout.splitlines()) == 4


def test_one_service_takes_the_variable_that_it_reads_itself(tmp_path: Path) -> None:
    """As a job that is given one secret only."""
    ended = _run(migrate.app, "order", DATABASE_URL=f"sqlite:///{tmp_path}/order.db")
    assert ended.exit_code == 0, ended.stderr
    assert ended.stdout == f"sqlite:///{tmp_path}/order.db: messaging, services.order at head\n"


@pytest.mark.parametrize(
    ("words", "environment", "code", "said"),
    [
        ((), {}, 78, "no database is named: set ORCHESTRATOR_DATABASE_URL"),
        ((), {"DATABASE_URL": "sqlite:///x.db"}, 78, "or name a service and set DATABASE_URL"),
        (("subjects",), {}, 78, "nobody says where the keys of persons are: set AMENDS_SUBJECT_KEYS"),
        (("orders",), {}, 2, "orders is no service; name some of orchestrator, order, payment, subjects, or none"),
        ((), {"ORDER_DATABASE_URL_FILE": "/nowhere/url"}, 78, "ORDER_DATABASE_URL_FILE=/nowhere/url cannot be read"),
        ((), {"ORDER_DATABASE_URL": "postgresql://a:b@127.0.0.1:1/order"}, 69, "postgresql://a:***@127.0.0.1:1/order"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    words: tuple[str, ...], environment: dict[str, str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the exit code of its kind."""
    ended = _run(migrate.app, *words, **environment)
    assert ended.exit_code == code
    assert said in ended.stderr + capsys.readouterr().err


def test_an_audit_wants_all_three(tmp_path: Path) -> None:
    """It compares them with each other."""
    environment = _files(tmp_path)
    del environment["PAYMENT_DATABASE_URL_FILE"]
    ended = _run(audit.app, **environment)
    assert ended.exit_code == 78
    assert "PAYMENT_DATABASE_URL must say where the payment database is" in ended.stderr


def test_roles_are_named_once_for_all_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SERVICE stands for the name of each, as one process migrates them all."""
    for name, value in _files(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AMENDS_APP_ROLE", "SERVICE")
    monkeypatch.setenv("AMENDS_PRUNE_ROLE", "SERVICE_prune")
    found = {name: (each.app_role, each.prune_role) for name, each in migrate.databases().items()}
    assert found == {
        "orchestrator": ("orchestrator", "orchestrator_prune"),
        "order": ("order", "order_prune"),
        "payment": ("payment", "payment_prune"),
    }
