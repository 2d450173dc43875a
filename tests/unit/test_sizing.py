"""How many messages the next batch takes."""

from __future__ import annotations

from messaging.sizing import Sizing


def test_full_batches_that_are_quick_double_up_to_the_most() -> None:
    """While the queue fills every batch and each takes less than half of what it may, the next is twice as large."""
    sizing = Sizing(500)
    sizes = [sizing.now]
    for _ in range(4):
        sizing.took(sizing.now, 0.05)
        sizes.append(sizing.now)
    assert sizes == [100, 200, 400, 500, 500]


def test_a_batch_that_was_not_full_changes_nothing() -> None:
    """A size that nobody needed is no reason for a larger one."""
    sizing = Sizing(500)
    sizing.took(99, 0.01)
    assert sizing.now == 100


def test_a_slow_batch_halves_the_next() -> None:
    """What was too much at once is halved, by what it was and not by what it might have been, down to ten."""
    sizing = Sizing(500)
    sizes = []
    for count, seconds in [(100, 0.3), (50, 0.2), (50, 0.26), (25, 60.0), (12, 0.3), (10, 0.3)]:
        sizing.took(count, seconds)
        sizes.append(sizing.now)
    assert sizes == [50, 50, 25, 12, 10, 10]


def test_a_setting_below_ten_is_kept() -> None:
    """Whoever wants batches of one has them, however slow or quick."""
    sizing = Sizing(1)
    assert sizing.now == 1
    for seconds in (0.001, 1.0, 0.001):
        sizing.took(1, seconds)
        assert sizing.now == 1


def test_a_size_between_too_quick_and_too_slow_stays() -> None:
    """Between half of what a batch may take and all of it there is nothing to mend."""
    sizing = Sizing(500)
    sizing.took(100, 0.2)
    assert sizing.now == 100
