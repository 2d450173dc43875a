"""What must have become of trips: seats, rooms and travelers' money."""

from __future__ import annotations

import re
from collections import Counter
from uuid import UUID

from docs.examples.trip.saga import APPROVAL_FROM
from orchestrator.saga.state import saga_id
from tests.simulation.looking import Looking
from tests.simulation.plan import ORCHESTRATOR, TRAVEL

_KEPT = ("saga", "saga_history", "parked_event", "outbox", "collected_letter")


class Trips(Looking):
    """The travel service of a finished run."""

    def look(self) -> None:
        """Note whatever is wrong."""
        self.trips = {UUID(row["trip_id"]): row for row in self.rows(TRAVEL, "SELECT * FROM travel_journey")}
        self.wishes = {self.placed[wish.key]: wish for wish in self.world.plan.trips if wish.key in self.placed}
        started = {saga_id("book_trip", trip_id): trip_id for trip_id in self.trips}
        self.same("instances", sorted(started), sorted(self.sagas))
        self.booked = {
            started[each] for each, row in self.sagas.items() if each in started and row["status"] == "completed"
        }
        self.ends()
        self.seats()
        self.money()
        if self.world.plan.sealed:
            self.secrets()

    def secrets(self) -> None:
        """Where the travel service has keys, the orchestrator never learns who travels and who approves."""
        kept = [
            str(tuple(row.values())) for table in _KEPT for row in self.rows(ORCHESTRATOR, f"SELECT * FROM {table}")
        ]
        told = [each for each in kept if re.search(r'"(traveler|by|approved_by)": ?"\w', each)]
        self.same("what tells who travels", [], told)
        self.same("whether anything is sealed", bool(self.trips), any("$sealed" in each for each in kept))

    def ends(self) -> None:
        """Every trip has one saga, which has come to an end, and no expensive one is booked without approval."""
        self.same("trips in the database", sorted(self.placed.values()), sorted(self.trips))
        for identity, row in self.sagas.items():
            if row["status"] not in ("completed", "compensated"):
                self.wrong(f"saga {identity} is {row['status']}: {row['step']} {row['reason']}")
        inputs = {
            UUID(row["saga_id"])
            for row in self.rows(ORCHESTRATOR, "SELECT saga_id, input FROM saga_history")
            if "travel.approved" in row["input"]
        }
        for trip_id in self.booked:
            if self.wishes[trip_id].price >= APPROVAL_FROM and saga_id("book_trip", trip_id) not in inputs:
                self.wrong(f"trip {trip_id} is booked, and nobody had approved it")

    def seats(self) -> None:
        """What is not free any more was taken by booked trips, one seat and one room each."""
        taken = {(UUID(row["trip_id"]), row["kind"]) for row in self.rows(TRAVEL, "SELECT * FROM travel_reservation")}
        self.same("reservations", {(trip, kind) for trip in self.booked for kind in ("flight", "hotel")}, taken)
        left = Counter(self.world.plan.offers)
        for trip_id in self.booked:
            left["flight", self.wishes[trip_id].flight] -= 1
            left["hotel", self.wishes[trip_id].hotel] -= 1
        found = {(row["kind"], row["name"]): row["free"] for row in self.rows(TRAVEL, "SELECT * FROM travel_offer")}
        self.same("offers", dict(left), found)

    def money(self) -> None:
        """Travelers have paid for what is booked and for nothing else, and only then they have tickets."""
        left = Counter(self.world.plan.travelers)
        for trip_id in self.booked:
            left[self.wishes[trip_id].traveler] -= self.wishes[trip_id].price
        found = {row["name"]: row["balance"] for row in self.rows(TRAVEL, "SELECT * FROM travel_traveler")}
        self.same("balances", dict(left), found)
        for trip_id, row in self.trips.items():
            price = self.wishes[trip_id].price if trip_id in self.booked else 0
            self.same(f"trip {trip_id}", (price, trip_id in self.booked), (row["paid"], bool(row["tickets"])))
