"""`amends new service`: what it writes passes its own lint and tests, fits the cluster, and runs on real servers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import uuid4

import aio_pika
import asyncpg
import pytest
import yaml
import yarl

from deploy.servers import free_ports
from tests.acceptance.pages import ROOT, blocks
from tests.acceptance.programs import AMENDS, answers, environment, eventually, finished, running
from tests.contract.kubernetes.manifests import PLATFORM, named, of_kind, rendered, templates
from tests.contract.kubernetes.operator import allow, make
from tests.contract.kubernetes.validation import problems

NAME = "stock_keeping"
TOOLS = Path(sys.prefix) / "bin"


def _new(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return finished((*AMENDS, "new", "service", *words), place)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new project, as it is written."""
    place = tmp_path_factory.mktemp("new")
    ended = _new(place, NAME)
    assert ended.returncode == 0, ended.stderr
    return place / "stock-keeping"


def _passes(project: Path, tool: str, *words: str) -> str:
    ended = subprocess.run(
        [TOOLS / tool, *words], cwd=project, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


# -- what is written -----------------------------------------------------------------------------------------


def test_what_would_be_written_is_told_and_not_written(tmp_path: Path) -> None:
    """With --dry-run there are the same lines, and no file."""
    told = _new(tmp_path, NAME, "--dry-run")
    assert (told.returncode, list(tmp_path.iterdir())) == (0, [])
    done = _new(tmp_path, NAME)
    assert done.stdout == told.stdout
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert set(done.stdout.splitlines()) == written
    assert "stock-keeping/stock_keeping/handlers.py" in written


def test_nothing_is_written_over(tmp_path: Path) -> None:
    """One file in the way, and none is written; the line names it. A folder that is there is not in the way."""
    readme = tmp_path / "own" / "README.md"
    readme.parent.mkdir()
    readme.write_text("mine")
    refused = _new(tmp_path, NAME, "--directory", "own")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "there already: own/README.md; nothing is written" in refused.stderr
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["mine"]
    readme.unlink()
    assert _new(tmp_path, NAME, "--directory", "own").returncode == 0


def test_a_bad_name_is_a_usage_error(tmp_path: Path) -> None:
    """It is explained in one line, and ends with 2."""
    refused = _new(tmp_path, "Stock-Keeping")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "'Stock-Keeping' is no name for a service" in refused.stderr
    assert "like stock_keeping" in refused.stderr


def test_the_page_says_how(tmp_path: Path) -> None:
    """What docs/writing-participants.md shows does what it says."""
    (block,) = [each for each in blocks(ROOT / "docs" / "writing-participants.md", "sh") if "amends new" in each.text]
    for line in block.text.splitlines():
        assert _new(tmp_path, *shlex.split(line)[3:]).returncode == 0
    assert (tmp_path / "warehouse" / "warehouse" / "contracts.py").exists()


def test_no_placeholder_is_left(project: Path) -> None:
    """Every text is filled in."""
    texts = {path: path.read_text() for path in project.rglob("*") if path.is_file()}
    assert [path for path, text in texts.items() if "@@" in text] == []
    assert "class StockKeepingSettings" in texts[project / "stock_keeping" / "settings.py"]


# -- its own lint and tests ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["b2", NAME, "abcdefghij_klmnopqrst_vwxyz123"])
def test_it_is_in_style_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    """The shortest and the longest name make no line too long and no import misplaced."""
    assert _new(tmp_path, name, "-d", "it").returncode == 0
    _passes(tmp_path / "it", "ruff", "check", "--no-cache", ".")
    _passes(tmp_path / "it", "ruff", "format", "--no-cache", "--check", ".")


def test_its_types_and_the_direction_of_its_imports_are_right(project: Path) -> None:
    """Mypy in strict mode and import-linter have nothing to say."""
    assert "no issues found" in _passes(project, "mypy", "--cache-dir", str(project / ".mypy_cache"))
    assert "Contracts: 3 kept, 0 broken" in _passes(project, "lint-imports", "--no-cache")


def test_its_tests_pass(project: Path) -> None:
    """All of them, and none is skipped."""
    said = _passes(project, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    assert "8 passed" in said
    assert "skipped" not in said


# -- its image and its place in a cluster --------------------------------------------------------------------


def test_its_image_is_in_order(project: Path) -> None:
    """Hadolint has nothing to say, and the target is called like the service."""
    _passes(project, "hadolint", "Dockerfile")
    assert "AS stock_keeping\n" in (project / "Dockerfile").read_text()


def test_its_compose_file_starts_what_it_needs_first(project: Path) -> None:
    """Broker and database, then the migration, then the service; ports lead in from this machine only."""
    services = yaml.safe_load((project / "compose.yaml").read_text())["services"]
    assert services.keys() == {"postgres", "rabbitmq", "migrate", "stock-keeping"}
    own = services["stock-keeping"]
    assert own["depends_on"] == {
        "migrate": {"condition": "service_completed_successfully"},
        "rabbitmq": {"condition": "service_healthy"},
    }
    assert own["build"] == services["migrate"]["build"]
    assert (own["build"]["context"], own["build"]["target"]) == (".", NAME)
    assert re.fullmatch(r"\$\{AMENDS_IMAGE:-amends/migrate:[0-9.]+\}", own["build"]["args"]["AMENDS_IMAGE"])
    assert (own["read_only"], own["cap_drop"]) == (True, ["ALL"])
    ports = [port for each in services.values() for port in each.get("ports", ())]
    assert ports == ["127.0.0.1:${PORT_RABBITMQ:-15672}:15672", "127.0.0.1:${PORT_STOCK_KEEPING:-8010}:8010"]


@pytest.mark.parametrize("part", ["platform", "migration", "service"])
def test_its_resources_are_valid(project: Path, part: str) -> None:
    """Each part renders, and each resource has only fields that its kind has."""
    resources = rendered(project / "kubernetes" / part)
    assert [found for each in resources for found in problems(each)] == []
    assert {each["metadata"]["namespace"] for each in resources} == {"amends"}


def test_its_pods_are_like_those_of_the_others(project: Path) -> None:
    """No rights, the labels that the network policies go by, its own image, secrets that the script makes."""
    resources = [*rendered(project / "kubernetes" / "migration"), *rendered(project / "kubernetes" / "service")]
    for name, template in templates(resources):
        (container,) = template["spec"]["containers"]
        labels = template["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "amends"
        kind = {"migrate": "migration", "prune": "pruning"}.get(name.partition("-")[0], "service")
        assert labels["app.kubernetes.io/component"] == kind
        assert template["spec"]["securityContext"]["runAsUser"] == 10001
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["image"] == "stock-keeping:0.1.0"
        secrets = {each["secret"]["secretName"] for each in template["spec"]["volumes"] if "secret" in each}
        assert (
            secrets
            == {
                "migration": {"stock-keeping-database-owner"},
                "pruning": {"stock-keeping-database-prune"},
                "service": {"stock-keeping-database", "stock-keeping-broker"},
            }[kind]
        )
        (volume,) = [each["projected"] for each in template["spec"]["volumes"] if "projected" in each]
        trusted = [item["path"] for each in volume["sources"] for item in each["secret"]["items"]]
        assert trusted == (["database.pem", "broker.pem"] if kind == "service" else ["database.pem"])
        assert {"name": "authorities", "mountPath": "/run/secrets/authorities", "readOnly": True} in container[
            "volumeMounts"
        ]
    (scaled,) = of_kind(resources, "ScaledObject")
    assert scaled["spec"]["triggers"][0]["metadata"]["queueName"] == "stock_keeping.commands"
    assert scaled["spec"]["minReplicaCount"] == 2


# -- at work -------------------------------------------------------------------------------------------------


async def test_it_answers_a_command_on_real_servers(
    project: Path, amqp_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """As its manifests say: its user may do no more than they allow, its queue is there, its tables are at head. It
    answers a command, keeps what it did, and ends in order.
    """
    platform = rendered(project / "kubernetes" / "platform")
    await make(amqp_url, [*rendered(PLATFORM), *platform])
    given = {
        "DATABASE_URL": postgres_url,
        "AMQP_URL": allow(amqp_url, platform, NAME, os.environ.get("TEST_RABBITMQCTL")),
        "AMENDS_TOPOLOGY_PASSIVE": "true",
        "AMENDS_CHECK_SENDERS": "true",
        # Who asks here.
        "AMENDS_SENDERS": f"orchestrator={yarl.URL(amqp_url).user}",
        "PORT": str(free_ports(1)[0]),
        # As in its image.
        "PYTHONPATH": str(project),
        "PYTHONSAFEPATH": "1",
    }
    reference = uuid4()
    program = (sys.executable, "-m", NAME)

    def start_and_end(ask: Callable[[], None]) -> None:
        migrated = subprocess.run(
            [*program, "migrate"], env=environment() | given, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert migrated.returncode == 0, migrated.stderr
        log = tmp_path / "service.log"
        with running(program, tmp_path, log, given) as process:
            ready = partial(answers, f"http://127.0.0.1:{given['PORT']}/readyz")
            assert eventually(ready), log.read_text()
            ask()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, log.read_text()

    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        answered = await channel.declare_queue(exclusive=True)
        await answered.bind("amends.events", "stock_keeping.#")
        commands = await channel.get_exchange("amends.commands", ensure=False)
        command = aio_pika.Message(
            json.dumps({"reference": str(reference), "quantity": 7}).encode(),
            content_type="application/json",
            type="stock_keeping.reserve",
            message_id=str(uuid4()),
            correlation_id=str(uuid4()),
            user_id=yarl.URL(amqp_url).user,
        )
        loop = asyncio.get_running_loop()

        async def ask() -> dict[str, object]:
            await commands.publish(command, "stock_keeping.reserve")
            async with asyncio.timeout(60), answered.iterator(no_ack=True) as messages:
                message = await anext(messages)
            body: dict[str, object] = json.loads(message.body)
            return body

        told: list[dict[str, object]] = []
        await asyncio.to_thread(
            start_and_end, lambda: told.append(asyncio.run_coroutine_threadsafe(ask(), loop).result(90))
        )
    assert told[0]["type"] == "stock_keeping.reserved"
    assert told[0]["data"] == {"reference": str(reference), "quantity": 7}
    database = await asyncpg.connect(postgres_url)
    try:
        kept = await database.fetch("SELECT reference, quantity, status FROM reservation")
    finally:
        await database.close()
    assert [tuple(row) for row in kept] == [(reference, 7, "reserved")]


def test_what_it_finds_on_the_broker_is_what_it_needs(project: Path, tmp_path: Path) -> None:
    """The manifest is what `amends broker resources` makes of what the service says that it needs."""
    needs = tmp_path / "needs.json"
    needs.write_text(_passes(project, "python", "-m", NAME, "needs"))
    made = finished((*AMENDS, "broker", "resources", str(needs), "--only", NAME), tmp_path)
    assert made.returncode == 0, made.stderr
    assert (project / "kubernetes" / "platform" / "broker.yaml").read_text() == made.stdout


def test_its_user_may_do_what_it_needs_and_no_more(project: Path) -> None:
    """It configures nothing, reads its own queues, and publishes what is called after it and nothing else."""
    platform = rendered(project / "kubernetes" / "platform")
    granted = named(platform, "Permission", "stock-keeping")["spec"]
    assert (granted["user"], granted["permissions"]) == (
        NAME,
        {
            "configure": "^$",
            "write": r"^(amends\.events|amends\.dead\-letters)$",
            "read": r"^stock_keeping\..+$",
        },
    )
    topics = [each["spec"]["permissions"] for each in of_kind(platform, "TopicPermission")]
    assert {each["exchange"]: each["write"] for each in topics} == {
        "amends.events": r"^stock_keeping\..+$",
        "amends.commands": "^$",
        "amends.dead-letters": r"^stock_keeping\..+$",
    }
