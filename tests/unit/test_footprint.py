"""What one saga costs, out of what everything was before many of them and after."""

from __future__ import annotations

from benchmarks.footprint import Each, Point, between, footprint, through
from benchmarks.metering import Meter
from benchmarks.sizing import Request, Stored
from benchmarks.usage import Usage


def test_what_lies_between_two_moments_is_shared_by_the_sagas() -> None:
    """A thousand of them; a table that has not grown is left out, one that nobody wrote to as well."""
    before = Point(
        usage=Usage({"order": 1.0, "broker": 10.0}, {"order": 5}),
        wal={"order": 1_000_000},
        stored={
            "order": {"orders": Stored(100, 8192, 16384), "outbox": Stored(0, 8192, 8192), "stock": Stored(2, 1, 1)}
        },
        sent={"broker": 500},
        received={"broker": 700},
        copied=20_000,
    )
    after = Point(
        usage=Usage({"order": 1.5, "broker": 12.0}, {"order": 9}),
        wal={"order": 5_000_000},
        stored={
            "order": {
                "orders": Stored(1100, 108_192, 36_384),
                "outbox": Stored(0, 65_536, 8192),
                "stock": Stored(2, 1, 1),
            }
        },
        sent={"broker": 4_000_500},
        received={"broker": 6_000_700},
        copied=9_020_000,
    )
    assert between(before, after, 1000) == Each(
        cpu_ms={"order": 0.5, "broker": 2.0},
        wal_bytes={"order": 4000},
        stored={"order": {"orders": Stored(1.0, 100.0, 20.0)}},
        sent_bytes={"broker": 4000},
        received_bytes={"broker": 6000},
        copied_bytes=9000,
    )


def _each(order_ms: float, database_ms: float, wal: int) -> Each:
    cpu = {"orchestrator": 1.0, "order": order_ms, "payment": 0.3, "broker": 0.6, "order database": database_ms}
    return Each(cpu, {"order": wal}, {"order": {}}, {"broker": 1}, {"broker": 2}, 3)


def test_a_request_is_what_the_service_costs_more_with_it() -> None:
    """Its process, its database, its log; the rest is the saga's, as it is from the start event on."""
    found = footprint(_each(0.4, 0.2, 4000), _each(2.5, 0.9, 5500), copies=3)
    assert found.request == Request("order", cpu_ms=2.1, database_cpu_ms=0.7, wal_bytes=1500)
    assert (found.steps, found.compensated, found.copies) == (3, 0.1, 3)
    assert found.cpu_ms["order"] == 0.4
    assert found.wal_bytes == {"order": 4000}
    assert found.copied_bytes == 3


def test_a_request_costs_nothing_rather_than_less() -> None:
    """Where the noise of a busy machine was larger than it."""
    assert footprint(_each(0.4, 0.2, 4000), _each(0.3, 0.1, 3900), copies=1).request == Request("order", 0.0, 0.0, 0)


async def test_a_server_is_the_same_behind_its_meter() -> None:
    """User, password and database stay; only the port is another."""
    async with Meter("127.0.0.1", 5432) as meter:
        url = through("postgresql://amends:s3cret@127.0.0.1:5432/orders", meter)
        assert url == f"postgresql://amends:s3cret@127.0.0.1:{meter.port}/orders"
