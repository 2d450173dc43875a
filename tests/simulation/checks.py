"""What must hold when everything is quiet again, read from the databases and from what the outside world saw."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from orchestrator import history
from orchestrator.saga import facts as f
from orchestrator.saga.definition import Saga
from orchestrator.saga.machine import decide, fold
from orchestrator.saga.state import Direction, SagaState
from orchestrator.saga.steps import Parallel
from tests.simulation.looking import Looking
from tests.simulation.orders import Orders
from tests.simulation.plan import ORCHESTRATOR, PAYMENT, TRAVEL
from tests.simulation.trips import Trips
from tests.simulation.wiring import catalog
from tests.simulation.world import World

UNDOING = (
    ("payment.void", PAYMENT, "payment.authorize"),
    ("travel.cancel_flight", TRAVEL, "travel.book_flight"),
    ("travel.cancel_hotel", TRAVEL, "travel.book_hotel"),
)
"""Which command undoes which, and at which service."""


class Everything(Looking):
    """The messages and histories of a finished run, whatever it was about."""

    def look(self) -> None:
        """Note whatever is wrong."""
        self.messages()
        self.histories()

    # -- messages --------------------------------------------------------------------------------------------

    def messages(self) -> None:
        """Nothing is left lying anywhere, nothing took effect twice, and whatever was confirmed was taken in."""
        taken: dict[str, set[str]] = {}
        for service, store in self.world.stores.items():
            self.same(f"outbox of {service}", [], store.outbox())
            for table in ("deferred", "dead_letter"):
                rows = self.rows(service, f"SELECT type, message_id, correlation_id FROM {table}")
                self.same(f"{table} of {service}", [], rows)
            inbox = self.rows(service, "SELECT message_id, status FROM inbox")
            self.same(
                f"unsettled inbox of {service}",
                [],
                [row for row in inbox if row["status"] not in ("done", "tombstone")],
            )
            taken[service] = {str(UUID(row["message_id"])) for row in inbox}
            effects = Counter(
                (row["type"], row["subject"])
                for row in self.rows(service, "SELECT type, subject FROM simulated_effect")
            )
            self.same(f"messages that took effect twice at {service}", {}, {k: n for k, n in effects.items() if n > 1})
        for compensation, service, command in UNDOING:
            if service in self.world.stores:
                self._undone(service, command, compensation)
        self.same("parked events", [], self.rows(ORCHESTRATOR, "SELECT type, reason FROM parked_event"))
        for queue, message_id in self.world.broker.confirmed:
            consumer = queue.partition(".")[0]
            if consumer not in taken:
                self.wrong(f"{message_id} went to {queue}")
            elif message_id not in taken[consumer]:
                self.wrong(f"{message_id} was confirmed, but {consumer} has no memory of it")
        self.same("messages the broker gave up", [], self.world.broker.given_up)

    def _undone(self, service: str, command: str, compensation: str) -> None:
        """A command that comes after its own compensation has no effect any more."""
        effects = self.rows(service, "SELECT id, type, subject FROM simulated_effect ORDER BY id")
        undone = {row["subject"]: row["id"] for row in effects if row["type"] == compensation}
        for row in effects:
            if row["type"] == command and row["id"] > undone.get(row["subject"], row["id"]):
                self.wrong(f"{command} of {row['subject']} took effect, though it was undone before")

    # -- histories -------------------------------------------------------------------------------------------

    def histories(self) -> None:
        """Gapless, deterministic, and the state is what they fold into."""
        sagas = {(saga.name, saga.version): saga for saga in catalog(self.world.plan)}
        rows: dict[UUID, list[dict[str, Any]]] = {}
        for row in self.rows(ORCHESTRATOR, "SELECT * FROM saga_history ORDER BY saga_id, seq"):
            rows.setdefault(UUID(row["saga_id"]), []).append(row)
        self.same("instances with a history", sorted(self.sagas), sorted(rows))
        inputs = {json.loads(row["input"]).get("message_id") for each in rows.values() for row in each}
        taken = {str(UUID(row["message_id"])) for row in self.rows(ORCHESTRATOR, "SELECT message_id FROM inbox")}
        self.same("messages the orchestrator has taken in and in no history", [], sorted(taken - inputs))
        for identity, instance in self.sagas.items():
            saga = sagas[instance["name"], instance["version"]]
            self._history(identity, instance, saga, rows.get(identity, []))

    def _history(self, identity: UUID, instance: dict[str, Any], saga: Saga[Any], rows: list[dict[str, Any]]) -> None:
        self.same(
            f"numbers of history {identity}", list(range(1, instance["revision"] + 1)), [row["seq"] for row in rows]
        )
        moments = [row["at"] for row in rows]
        self.same(f"moments of history {identity}", sorted(moments), moments)
        registry = catalog(self.world.plan).registry
        state: SagaState | None = None
        established: list[f.Fact] = []
        for row in rows:
            facts = history.load_facts(row["facts"], saga)
            if state is not None and state.status.terminal and not all(isinstance(each, f.CameLate) for each in facts):
                self.wrong(f"saga {identity} had ended, yet {row['seq']} says {facts}")
            transition = decide(saga, identity, state, history.load_input(row["input"], registry))
            self.same(f"facts of {identity} at {row['seq']}, decided again", facts, transition.facts)
            self.same(
                f"commands of {identity} at {row['seq']}, decided again",
                row["commands"],
                history.dump_sends(transition.sends),
            )
            state = fold(state, facts)
            established += facts
        stored = history.load_state(
            saga,
            status=instance["status"],
            reason=instance["reason"],
            data=instance["data"],
            progress=instance["progress"],
        )
        self.same(f"state of {identity}", state, stored)
        self._way_back(identity, saga, established)

    def _way_back(self, identity: UUID, saga: Saga[Any], established: list[f.Fact]) -> None:
        """Only what may have happened is compensated, last first, and nothing once the pivot has happened."""
        place = {name: number for number, names in enumerate(_stages(saga)) for name in names}
        happened: list[str] = []
        skipped: list[str] = []
        compensated: list[str] = []
        for fact in established:
            match fact:
                case f.StepSucceeded(step) | f.StepInDoubt(step):
                    happened.append(step)
                case f.StepSkipped(step):
                    skipped.append(step)
                case f.CommandSent(step, Direction.COMPENSATION, _, 1):
                    if saga.pivot in happened:
                        self.wrong(f"saga {identity} compensates {step} after its pivot")
                    if step not in happened:
                        self.wrong(f"saga {identity} compensates {step}, which cannot have happened")
                    compensated.append(step)
                case f.Compensated():
                    undoable = sorted(step for step in happened if step in saga.compensations)
                    self.same(f"what {identity} had to undo", undoable, sorted(compensated))
                    stages = [place[step] for step in compensated]
                    self.same(f"way back of {identity}", sorted(stages, reverse=True), stages)
                case f.Completed():
                    self.same(f"compensations of {identity}, which is completed", [], compensated)
                    self.same(f"steps of {identity}", sorted(place), sorted(happened + skipped))
                    stages = [place[step] for step in happened]
                    self.same(f"way of {identity}", sorted(stages), stages)
                case _:
                    pass


def _stages(saga: Saga[Any]) -> list[list[str]]:
    return [
        [each.name for each in stage.steps] if isinstance(stage, Parallel) else [stage.name] for stage in saga.steps
    ]


def check(world: World, placed: Mapping[str, UUID]) -> dict[str, int]:
    """Note every property that does not hold as a problem of the world; returns how many sagas ended how."""
    for kind in (Trips if world.plan.travel else Orders, Everything):
        kind(world, placed).look()
    return dict(Counter(row["status"] for row in Looking(world, placed).sagas.values()))
