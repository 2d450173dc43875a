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
from orchestrator.saga.state import Direction, SagaState, saga_id
from tests.simulation.issuer import CAPTURED
from tests.simulation.plan import ORCHESTRATOR, ORDER, PAYMENT
from tests.simulation.wiring import catalog
from tests.simulation.world import World

_CONSUMER = {
    "orchestrator.events": ORCHESTRATOR,
    "order.commands": ORDER,
    "order.events": ORDER,
    "payment.commands": PAYMENT,
}


class _Checking:
    """One look at a finished run."""

    def __init__(self, world: World, placed: Mapping[str, UUID]) -> None:
        self.world = world
        self.placed = placed
        self.orders = {UUID(row["id"]): row for row in self._rows(ORDER, "SELECT * FROM orders")}
        self.sagas = {UUID(row["id"]): row for row in self._rows(ORCHESTRATOR, "SELECT * FROM saga")}

    def _rows(self, service: str, statement: str) -> list[dict[str, Any]]:
        return self.world.stores[service].rows(statement)

    def wrong(self, what: str) -> None:
        self.world.problem(what)

    def same(self, what: str, expected: object, found: object) -> None:
        if expected != found:
            self.wrong(f"{what}: expected {expected}, found {found}")

    # -- every start has an end ------------------------------------------------------------------------------

    def ends(self) -> dict[str, int]:
        """Every order a customer was promised is there once, and its saga and it have ended alike."""
        self.same("orders in the database", sorted(self.placed.values()), sorted(self.orders))
        expected = {saga_id("fulfill_order", order_id): order_id for order_id in self.orders}
        self.same("instances", sorted(expected), sorted(self.sagas))
        for identity, row in self.sagas.items():
            order = self.orders.get(expected.get(identity, identity))
            if order is None:
                continue
            match row["status"]:
                case "completed":
                    self.same(
                        f"order of saga {identity}", ("completed", order["total"]), (order["status"], order["captured"])
                    )
                case "compensated":
                    self.same(f"order of saga {identity}", ("canceled", None), (order["status"], order["captured"]))
                case other:
                    self.wrong(f"saga {identity} of order {order['id']} is {other}: {row['step']} {row['reason']}")
        return dict(Counter(row["status"] for row in self.sagas.values()))

    # -- money and stock -------------------------------------------------------------------------------------

    def money(self) -> None:
        """What was captured is what the completed orders cost; nothing is held; the books say so three times over."""
        completed = {each: row["total"] for each, row in self.orders.items() if row["status"] == "completed"}
        owed = {each: total for each, total in completed.items() if total}
        authorizations = self._rows(PAYMENT, "SELECT * FROM payment_authorization")
        self.same(
            "captured authorizations",
            completed,
            {UUID(row["order_id"]): row["amount"] for row in authorizations if row["status"] == "captured"},
        )
        self.same("holds left", [], [row["order_id"] for row in authorizations if row["status"] == "held"])
        balances = {
            row["account"]: row["sum"]
            for row in self._rows(PAYMENT, "SELECT account, sum(amount) AS sum FROM journal_posting GROUP BY account")
            if row["sum"]
        }
        spent: Counter[str] = Counter()
        for order_id, total in owed.items():
            spent[self.orders[order_id]["customer_id"]] += total
        ledger = {f"customer:{customer}": -total for customer, total in spent.items()}
        self.same("journal", ledger | ({"merchant:sales": sum(owed.values())} if owed else {}), balances)
        for row in self._rows(PAYMENT, "SELECT * FROM account"):
            self.same(f"account {row['id']}", (0, spent[row["customer_id"]]), (row["held"], row["captured"]))
            if row["captured"] > row["credit_limit"]:
                self.wrong(f"account {row['id']} is beyond its limit: {row['captured']} of {row['credit_limit']}")
        if self.world.plan.gateway:
            cards = self.world.issuer.cards
            charged = {each: card.amount for each, card in cards.items() if card.status == CAPTURED}
            self.same("charged by the gateway", completed, charged)
            self.same("holds at the gateway", [], [each for each, card in cards.items() if card.status == "held"])
            twice = {key: times for key, times in self.world.issuer.worked.items() if times != 1}
            self.same("keys that worked more than once at the gateway", {}, twice)

    def stock(self) -> None:
        """What is missing from the shelf is what was sold."""
        left = Counter(self.world.plan.stock)
        for row in self._rows(
            ORDER, "SELECT sku, quantity, status FROM order_line JOIN orders ON orders.id = order_id"
        ):
            if row["status"] == "completed":
                left[row["sku"]] -= row["quantity"]
        found = {row["sku"]: row["on_hand"] for row in self._rows(ORDER, "SELECT * FROM stock")}
        self.same("stock", dict(left), found)

    # -- messages --------------------------------------------------------------------------------------------

    def messages(self) -> None:
        """Nothing is left lying anywhere, nothing took effect twice, and whatever was confirmed was taken in."""
        taken: dict[str, set[str]] = {}
        for service, store in self.world.stores.items():
            self.same(f"outbox of {service}", [], store.outbox())
            for table in ("deferred", "dead_letter"):
                rows = self._rows(service, f"SELECT type, message_id, correlation_id FROM {table}")
                self.same(f"{table} of {service}", [], rows)
            inbox = self._rows(service, "SELECT message_id, status FROM inbox")
            self.same(
                f"unsettled inbox of {service}",
                [],
                [row for row in inbox if row["status"] not in ("done", "tombstone")],
            )
            taken[service] = {str(UUID(row["message_id"])) for row in inbox}
            effects = Counter(
                (row["type"], row["subject"])
                for row in self._rows(service, "SELECT type, subject FROM simulated_effect")
            )
            self.same(f"messages that took effect twice at {service}", {}, {k: n for k, n in effects.items() if n > 1})
        undone = {
            row["subject"]: row["id"]
            for row in self._rows(PAYMENT, "SELECT id, subject FROM simulated_effect WHERE type = 'payment.void'")
        }
        for row in self._rows(PAYMENT, "SELECT id, subject FROM simulated_effect WHERE type = 'payment.authorize'"):
            if row["id"] > undone.get(row["subject"], row["id"]):
                self.wrong(f"the payment of {row['subject']} was authorized, though it was undone before")
        self.same("parked events", [], self._rows(ORCHESTRATOR, "SELECT type, reason FROM parked_event"))
        for queue, message_id in self.world.broker.confirmed:
            consumer = _CONSUMER.get(queue)
            if consumer is None:
                self.wrong(f"{message_id} went to {queue}")
            elif message_id not in taken[consumer]:
                self.wrong(f"{message_id} was confirmed, but {consumer} has no memory of it")
        self.same("messages the broker gave up", [], self.world.broker.given_up)

    # -- histories -------------------------------------------------------------------------------------------

    def histories(self) -> None:
        """Gapless, deterministic, and the state is what they fold into."""
        sagas = {(saga.name, saga.version): saga for saga in catalog(self.world.plan)}
        rows: dict[UUID, list[dict[str, Any]]] = {}
        for row in self._rows(ORCHESTRATOR, "SELECT * FROM saga_history ORDER BY saga_id, seq"):
            rows.setdefault(UUID(row["saga_id"]), []).append(row)
        self.same("instances with a history", sorted(self.sagas), sorted(rows))
        inputs = {json.loads(row["input"]).get("message_id") for each in rows.values() for row in each}
        taken = {str(UUID(row["message_id"])) for row in self._rows(ORCHESTRATOR, "SELECT message_id FROM inbox")}
        self.same("messages the orchestrator has taken in and in no history", [], sorted(taken - inputs))
        for identity, instance in self.sagas.items():
            saga = sagas[instance["name"], instance["version"]]
            self._history(identity, instance, saga, rows.get(identity, []))

    def _history(self, identity: UUID, instance: dict[str, Any], saga: Saga[Any], rows: list[dict[str, Any]]) -> None:
        self.same(
            f"numbers of history {identity}", list(range(1, instance["revision"] + 1)), [row["seq"] for row in rows]
        )
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
        """Only what may have happened is compensated, last first, and nothing once the pivot may have happened."""
        happened: list[str] = []
        compensated: list[str] = []
        committed = False
        for fact in established:
            match fact:
                case f.StepSucceeded(step) | f.StepInDoubt(step):
                    happened.append(step)
                    committed = committed or step == saga.pivot
                case f.CommandSent(step, Direction.COMPENSATION, _, 1):
                    if committed:
                        self.wrong(f"saga {identity} compensates {step} after its pivot")
                    if step not in happened:
                        self.wrong(f"saga {identity} compensates {step}, which cannot have happened")
                    compensated.append(step)
                case f.Compensated():
                    undoable = [step for step in happened if step in saga.compensations]
                    self.same(f"way back of {identity}", undoable[::-1], compensated)
                case f.Completed():
                    self.same(f"compensations of {identity}, which is completed", [], compensated)
                    self.same(f"steps of {identity}", [step.name for step in saga.steps], happened)
                case _:
                    pass


def check(world: World, placed: Mapping[str, UUID]) -> dict[str, int]:
    """Note every property that does not hold as a problem of the world; returns how many sagas ended how."""
    checking = _Checking(world, placed)
    ends = checking.ends()
    checking.money()
    checking.stock()
    checking.messages()
    checking.histories()
    return ends
