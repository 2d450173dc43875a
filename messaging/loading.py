"""How a program loads its modules: without the garbage collector, which would go through all of them again and again;
and how it runs: with a collector that comes seldom.

What a thousand modules leave behind (classes, functions, models) stays until the end; looking for garbage there takes
a tenth of a second of a start, and once more whenever everything is collected. Imports nothing that takes time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Meanwhile nothing is collected; what is there at the end is never looked at again, and the rest is as before.

    Inside another one, or where collecting was switched off by somebody else, it leaves that to them.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


COLLECT_AFTER = 100_000
"""Containers more than there were after which a process that serves looks for garbage."""


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Meanwhile garbage is looked for after COLLECT_AFTER more containers, not after 700.

    Two full batches and what is remembered of the sagas under way are up to 88,000 (messages, states, rows), and all of
    them go by themselves: what batches and requests leave behind that refers to itself in a circle was looked for, and
    there was nothing. So to look at all is vain; to look after 10,000 took a twelfth of an orchestrator's time, 6 ms
    each. What errors and lost connections leave is never more than so many containers.
    """
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
