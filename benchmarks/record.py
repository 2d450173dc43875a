"""What every measurement leaves beside its figures: when, where and with what it was made, and what was wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from benchmarks import goals, machine
from benchmarks.goals import Reached

ALL_RIGHT = "every order ended as it had to, and every unit of money and stock is where it belongs"


@dataclass(slots=True)
class Record:
    """A measurement by `program`, with these settings, that begins now on this machine."""

    program: str
    settings: Mapping[str, Any]
    at: str = field(default_factory=machine.now)
    machine: dict[str, Any] = field(default_factory=machine.described)
    findings: list[str] = field(default_factory=list)
    """What was wrong in the end."""

    async def met(self, amqp_url: str, database_url: str) -> None:
        """Note which servers it is made on."""
        self.machine |= await machine.servers(amqp_url, database_url)

    def ended(self, findings: Sequence[str] = ()) -> None:
        """Note how busy the machine is afterwards, and what is wrong."""
        self.machine["load_afterwards"] = machine.load()
        self.findings = list(findings)

    def document(self, reached: Mapping[str, Reached], figures: Mapping[str, Any]) -> dict[str, Any]:
        """The program's file: these figures, and what they say of the goals."""
        return {
            "program": self.program,
            "at": self.at,
            "machine": self.machine,
            "settings": dict(self.settings),
            "goals": goals.as_json(reached),
            **figures,
            "wrong": self.findings,
        }

    def tell(self, console: Console, right: str = ALL_RIGHT) -> None:
        """Print what was wrong, or that nothing was."""
        for finding in self.findings:
            console.print(f"WRONG: {finding}", markup=False)
        if not self.findings:
            console.print(right)
