"""Which shard an instance lies in."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from orchestrator.saga.state import saga_id
from orchestrator.sharding import Placement, shard_of

IDS = [saga_id("fulfill_order", number) for number in range(4000)]


def test_where_instances_lie_never_changes() -> None:
    """As the algorithm's authors have it: instances lie in databases already."""
    ids = [UUID(int=number) for number in (0, 1, 2, 1 << 63, (1 << 64) - 1)]

    assert [shard_of(each, 1) for each in ids] == [0, 0, 0, 0, 0]
    assert [shard_of(each, 2) for each in ids] == [0, 0, 0, 1, 1]
    assert [shard_of(each, 16) for each in ids] == [0, 6, 15, 12, 10]


def test_all_shards_get_the_same_share() -> None:
    """Within a tenth."""
    found = Counter(shard_of(each, 4) for each in IDS)

    assert set(found) == {0, 1, 2, 3}
    assert all(900 < number < 1100 for number in found.values())


def test_a_further_shard_takes_its_share_and_moves_nothing_else() -> None:
    """Whatever moves, moves to the new one."""
    moved = [shard_of(each, 5) for each in IDS if shard_of(each, 4) != shard_of(each, 5)]

    assert set(moved) == {4}
    assert 700 < len(moved) < 900


def test_an_instance_is_in_one_placement_of_all() -> None:
    """Each id belongs to one shard."""
    places = [Placement(number, 3) for number in range(3)]

    assert all(sum(each in place for place in places) == 1 for each in IDS)
