"""A real Prometheus reads real services, and every panel of the dashboard and every alert finds what it asks for."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deploy.servers import free_ports
from messaging.process import http_server, listen
from messaging.rabbitmq import RabbitBus
from tests.acceptance.pages import ROOT
from tests.contract.telemetry.shop import Shop, shop
from tests.monitoring import program

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "amends.json"
PAGE = ROOT / "docs" / "telemetry.md"
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
PATIENCE = 60.0
JOBS = ("orchestrator", "order", "payment")


def _panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def _asked(expression: str) -> str:
    """A panel's query, as Grafana would ask it of a Prometheus that looks every second."""
    return expression.replace("$__rate_interval", "30s").replace("$saga", ".*")


class Prometheus:
    """One that runs, asked over its API."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=30, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(self, query: str) -> list[dict[str, Any]]:
        """What a query gives now."""
        answer = await self._http.get("/api/v1/query", params={"query": query})
        assert answer.is_success, (query, answer.text)
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    async def until(self, query: str, what: str = "") -> None:
        """Wait until a query gives something; `what` is told where it never does."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not await self.ask(query):  # noqa: ASYNC110 - it is another process
                    await asyncio.sleep(0.2)
        except TimeoutError:
            pytest.fail(f"{what or 'a query'} found nothing in {PATIENCE:g} s: {query}")

    async def started(self) -> None:
        """Wait until it answers queries: at first it listens and refuses them, while its storage is being opened."""
        async with asyncio.timeout(PATIENCE):
            while not await self._ready():  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.1)

    async def _ready(self) -> bool:
        try:
            return (await self._http.get("/-/ready")).is_success
        except httpx.TransportError:
            return False  # it does not listen yet

    async def evaluated(self) -> list[dict[str, Any]]:
        """The alert rules it has loaded, once it has looked at each."""
        async with asyncio.timeout(PATIENCE):
            found = await self._rules()
            while any(rule["health"] == "unknown" for rule in found):
                await asyncio.sleep(0.2)
                found = await self._rules()
        return found

    async def _rules(self) -> list[dict[str, Any]]:
        answer = await self._http.get("/api/v1/rules")
        (group,) = answer.json()["data"]["groups"]
        found: list[dict[str, Any]] = group["rules"]
        return found


@pytest.fixture
async def running(amqp_url: str, fresh_postgres: Callable[[], str]) -> AsyncIterator[tuple[Shop, dict[str, str]]]:
    """The three services on servers, and where they are reached over HTTP."""
    async with shop(lambda name: RabbitBus(amqp_url, service=name), lambda _name: fresh_postgres()) as found:
        urls, servers, serving = {}, [], []
        for name, service in found.services.items():
            bound = listen(service)
            servers.append(server := http_server(service))
            serving.append(asyncio.create_task(server.serve(sockets=[bound])))
            urls[name] = f"http://127.0.0.1:{bound.getsockname()[1]}"
        yield found, urls
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*serving)


@pytest.fixture
async def prometheus(running: tuple[Shop, dict[str, str]], tmp_path: Path) -> AsyncIterator[Prometheus]:
    """One that reads them every second, by the configuration that is shipped but for times and addresses."""
    config = yaml.safe_load((RULES.parent / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES)]
    for job in config["scrape_configs"]:
        address = running[1][job["job_name"].removeprefix("amends-")].removeprefix("http://")
        job["static_configs"] = [{"targets": [address]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program("prometheus"),
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=log,
            stderr=log,
        )
        found = Prometheus(f"http://127.0.0.1:{port}")
        try:
            await found.started()
            yield found
        finally:
            await found.close()
            process.kill()
            await process.wait()


async def test_every_panel_and_every_alert_finds_its_figures(
    running: tuple[Shop, dict[str, str]], prometheus: Prometheus
) -> None:
    """After some orders each query of the dashboard gives data, each rule is evaluated, and none of them fires."""
    for job in JOBS:
        # Twice, because counting begins with the first look, and a rate takes two.
        await prometheus.until(f'count_over_time(up{{job="amends-{job}"}}[1m]) > 1 and up{{job="amends-{job}"}} == 1')
    for _ in range(3):
        assert (await running[0].place())["status"] == "completed"
    await prometheus.until('sum(increase(amends_saga_duration_seconds_count{status="completed"}[1m])) > 0')

    queries = [(panel["title"], target["expr"]) for panel in _panels() for target in panel["targets"]]
    assert len(queries) > 40
    for title, query in queries:
        await prometheus.until(_asked(query), title)

    rules = await prometheus.evaluated()
    assert len(rules) >= 15
    assert {rule["name"]: rule["health"] for rule in rules if rule["health"] != "ok"} == {}
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


async def test_every_name_in_rules_and_panels_is_told_by_a_service(running: tuple[Shop, dict[str, str]]) -> None:
    """A figure that is renamed is renamed there too, and on the page that lists them."""
    for service in JOBS:
        await running[0].figures(service)
    assert (await running[0].place())["status"] == "completed"
    pages = [await running[0].figures(service) for service in JOBS]
    told = {line.partition("{")[0].partition(" ")[0] for page in pages for line in page.splitlines()}
    queries = [target["expr"] for panel in _panels() for target in panel["targets"]]
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
    queries += [rule["expr"] for rule in rules]
    asked = {name for query in queries for name in re.findall(r"\b(?:amends|process)_[a-z0-9_]+", query)}
    assert len(asked) > 30
    assert asked - told == set()
    kinds = {name for page in pages for name in re.findall(r"^# TYPE (amends_[a-z_0-9]+) ", page, re.MULTILINE)}
    listed = re.findall(r"^\| `(amends_[a-z_0-9]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name for name in kinds if not name.endswith(("_gcount", "_gsum"))} == set(listed)
