"""Acknowledging what several lanes have handled: in order, unless one of them takes too long."""

from __future__ import annotations

from collections.abc import Sequence

from messaging.bus import Delivery
from messaging.settling import Settling


class Line:
    """A subscription that remembers what was acknowledged together."""

    attached = True

    def __init__(self) -> None:
        self.said: list[list[int]] = []

    def holds(self, delivery: Delivery) -> bool:
        return True

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.said.append([each.tag for each in deliveries])

    async def reject(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        raise AssertionError("nothing is rejected here")

    async def step_back(self) -> None:
        raise AssertionError("nobody steps back here")

    async def cancel(self) -> None:
        raise AssertionError("nothing is canceled here")


def deliveries(*tags: int, queue: str = "depot.in") -> list[Delivery]:
    """Deliveries with these tags."""
    return [Delivery(queue, tag, b"{}", "amends.commands", "parcel.pack") for tag in tags]


async def test_what_is_handled_first_is_acknowledged_first() -> None:
    """A batch that ends before one that was taken earlier is acknowledged behind it, in parts or whole."""
    line = Line()
    settling = Settling({"depot.in": line}, most=10)
    first, second = settling.begin(), settling.begin()

    await settling.ack(second, deliveries(4, 5))
    settling.end(second)
    await settling.catch_up()
    assert line.said == []

    third = settling.begin()
    await settling.ack(third, deliveries(6))
    await settling.ack(first, deliveries(1, 2))
    await settling.ack(first, deliveries(3))
    assert line.said == [[1, 2], [3]]
    settling.end(first)
    await settling.catch_up()
    assert line.said == [[1, 2], [3], [4, 5, 6]]

    await settling.ack(third, deliveries(7))
    settling.end(third)
    await settling.catch_up()
    assert line.said == [[1, 2], [3], [4, 5, 6], [7]]


async def test_a_batch_behind_two_others_waits_for_both() -> None:
    """What has waited for the first waits on for the second."""
    line = Line()
    settling = Settling({"depot.in": line}, most=10)
    first, second, third = settling.begin(), settling.begin(), settling.begin()
    await settling.ack(third, deliveries(3))
    settling.end(third)
    await settling.catch_up()
    await settling.ack(first, deliveries(1))
    settling.end(first)
    await settling.catch_up()
    assert line.said == [[1]]
    await settling.ack(second, deliveries(2))
    settling.end(second)
    await settling.catch_up()
    assert line.said == [[1], [2], [3]]


async def test_a_batch_that_hangs_keeps_no_others_for_long() -> None:
    """More than so many do not wait: the broker would deliver nothing any more."""
    line, other = Line(), Line()
    settling = Settling({"depot.in": line, "depot.events": other}, most=3)
    settling.begin()
    for tag in (2, 3):
        turn = settling.begin()
        await settling.ack(turn, [*deliveries(tag), *deliveries(tag, queue="depot.events")][: tag - 1])
        settling.end(turn)
        await settling.catch_up()
    assert (line.said, other.said) == ([], [])

    turn = settling.begin()
    await settling.ack(turn, deliveries(4))
    assert (line.said, other.said) == ([[2, 3, 4]], [[3]])
    settling.end(turn)
    await settling.catch_up()
    assert (line.said, other.said) == ([[2, 3, 4]], [[3]])
