"""What must have become of orders: money, stock and both ends of each saga."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from orchestrator.saga.state import saga_id
from tests.simulation.issuer import CAPTURED
from tests.simulation.looking import Looking
from tests.simulation.plan import ORDER, PAYMENT


class Orders(Looking):
    """The order and payment services of a finished run."""

    def look(self) -> None:
        """Note whatever is wrong."""
        self.orders = {UUID(row["id"]): row for row in self.rows(ORDER, "SELECT * FROM orders")}
        self.ends()
        self.money()
        self.stock()

    # -- every start has an end ------------------------------------------------------------------------------

    def ends(self) -> None:
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

    # -- money and stock -------------------------------------------------------------------------------------

    def money(self) -> None:
        """What was captured is what the completed orders cost; nothing is held; the books say so three times over."""
        completed = {each: row["total"] for each, row in self.orders.items() if row["status"] == "completed"}
        owed = {each: total for each, total in completed.items() if total}
        authorizations = self.rows(PAYMENT, "SELECT * FROM payment_authorization")
        self.same(
            "captured authorizations",
            completed,
            {UUID(row["order_id"]): row["amount"] for row in authorizations if row["status"] == "captured"},
        )
        self.same("holds left", [], [row["order_id"] for row in authorizations if row["status"] == "held"])
        balances = {
            row["account"]: row["sum"]
            for row in self.rows(PAYMENT, "SELECT account, sum(amount) AS sum FROM journal_posting GROUP BY account")
            if row["sum"]
        }
        spent: Counter[str] = Counter()
        for order_id, total in owed.items():
            spent[self.orders[order_id]["customer_id"]] += total
        ledger = {f"customer:{customer}": -total for customer, total in spent.items()}
        self.same("journal", ledger | ({"merchant:sales": sum(owed.values())} if owed else {}), balances)
        for row in self.rows(PAYMENT, "SELECT * FROM account"):
            self.same(f"account {row['id']}", (0, spent[row["customer_id"]]), (row["held"], row["captured"]))
            if row["captured"] > row["credit_limit"]:
                self.wrong(f"account {row['id']} is beyond its limit: {row['captured']} of {row['credit_limit']}")
        if self.world.plan.gateway:
            cards = self.world.issuer.cards
            charged = {each: card.amount for each, card in cards.items() if card.status == CAPTURED}
            self.same("charged by the gateway", owed, charged)
            self.same("holds at the gateway", [], [each for each, card in cards.items() if card.status == "held"])
            twice = {key: times for key, times in self.world.issuer.worked.items() if times != 1}
            self.same("keys that worked more than once at the gateway", {}, twice)

    def stock(self) -> None:
        """What is missing from the shelf is what was sold."""
        left = Counter(self.world.plan.stock)
        for row in self.rows(ORDER, "SELECT sku, quantity, status FROM order_line JOIN orders ON orders.id = order_id"):
            if row["status"] == "completed":
                left[row["sku"]] -= row["quantity"]
        found = {row["sku"]: row["on_hand"] for row in self.rows(ORDER, "SELECT * FROM stock")}
        self.same("stock", dict(left), found)
