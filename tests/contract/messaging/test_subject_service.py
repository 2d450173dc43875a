"""A service with the keys of persons: it opens them at start, says when it cannot reach them, and seals with them."""

from __future__ import annotations

import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from messaging.clock import SystemClock
from messaging.database import Database
from messaging.keys import UnusableKey
from messaging.memory import MemoryBus
from messaging.memory_broker import MemoryBroker
from messaging.migrate import MigrationsPending
from messaging.outbox import emit
from messaging.participant import Participant
from messaging.reached import DatabaseUnavailable
from messaging.schema import outbox
from messaging.service import Service, participant_service
from messaging.settings import ServiceSettings
from messaging.subject_keys import KeysUnavailable
from messaging.subjects import master
from messaging.subjects.erasing import Erasure, erase
from messaging.subjects.master import MasterKey, Masters
from messaging.subjects.store import REMEMBERED_SECONDS, SubjectStore
from orchestrator.assembly import orchestrator
from orchestrator.catalog import Catalog
from orchestrator.settings import OrchestratorSettings
from tests.acceptance.programs import finished
from tests.contract.messaging.bench import StillClock
from tests.unit.mailing import MAILING, Ordered

ORDER = UUID(int=7)


def _masters(place: Path, *keys: MasterKey) -> Path:
    folder = place / "masters"
    folder.mkdir(exist_ok=True)
    for key in keys or (MasterKey("old", bytes(range(32))),):
        (folder / f"{key.id}.json").write_text(master.as_json(key))
    return folder


def _settings(place: Path, keys: str, **more: object) -> ServiceSettings:
    return ServiceSettings(
        database_url=SecretStr(f"sqlite:///{place / 'shop.db'}"),
        amqp_url=SecretStr("memory://"),
        subject_keys=SecretStr(keys),
        master_keys=place / "masters",
        migrate_on_start=True,
        start_timeout=timedelta(0),
    ).model_copy(update=more)


def _service(settings: ServiceSettings) -> Service:
    return participant_service(Participant("shop"), settings, MemoryBus(MemoryBroker(), service="shop"))


def test_keys_lie_in_a_file_of_their_own(tmp_path: Path) -> None:
    """In the service's own, a batch would wait for itself for ever; it is refused before anything is begun."""
    _masters(tmp_path)
    with pytest.raises(UnusableKey, match="AMENDS_SUBJECT_KEYS and DATABASE_URL name the same file"):
        _service(_settings(tmp_path, f"sqlite:///{tmp_path}/../{tmp_path.name}/shop.db"))


async def _emitted(service: Service) -> str:
    """What lies in the outbox of an order that was told there."""
    async with service.database.session(**service.info) as session:
        emit(session, Ordered(order_id=ORDER, customer_id="ada", email="ada@example.org"))
    async with service.database.reading() as connection:
        return str(await connection.scalar(select(outbox.c.body).order_by(outbox.c.id.desc())))


async def test_a_service_seals_with_the_keys_that_it_is_given(database_url: str, tmp_path: Path) -> None:
    """In a database of their own, on either kind; of somebody who was erased nothing is written down."""
    _masters(tmp_path)
    service = _service(_settings(tmp_path, database_url))
    try:
        await service.start()
        assert await service.obstacles() == {}
        body = await _emitted(service)
        assert "ada@example.org" not in body
        key = json.loads(body)["data"]["email"]["key"]
    finally:
        await service.close()

    again, keys = _service(_settings(tmp_path, database_url)), Database(database_url)
    try:
        await again.start()
        assert json.loads(await _emitted(again))["data"]["email"]["key"] == key
        assert (await erase(keys, [Erasure("ada", SystemClock().now(), "grace", "asked")])).subjects == ("ada",)
        assert again.keys is not None
        fresh = _service(_settings(tmp_path, database_url))
        assert fresh.keys is not None
        assert await fresh.keys.opened([key]) == {key: None}
        assert "ada@example.org" not in await _emitted(fresh)
        await fresh.close()
    finally:
        await again.close()
        await keys.close()


async def test_a_service_that_cannot_reach_its_keys_is_not_ready(sqlite_url: str, tmp_path: Path) -> None:
    """At start it gives up after its patience; later it says so and goes on."""
    _masters(tmp_path)
    away = _service(_settings(tmp_path, "postgresql://shop:secret@127.0.0.1:1/subjects"))
    with pytest.raises(DatabaseUnavailable, match=r"subjects does not answer.*or set AMENDS_SUBJECT_KEYS") as told:
        await away.start()
    assert "secret" not in str(told.value)
    await away.close()

    service, keys = _service(_settings(tmp_path, sqlite_url)), Database(sqlite_url)
    try:
        await service.start()
        async with keys.transaction() as connection:
            await connection.exec_driver_sql("DROP TABLE alembic_version_subjects")
            await connection.exec_driver_sql("DROP TABLE subject_key")
        found = await service.obstacles()
        assert found.keys() == {"subject_keys"}
        with pytest.raises(KeysUnavailable, match="no such table"):
            await _emitted(service)
    finally:
        await service.close()
        await keys.close()


async def test_a_missing_master_key_is_seen_until_it_comes(sqlite_url: str, tmp_path: Path) -> None:
    """By its metrics, while others are served; put there, it is found without a restart."""
    _masters(tmp_path)
    clock = StillClock()
    service = participant_service(
        Participant("shop"),
        _settings(tmp_path, sqlite_url, master_key_id="old"),
        MemoryBus(MemoryBroker(), service="shop"),
        clock=clock,
    )
    new = MasterKey("new", bytes(32))
    other = SubjectStore(Database(sqlite_url), lambda: Masters([new], "new"), SystemClock())
    try:
        await service.start()
        assert await _measured(service) == 0
        await other.ensure(["ada"])
        with pytest.raises(KeysUnavailable):
            await _emitted(service)
        assert (await service.obstacles(), await _measured(service)) == ({}, 1)

        (tmp_path / "masters" / "new.json").write_text(master.as_json(new))
        clock.advance(REMEMBERED_SECONDS)
        await _emitted(service)
        assert await _measured(service) == 0
    finally:
        await service.close()
        await other.close()


async def _measured(service: Service) -> float:
    """What the alert looks at."""
    page, _ = await service.telemetry.page("text/plain")
    (found,) = re.findall(r'^amends_obstacle\{[^}]*obstacle="master_key"[^}]*\} (\S+)$', page.decode(), re.MULTILINE)
    return float(found)


async def test_a_service_does_not_begin_with_keys_that_it_cannot_open(sqlite_url: str, tmp_path: Path) -> None:
    """Without its table, without a master key that is in use, with another of the same name."""
    folder = _masters(tmp_path)
    settings = _settings(tmp_path, sqlite_url)
    service = _service(settings)
    await service.start()
    await _emitted(service)
    await service.close()
    (folder / "old.json").unlink()

    for key, words in (
        (MasterKey("new", bytes(32)), "wrapped by the master key 'old', which is not among new in AMENDS_MASTER_KEYS"),
        (MasterKey("old", bytes(32)), "does not open with the master key 'old'"),
    ):
        _masters(tmp_path, key)
        service = _service(settings)
        with pytest.raises(UnusableKey, match=words):
            await service.start()
        await service.close()
        (folder / f"{key.id}.json").unlink()
    with pytest.raises(UnusableKey, match="holds no master keys"):
        _service(settings)
    with pytest.raises(UnusableKey, match="name their folder in AMENDS_MASTER_KEYS"):
        _service(settings.model_copy(update={"master_keys": None}))

    _masters(tmp_path)
    bare = _settings(tmp_path, f"sqlite:///{tmp_path / 'bare.db'}", migrate_on_start=False)
    service = _service(bare)
    with pytest.raises(MigrationsPending, match="the table of subjects' keys is not at head; run `amends subjects"):
        await service.start()
    await service.close()


async def test_the_orchestrator_opens_nothing(sqlite_url: str, tmp_path: Path) -> None:
    """Also where the variable is set for it."""
    _masters(tmp_path)
    settings = OrchestratorSettings(**_settings(tmp_path, sqlite_url).model_dump())
    found = orchestrator(settings, Catalog([MAILING]), MemoryBus(MemoryBroker(), service="orchestrator"))
    assert found.keys is None
    await found.close()


def test_a_process_with_a_wrong_master_key_ends_with_78(tmp_path: Path) -> None:
    """Before it has taken a message, and without a traceback."""
    (tmp_path / "masters.json").write_text('{"kty": "OKP"}')
    ended = finished(
        (sys.executable, "-m", "services.payment"),
        tmp_path,
        AMENDS_SUBJECT_KEYS="sqlite:///subjects.db",
        AMENDS_MASTER_KEYS="masters.json",
        AMQP_URL="amqp://127.0.0.1:1/",
        PORT="0",
        AMENDS_START_TIMEOUT="0",
    )
    assert ended.returncode == 78, ended.stderr
    assert "masters.json is no master key" in ended.stderr
    assert "Traceback" not in ended.stderr
