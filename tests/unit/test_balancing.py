"""How many partitions a process may keep."""

import pytest

from messaging.balancing import fair_share


@pytest.mark.parametrize(
    ("queues", "processes", "share"), [(8, 1, 8), (8, 2, 4), (8, 3, 3), (8, 8, 1), (8, 20, 1), (8, 0, 8), (1, 2, 1)]
)
def test_a_fair_share_leaves_no_partition_out(queues: int, processes: int, share: int) -> None:
    """It is rounded up, and where nobody is counted there is still whoever asks."""
    assert fair_share(queues, processes) == share
