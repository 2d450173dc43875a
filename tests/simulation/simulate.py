"""Run one seed from beginning to end, and say what was wrong with it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import warnings
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, fields
from typing import Any

import structlog

from tests.simulation.checks import check
from tests.simulation.customers import Customers
from tests.simulation.plan import Plan, draw
from tests.simulation.stores import Ground
from tests.simulation.virtual import NothingWillHappen, TimeStandsStill
from tests.simulation.world import World


@dataclass(frozen=True)
class Run:
    """How a seed ended."""

    seed: int
    problems: tuple[str, ...]
    trace: tuple[tuple[float, str, str], ...]
    ends: Mapping[str, int]
    """How many sagas ended in each status."""
    seen: Mapping[str, int]
    """How often what was seen on the way to the database."""

    @property
    def digest(self) -> str:
        """The same for two runs only if all that happened in them is the same."""
        return hashlib.sha256(repr(self.trace).encode()).hexdigest()

    def story(self, plan: Plan) -> str:
        """All of it, to be read."""
        lines = [f"seed {self.seed}", *(f"  {each.name} = {getattr(plan, each.name)}" for each in fields(plan))]
        lines += [f"{at:9.3f}  {who:<16} {what}" for at, who, what in self.trace]
        lines += [f"PROBLEM: {problem}" for problem in self.problems]
        lines.append(f"again: python -m pytest tests/simulation --seed {self.seed}")
        return "\n".join(lines)


class Simulator:
    """Runs seeds one after the other; needs a process without other users of structlog."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        # A killed process never gives its connections back; one that drains must (see World.stop).
        logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", message="The garbage collector is trying to clean up")

    def close(self) -> None:
        """No run will follow."""
        self._ground.close()

    def drop(self) -> None:
        """Leave nothing behind, from another thread, while a run may go on: it is in vain."""
        self._ground.drop()

    def run(self, seed: int, vary: Callable[[Plan], Plan] | None = None, until: str | None = None) -> Run:
        """One seed, with everything that happens under it; `vary` makes another plan of that which is drawn.

        It ends with the first problem that has the words `until` in it: what is broken may never become quiet.
        """
        plan = draw(seed) if vary is None else vary(draw(seed))
        world = World(plan, self._ground)
        _log_into(world)
        ends: dict[str, int] = {}
        try:
            living = world.loop.create_task(_live(world, ends))
            world.end_with(until, living)
            world.loop.run_until_complete(living)
        except asyncio.CancelledError:
            pass  # the problem has been seen
        except (NothingWillHappen, TimeStandsStill) as error:
            world.problem(f"{type(error).__name__}: {error}")
        finally:
            world.close()
        return Run(seed, tuple(world.problems), tuple(world.trace), ends, self._ground.seen)


async def _live(world: World, ends: dict[str, int]) -> None:
    customers = Customers(world)
    for name in world.processes:
        world.begin(name)
    world.befall()
    wishing = asyncio.ensure_future(customers.act())
    await asyncio.wait([wishing], timeout=world.plan.calm_after + 300)
    if not wishing.done():
        world.problem("a customer is still without an answer 300 s after the last fault")
    elif (error := wishing.exception()) is not None:
        world.problem(f"a customer was told of {type(error).__name__}: {error}")
    await world.settle()
    ends |= check(world, customers.placed)
    await world.end()
    if world.stores["orchestrator"].outbox() or not world.broker.quiet:
        world.problem("stopping the services in order left something behind")


def _log_into(world: World) -> None:
    """What the services log becomes part of the trace."""

    def note(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
        life, name = event.pop("life", "-"), event.pop("event", "")
        world.note(life, " ".join((str(name), *(f"{key}={value}" for key, value in event.items()))))
        raise structlog.DropEvent

    structlog.configure(processors=[structlog.contextvars.merge_contextvars, note], cache_logger_on_first_use=False)
