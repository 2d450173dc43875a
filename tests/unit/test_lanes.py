"""Who has how many transactions at a time."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from messaging.memory import MemoryBroker, MemoryBus
from messaging.service import participant_service
from messaging.settings import ServiceSettings
from orchestrator.assembly import orchestrator
from orchestrator.catalog import Catalog
from orchestrator.sagas.fulfill_order import FULFILL_ORDER
from orchestrator.settings import OrchestratorSettings
from services.order.handlers import participant
from services.order.settings import OrderSettings

POSTGRES = SecretStr("postgresql://nobody@127.0.0.1:9/nothing")
SQLITE = SecretStr("sqlite:///:memory:")


@pytest.mark.parametrize(
    ("url", "lanes", "events"),
    [(POSTGRES, {}, 2), (POSTGRES, {"lanes": 3}, 3), (POSTGRES, {"lanes": 1}, 1), (SQLITE, {}, 1)],
)
async def test_an_orchestrator_has_two_lanes_on_postgresql(url: SecretStr, lanes: dict[str, Any], events: int) -> None:
    """For events as many as are configured, two by default, one on SQLite; for dead letters, which are few, one."""
    settings = OrchestratorSettings(database_url=url, **lanes)
    service = orchestrator(settings, Catalog([FULFILL_ORDER]), MemoryBus(MemoryBroker(), service="orchestrator"))
    assert [len(worker._lanes) for worker in service.workers] == [events, 1]
    await service.database.close()


@pytest.mark.parametrize(("lanes", "expected"), [({}, 1), ({"lanes": 2}, 2)])
async def test_a_participant_has_one_lane_unless_it_is_given_more(lanes: dict[str, Any], expected: int) -> None:
    """Its handlers meet nobody of their own process, unless they are meant to."""
    settings: ServiceSettings = OrderSettings(database_url=POSTGRES, **lanes)
    service = participant_service(participant(), settings, MemoryBus(MemoryBroker(), service="order"))
    assert [len(worker._lanes) for worker in service.workers] == [expected]
    await service.database.close()
