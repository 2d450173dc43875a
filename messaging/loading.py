"""How a program loads its modules: without the garbage collector, which would go through all of them again and again.

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
