"""What every peer is given to do, and what it has to have done: standard library only, for environments of their own.

An order is authorized, confirmed and captured. Every tenth is refused at the last step, and the first two are undone.
The steps keep no books of their own (ours do): that is in the peers' favor. The money they moved is in their results.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

AMOUNT = 1499
"""Minor units of each order."""
FAILS_EVERY = 10

Step = Callable[[str, int], Awaitable[int]]
"""Durably carries out the named step for the order with this number; returns the money that it moved."""


class OutOfStock(Exception):
    """The order cannot be captured, now or later."""


def move(step: str, number: int) -> int:
    """The work of one step. Raises OutOfStock for every tenth order's last."""
    if step == "capture" and number % FAILS_EVERY == 0:
        raise OutOfStock(f"order {number} asks for what is sold out")
    return {"authorize": AMOUNT, "confirm": 0, "capture": AMOUNT, "void": -AMOUNT, "cancel": 0}[step]


async def saga(step: Step, number: int, refused: tuple[type[Exception], ...]) -> dict[str, int | str]:
    """The three steps, and where the last is refused the two compensations, the latest first."""
    held = await step("authorize", number)
    held += await step("confirm", number)
    try:
        captured = await step("capture", number)
    except refused:
        held += await step("cancel", number)
        held += await step("void", number)
        return {"status": "compensated", "held": held, "captured": 0}
    return {"status": "completed", "held": held - captured, "captured": captured}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a peer's program prints, as one JSON object: `cpu_s` by process, `findings` what is not right."""

    sagas_per_second: float
    cpu_s: dict[str, float]
    findings: list[str]
    settings: dict[str, str]

    def say(self) -> None:
        """Print it as the last line."""
        words = {
            "sagas_per_second": self.sagas_per_second,
            "cpu_s": self.cpu_s,
            "findings": self.findings,
            "settings": self.settings,
        }
        sys.stdout.write(json.dumps(words) + "\n")


def findings(results: Sequence[dict[str, int | str]], count: int) -> list[str]:
    """What is not right of the results of orders 0 … count-1."""
    refused = -(-count // FAILS_EVERY)
    expected = {
        "ended": count,
        "compensated": refused,
        "completed": count - refused,
        "captured": (count - refused) * AMOUNT,
        "held": 0,
    }
    found = {
        "ended": len(results),
        "compensated": sum(each["status"] == "compensated" for each in results),
        "completed": sum(each["status"] == "completed" for each in results),
        "captured": sum(int(each["captured"]) for each in results),
        "held": sum(int(each["held"]) for each in results),
    }
    return [
        f"{name}: {found[name]}, where {value} is right" for name, value in expected.items() if found[name] != value
    ]


def own_cpu() -> float:
    """CPU seconds that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
