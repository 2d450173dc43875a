"""What a seed means: the faults, the customers and the services' settings of one run, all drawn before it begins."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

from tests.simulation.network import Weather

ORCHESTRATOR, ORDER, PAYMENT, TRAVEL = "orchestrator", "order", "payment", "travel"
SHOP = (ORCHESTRATOR, ORDER, PAYMENT)
AGENCY = (ORCHESTRATOR, TRAVEL)
SHOP_QUEUES = ("orchestrator.events", "order.commands", "order.events", "payment.commands")
AGENCY_QUEUES = ("orchestrator.events", "travel.commands", "travel.events")

PLACES = (
    "",
    "statement",
    "before commit",
    "after commit",
    "committed",
    "before ack",
    "after ack",
    "acknowledged",
    "before publish",
    "after publish",
    "published",
    "claimed",
)
"""Where a process can be killed: an operation of the simulated world, or a checkpoint of the code itself."""


@dataclass(frozen=True)
class Crash:
    """From `at` on, kill a service when it reaches `place` for the `times`-th time; start it again `down` later."""

    at: float
    service: str
    place: str
    times: int
    down: float
    orderly: bool = False
    """Instead of being killed, it is asked to stop, and drains."""


@dataclass(frozen=True)
class Spell:
    """Something is wrong with `what` for a while."""

    at: float
    what: str
    length: float


@dataclass(frozen=True)
class Account:
    """A customer's account."""

    customer: str
    limit: int
    review: float = 0.0
    """Seconds for which authorizations are put off as under review."""
    offline: float = 0.0
    """Seconds for which the issuer cannot be asked."""


@dataclass(frozen=True)
class Wish:
    """An order somebody will place."""

    at: float
    key: str
    customer: str
    lines: tuple[tuple[str, int, int], ...]
    """Sku, quantity, amount."""
    again: float | None
    """So many seconds after it was placed, the same request is sent once more."""
    cancel: float | None
    """So many seconds after it was placed, its cancellation is asked for."""


@dataclass(frozen=True)
class TripWish:
    """A trip somebody will request; an expensive one is approved some time, unless it is withdrawn."""

    at: float
    key: str
    traveler: str
    flight: str
    hotel: str
    price: int
    cooling_off_minutes: int
    approve: float
    """So many seconds after the request, somebody approves it."""
    withdraw: float | None


@dataclass(frozen=True)
class Plan:
    """One run."""

    seed: int
    travel: bool
    """Whether it is about trips, whose saga has parallel steps, a wait and a delay; otherwise it is about orders."""
    calm_after: float
    """Seconds after which nothing goes wrong any more."""
    weather: Weather
    crashes: tuple[Crash, ...]
    disconnects: tuple[Spell, ...]
    unbound: tuple[Spell, ...]
    outages: tuple[Spell, ...]
    uncertain_commits: float
    latency: float
    skew: dict[str, timedelta]
    interval: float
    batch_size: int
    timeout: float
    attempts: int
    gateway: bool
    gateway_unclear: float
    accounts: tuple[Account, ...]
    stock: dict[str, int]
    wishes: tuple[Wish, ...]
    offers: dict[tuple[str, str], int]
    """How many of each kind and name are free."""
    travelers: dict[str, int]
    """What each can pay."""
    trips: tuple[TripWish, ...]
    lanes: int = 1
    unsteady: float = 0.0
    """Seconds by which each life of a service may find its clock set otherwise."""
    sealed: bool = False
    """Whether the travel service has keys, and everybody else carries tokens."""
    keyless: tuple[Spell, ...] = ()
    """When the store of keys does not answer."""
    patience: float = 3_000.0
    """Seconds after the last fault in which everything must have become quiet."""
    broken_lines: float = 0.0
    """Chance that a request to a database server loses its connection: before it, in its midst, or before its answer.
    This and what follows are of no account on SQLite."""
    twins: tuple[str, ...] = ()
    """Services of which a second process runs beside the first."""
    hang_ups: tuple[Spell, ...] = ()
    """When a database server ends a service's connections: one, or all of them where it takes long."""

    @property
    def services(self) -> tuple[str, ...]:
        """Who takes part."""
        return AGENCY if self.travel else SHOP


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    lines = random.Random(f"lines {seed}")
    dice = random.Random(f"plan {seed}")
    calm_after = dice.uniform(10, 30)
    travel = dice.random() < 0.25
    services, queues = (AGENCY, AGENCY_QUEUES) if travel else (SHOP, SHOP_QUEUES)
    number = dice.choice((3, 3, 4, 4, 5, 6, 8))
    rough = dice.choice((0.0, 0.3, 1.0, 1.0))
    return Plan(
        seed=seed,
        travel=travel,
        calm_after=calm_after,
        weather=Weather(
            lost=rough * dice.choice((0.0, 0.1, 0.3)),
            unheard=rough * dice.choice((0.0, 0.1, 0.3)),
            doubled=rough * dice.choice((0.0, 0.2, 0.5)),
            strayed=rough * dice.choice((0.0, 0.2, 0.5)),
            delay=dice.choice((0.01, 0.3, 1.5)),
        ),
        crashes=tuple(_crash(dice, calm_after, services) for _ in range(dice.randrange(6))),
        disconnects=_spells(dice, calm_after, services, 3, 4.0),
        unbound=_spells(dice, calm_after, queues, 2, 6.0),
        outages=_spells(dice, calm_after, services, 2, 5.0),
        uncertain_commits=dice.choice((0.0, 0.0, 0.05)),
        latency=dice.choice((0.0, 0.1, 0.3)),
        skew={service: timedelta(seconds=dice.choice((0.0, dice.uniform(-3, 3)))) for service in services},
        interval=dice.choice((2.0, 4.0, 8.0)),
        batch_size=dice.choice((2, 10, 100)),
        timeout=dice.choice((1.0, 3.0, 6.0)),
        attempts=dice.randint(1, 3),
        gateway=dice.random() < 0.35,
        gateway_unclear=dice.choice((0.0, 0.2, 0.5)),
        accounts=(
            Account("ann", 100_000),
            Account("bob", dice.randint(100, 600)),
            Account("cat", 100_000, review=dice.uniform(1, 20)),
            Account("dan", 100_000, offline=dice.uniform(1, 25)),
        ),
        stock={"CD": dice.randint(2, 15), "LP": dice.randint(0, 6)},
        wishes=() if travel else tuple(_wish(dice, each) for each in range(number)),
        offers={("flight", "TP 571"): dice.randint(1, 6), ("hotel", "River"): dice.randint(1, 6)},
        travelers={"ann": dice.randint(50_000, 200_000), "bob": dice.randint(0, 100_000)},
        trips=tuple(_trip(dice, each) for each in range(number)) if travel else (),
        lanes=dice.choice((1, 1, 2, 3)),
        sealed=travel and dice.random() < 0.5,
        keyless=_spells(dice, calm_after, ("keys",), 3, 5.0),
        broken_lines=lines.choice((0.0, 0.0, 0.005, 0.02)),
        twins=lines.choice(((), (), (ORCHESTRATOR,), services[:1] + services[-1:])),
        hang_ups=_spells(lines, calm_after, services, 3, 1.0),
    )


def _crash(dice: random.Random, until: float, services: tuple[str, ...]) -> Crash:
    return Crash(
        at=dice.uniform(0, until),
        service=dice.choice(services),
        place=dice.choice(PLACES),
        times=dice.randint(1, 12),
        down=dice.choice((0.1, dice.uniform(0.1, 8))),
        orderly=dice.random() < 0.15,
    )


def _spells(dice: random.Random, until: float, whats: tuple[str, ...], most: int, longest: float) -> tuple[Spell, ...]:
    return tuple(
        Spell(dice.uniform(0, until), dice.choice(whats), dice.uniform(0.05, longest))
        for _ in range(dice.randint(0, most))
    )


def _wish(dice: random.Random, number: int) -> Wish:
    return Wish(
        at=dice.choice((0.0, dice.uniform(0, 12))),
        key=f"wish-{number}",
        customer=dice.choice(("ann", "ann", "bob", "bob", "cat", "dan")),
        lines=tuple(
            (dice.choice(("CD", "LP")), dice.randint(1, 3), dice.choice((0, dice.randint(1, 250))))
            for _ in range(dice.randint(1, 2))
        ),
        again=dice.choice((None, dice.uniform(0, 10))),
        cancel=dice.choice((None, None, dice.uniform(0, 6), dice.uniform(0, 0.5))),
    )


def _trip(dice: random.Random, number: int) -> TripWish:
    return TripWish(
        at=dice.choice((0.0, dice.uniform(0, 12))),
        key=f"trip-{number}",
        traveler=dice.choice(("ann", "ann", "bob", "nobody")),
        flight=dice.choice(("TP 571", "TP 571", "TP 571", "none")),
        hotel="River",
        price=dice.randint(0, 80_000),
        cooling_off_minutes=dice.choice((0, 0, 0, 1)),
        approve=dice.choice((dice.uniform(0, 0.5), dice.uniform(0, 15))),
        withdraw=dice.choice((None, None, None, dice.uniform(0, 10))),
    )
