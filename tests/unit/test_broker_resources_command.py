"""`amends broker resources`: definitions as resources for Kubernetes."""

from __future__ import annotations

from pathlib import Path

import yaml
from typer.testing import CliRunner

from messaging.needs import Needs, as_json, own
from messaging.topology import COMMANDS, Binding, Queue, Topology
from orchestrator.cli.app import app


def _needs(tmp_path: Path, service: str) -> str:
    queue = Queue(f"{service}.commands", (Binding(COMMANDS, f"{service}.book"),))
    path = tmp_path / f"{service}.json"
    path.write_text(as_json(Needs(service, Topology(queues=(queue,)), own(service))))
    return str(path)


def _kinds(text: str) -> list[tuple[str, str]]:
    return [(each["kind"], each["metadata"]["name"]) for each in yaml.safe_load_all(text)]


def test_of_one_service_there_is_what_is_its_own(tmp_path: Path) -> None:
    """Its queue, its binding, its user and what that may do; no other's, and nothing that all share."""
    wanted = [_needs(tmp_path, "stock_keeping"), _needs(tmp_path, "stock")]
    ended = CliRunner().invoke(app, ["broker", "resources", *wanted, "--only", "stock"])
    assert ended.exit_code == 0, ended.stderr
    assert _kinds(ended.stdout) == [
        ("Queue", "stock-commands"),
        ("Binding", "stock-commands-amends-commands-stock-book"),
        ("User", "stock"),
        ("Permission", "stock"),
        ("TopicPermission", "stock-amends-events"),
        ("TopicPermission", "stock-amends-commands"),
        ("TopicPermission", "stock-amends-dead-letters"),
    ]


def test_all_of_it_begins_with_what_is_shared(tmp_path: Path) -> None:
    """The virtual host, a policy and the exchanges; the orchestrator and the monitor are users, the operator is not."""
    ended = CliRunner().invoke(app, ["broker", "resources", _needs(tmp_path, "stock"), "--cluster", "mine"])
    assert ended.exit_code == 0, ended.stderr
    found = _kinds(ended.stdout)
    assert found[:5] == [
        ("Vhost", "amends"),
        ("Policy", "leaders-on-all-nodes"),
        ("Exchange", "amends-events"),
        ("Exchange", "amends-commands"),
        ("Exchange", "amends-dead-letters"),
    ]
    assert [name for kind, name in found if kind == "User"] == ["orchestrator", "stock", "monitor"]
    assert "operator" not in ended.stdout
    clusters = {each["spec"]["rabbitmqClusterReference"]["name"] for each in yaml.safe_load_all(ended.stdout)}
    assert clusters == {"mine"}


def test_a_service_that_is_none_of_them_is_an_error(tmp_path: Path) -> None:
    """One line says who there is."""
    ended = CliRunner().invoke(app, ["broker", "resources", _needs(tmp_path, "stock"), "--only", "stok"])
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert "none of these is called 'stok': orchestrator, stock" in ended.stderr
