"""What a process loads when it starts, and what it leaves for those who need it."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from messaging import loading

EX_UNAVAILABLE = 69

RUN = """
import atexit, gc, json, sys
from pathlib import Path

told = Path(sys.argv.pop(1))
atexit.register(lambda: told.write_text(json.dumps([sorted(sys.modules), gc.get_freeze_count(), gc.isenabled()])))
exec(sys.argv.pop(1))
"""
AMENDS = "from orchestrator.cli import script; script()"

MIGRATING = {"alembic", "mako"}
PICTURES = {"rich.progress", "rich.live", "orchestrator.cli.dashboard"}
HTTP_CLIENT = {"httpx", "httpcore"}
TELEMETRY = {"prometheus_client", "messaging.telemetry.tracing", "messaging.telemetry.exposition", "opentelemetry.sdk"}
SIGNING = {"cryptography", "messaging.signing", "messaging.subjects"}
OTHER_COMMANDS = {"orchestrator.cli.repairing", "orchestrator.cli.dead_letters", "orchestrator.cli.replaying"}


def _module(name: str) -> str:
    return f"import runpy; runpy.run_module({name!r}, run_name='__main__', alter_sys=True)"


def _run(folder: Path, program: str, *words: str) -> tuple[int, set[str], int, bool]:
    """Exit code, the modules in the end, how many objects are never looked at, whether the others are."""
    told = folder / "told.json"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AMENDS_", "PAYMENT_"))}
    environment |= {
        "DATABASE_URL": f"sqlite:///{folder / 'rows.db'}",
        "AMQP_URL": "amqp://127.0.0.1:1/",
        "AMENDS_START_TIMEOUT": "0",
        "PORT": "0",
    }
    ended = subprocess.run(
        [sys.executable, "-c", RUN, str(told), program, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    modules, frozen, collecting = json.loads(told.read_text())
    return ended.returncode, set(modules), frozen, collecting


@pytest.mark.parametrize(
    ("module", "migrate", "needless"),
    [
        (
            "orchestrator",
            AMENDS,
            MIGRATING | PICTURES | HTTP_CLIENT | TELEMETRY | SIGNING | OTHER_COMMANDS | {"fastapi", "opentelemetry"},
        ),
        (
            "services.order",
            _module("services.order"),
            MIGRATING | PICTURES | HTTP_CLIENT | TELEMETRY | SIGNING | {"services.order.place"},
        ),
        (
            "services.payment",
            _module("services.payment"),
            MIGRATING | PICTURES | HTTP_CLIENT | TELEMETRY | SIGNING | {"services.payment.http_gateway"},
        ),
    ],
)
def test_a_process_loads_what_it_runs_with(tmp_path: Path, module: str, migrate: str, needless: set[str]) -> None:
    """Up to where it asks for the broker; not what migrates, draws or asks others. The collector leaves it alone."""
    code, modules, _, _ = _run(tmp_path, migrate, "migrate")
    assert code == 0
    assert modules >= MIGRATING

    code, modules, frozen, collecting = _run(tmp_path, _module(module))
    assert code == EX_UNAVAILABLE
    assert modules >= {"aio_pika", "sqlalchemy.dialects.sqlite.aiosqlite", "uvicorn"}
    assert modules & needless == set()
    assert frozen > 100_000
    assert collecting


def test_a_command_loads_no_other(tmp_path: Path) -> None:
    """Nor the broker's library, where it only looks into the database."""
    assert _run(tmp_path, AMENDS, "migrate")[0] == 0
    code, modules, _, _ = _run(tmp_path, AMENDS, "list")
    assert code == 0
    assert "orchestrator.cli.listing" in modules
    assert modules & (MIGRATING | HTTP_CLIENT | OTHER_COMMANDS | {"fastapi", "aio_pika", "asyncpg"}) == set()


def test_nothing_is_collected_meanwhile_and_what_was_there_never_again() -> None:
    """Whatever comes later is collected as before; inside another one it all ends with the outer one."""
    before = gc.get_freeze_count()
    try:
        with loading.uncollected():
            assert not gc.isenabled()
            kept: list[list[int]] = [[] for _ in range(1000)]
            with loading.uncollected():
                assert not gc.isenabled()
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() >= before + len(kept)
    finally:
        gc.unfreeze()


def test_a_failure_while_loading_does_not_switch_the_collector_off() -> None:
    """It is as it was, as after a success."""
    with pytest.raises(ImportError), loading.uncollected():
        raise ImportError("no such module")
    assert gc.isenabled()
    gc.unfreeze()


def test_a_process_that_serves_looks_for_garbage_seldom() -> None:
    """Whoever has set how often it is done finds it so again afterwards."""
    before = gc.get_threshold()
    with loading.seldom_collected():
        assert gc.get_threshold() == (100_000, *before[1:])
    assert gc.get_threshold() == before
