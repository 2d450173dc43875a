"""python -m deploy.containers: build the images, run deploy/compose.yaml, and try on it what docs/deploy.md promises.

On the Docker engine that answers, or on one of its own (root; `sh deploy/setup.sh containers` installs it). Images of
others are pulled; where that is impossible, stand-ins are made of Debian's packages. Everything is removed in the end
but the images. Exit codes: 0 everything holds, 1 something does not, 69 no engine to be had.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import httpx
import typer

from deploy.containers.customers import NotServed
from deploy.containers.engine import CommandFailed, Engine, OwnEngine, command_line
from deploy.containers.images import (
    ROOT,
    TARGETS,
    Provided,
    build_override,
    make_next,
    megabytes,
    provide,
    provide_compose,
    provide_if_possible,
)
from deploy.containers.newcomer import OTHERS as OF_A_NEWCOMER
from deploy.containers.newcomer import try_newcomer
from deploy.containers.page import PAGE, follow
from deploy.containers.stack import SERVICES, Stack
from deploy.containers.trial import Trial, Wrong
from deploy.servers import ServerUnavailable, free_ports

BASE = "python:3.13-slim"
OTHERS = ("postgres:17", "rabbitmq:4.2", "prom/prometheus:v3.5.0", "otel/opentelemetry-collector:0.136.0")
GRAFANA = "grafana/grafana:12.2.0"
RELEASE, NEXT = "0.1.0", "0.1.1"
PROJECT = "amends-trial"

app = typer.Typer(help="Try the containers for real.", rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Result:
    """What a step found, and how many seconds it took."""

    what: str
    found: str
    seconds: float


@app.command()
def try_containers(
    *,
    data: Annotated[Path, typer.Option(help="An engine of our own keeps its images here.")] = Path(
        ".amends/containers"
    ),
    write: Annotated[bool, typer.Option("--write", help="Put the results into docs/deploy.md.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up until Ctrl-C.")] = False,
) -> None:
    """Build the images, run deploy/compose.yaml, and try what docs/deploy.md promises.

    Example: python -m deploy.containers --write
    """
    results: list[Result] = []
    try:
        with ExitStack() as stack:
            engine = _engine(stack, data.resolve())
            _try_all(stack, engine, data.resolve(), results, keep=keep)
    except ServerUnavailable as error:
        print(f"amends: {error}", file=sys.stderr)
        raise typer.Exit(69) from error
    except (CommandFailed, NotServed, Wrong, httpx.HTTPError) as error:
        print(f"WRONG: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
        print(f"written into {PAGE.relative_to(ROOT)}")


def _engine(stack: ExitStack, data: Path) -> Engine:
    program, config = command_line(), data / "config"
    engine = Engine(program, None, config)
    if not engine.answers:
        own = OwnEngine(data / "docker")
        engine = Engine(program, own.host, config)
        stack.callback(own.stop)
        own.start(engine)
    return engine


def _try_all(stack: ExitStack, engine: Engine, data: Path, results: list[Result], *, keep: bool) -> None:
    @contextmanager
    def step(what: str) -> Iterator[Callable[[str], None]]:
        said: list[str] = []
        began = time.monotonic()
        yield said.append
        results.append(Result(what, "; ".join(said), time.monotonic() - began))
        print(f"{results[-1].seconds:7.1f} s  {what}: {results[-1].found}", flush=True)

    with step("engine and images of others") as say:
        others = provide(engine, (BASE, *OTHERS, *OF_A_NEWCOMER))
        grafana = provide_if_possible(engine, GRAFANA)
        say(_of_others(engine, [*others, *([grafana] if grafana else [])]))
        provide_compose(engine)
    _secrets()
    data.mkdir(parents=True, exist_ok=True)
    names = (*SERVICES, "prometheus", "grafana")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    override = build_override(data)
    running = Stack(engine, ports, [override], PROJECT)
    with step("four images built") as say:
        running.tags = {"": RELEASE}
        running.build()
        say(f"{megabytes(engine, f'amends/order:{RELEASE}'):.0f} MB on a base of {megabytes(engine, BASE):.0f} MB")
    with step("built again, nothing changed"):
        running.build()
    with step(f"the next version, {NEXT}") as say:
        running.tags = {"": NEXT}
        running.build()
        make_next(engine, [f"amends/{target}:{NEXT}" for target in TARGETS])
        say("with a migration more, and every shell removed from it")
    running.tags = {"": RELEASE}
    stack.callback(running.down)
    with step("`docker compose up --wait`") as say:
        running.up()
        say("everything healthy")
    trial = Trial(running)
    for what, act in (
        ("orders through HTTP", trial.orders_end),
        ("what a container may do", trial.guarded),
        ("SIGTERM under load", trial.drained),
        ("`kill -9` under load", trial.killed),
        ("servers restarted under load", trial.servers_restarted),
        (f"migrations of {NEXT} under load", lambda: trial.migrated(NEXT)),
        (f"rolling upgrade to {NEXT}, without shells", lambda: trial.replaced(NEXT)),
        ("`kill -9` once more, on that version", trial.killed),
        ("profile `observability`", lambda: trial.observed(grafana=grafana is not None)),
        ("audit of money, stock and histories", trial.audited),
        ("`prune`", trial.pruned),
    ):
        with step(what) as say:
            say(act())
    running.down()
    with step("a service by `amends new service`") as say:
        say(try_newcomer(engine))
    with step("docs/deploy.md, word by word") as say:
        environment = {**engine.environment, "COMPOSE_PROJECT_NAME": PROJECT}
        say(_followed(follow(environment, ports, override, grafana=grafana is not None), grafana=grafana is not None))
    if keep:
        print("\n".join(f"{name:<12} {running.url(name)}" for name in SERVICES), "\nCtrl-C removes it.", sep="\n")
        while True:
            time.sleep(1)


def _followed(said: str, *, grafana: bool) -> str:
    """What came of the page's commands, by what they printed. Raises Wrong."""
    paid = re.findall(r"^orders: .*completed (\d+)$", said, re.MULTILINE)
    shown = re.findall(r'"status":"success".*"value":\[[0-9.]+,"(\d+)"\]', said)
    if '"status":"completed"' not in said or [int(each) for each in paid] != [1, 1 + int(shown[0] if shown else -1)]:
        raise Wrong(f"orders paid: {paid}; those that Prometheus shows: {shown}; what was said:\n{said[-3000:]}")
    there = "the dashboard there" if grafana else "Grafana left out, as it was not to be had"
    return f"an order paid; {shown[0]} more in Prometheus, {there}; then another version, and what is old pruned"


def _secrets() -> None:
    subprocess.run(["sh", str(ROOT / "deploy" / "secrets.sh")], check=True)


def _of_others(engine: Engine, provided: Sequence[Provided]) -> str:
    version = engine.says("version", "--format", "{{.Server.Version}}")
    return f"Docker {version}; " + ", ".join(f"{each.name} ({each.how})" for each in provided)


def written(page: str, results: Sequence[Result]) -> str:
    """The page with these results between its marks."""
    moment = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    rows = "\n".join(f"| {each.what} | {each.found} | {each.seconds:.0f} |" for each in results)
    table = f"As of {moment}:\n\n| what | found | seconds |\n| --- | --- | --- |\n{rows}\n"
    new, count = re.subn(
        r"(<!-- trial -->\n).*?(<!-- end -->)", lambda found: f"{found[1]}{table}{found[2]}", page, flags=re.DOTALL
    )
    if count != 1:
        raise Wrong("docs/deploy.md has no place for the results: <!-- trial --> … <!-- end -->")
    return new


if __name__ == "__main__":
    app(prog_name="python -m deploy.containers")
