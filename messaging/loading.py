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


COLLECT_AFTER = 10_000
"""Containers more than there were after which a process that serves looks for garbage."""


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Meanwhile garbage is looked for after COLLECT_AFTER more containers, not after 700.

    A full batch has some 3,000 at a time (messages, states, rows), and nearly all go with it without being looked for:
    going through them four times meanwhile takes a twentieth of an orchestrator's time more than this. What refers to
    itself in a circle waits longer, but it is never more than so many containers: 2 MiB were measured. Five times as
    many spare little more, and cost 12 MiB.
    """
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
