"""What a preflight found, in bounded memory: counts, and each finding with a few examples."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from orchestrator.preflight.instances import Examined, Verdict
from orchestrator.preflight.stored import Trouble
from orchestrator.versions import Changed

MOST_FINDINGS = 200
EXAMPLES = 10


@dataclass(slots=True)
class Finding:
    """One reason, of how many instances it holds, and the first few of them."""

    verdict: Verdict
    instances: int = 0
    ids: list[UUID] = field(default_factory=list)


@dataclass(slots=True)
class Rows:
    """One trouble, of how many rows it holds, and the first few of them."""

    rows: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """Instances in flight by saga, version and verdict; reasons; troubles with what is stored."""

    changed: tuple[Changed, ...] = ()
    instances: dict[tuple[str, int], Counter[Verdict]] = field(default_factory=dict)
    findings: dict[tuple[str, int, str], Finding] = field(default_factory=dict)
    troubles: dict[tuple[str, str, str], Rows] = field(default_factory=dict)
    looked_at: Counter[str] = field(default_factory=Counter)
    """Rows of each table."""
    unlisted: int = 0
    """Instances and rows whose reason came after MOST_FINDINGS others."""

    @property
    def fits(self) -> bool:
        """Whether this checkout may be deployed."""
        return not (self.findings or self.troubles or self.unlisted)

    def acceptable(self) -> tuple[Changed, ...]:
        """Changed definitions that no instance in flight would notice."""
        noticed = {(name, version) for name, version, _ in self.findings}
        return tuple(each for each in self.changed if (each.name, each.version) not in noticed)

    def add(self, examined: Examined) -> None:
        """One more instance in flight."""
        which = (examined.name, examined.version)
        self.instances.setdefault(which, Counter())[examined.verdict] += 1
        if examined.verdict is Verdict.COMPATIBLE:
            return
        key = (*which, examined.reason)
        if key not in self.findings and len(self.findings) >= MOST_FINDINGS:
            self.unlisted += 1
            return
        finding = self.findings.setdefault(key, Finding(examined.verdict))
        finding.instances += 1
        if len(finding.ids) < EXAMPLES:
            finding.ids.append(examined.id)

    def trouble(self, found: Trouble) -> None:
        """One more row that does not fit."""
        key = (found.where, found.type, found.sentence)
        if key not in self.troubles and len(self.troubles) >= MOST_FINDINGS:
            self.unlisted += 1
            return
        rows = self.troubles.setdefault(key, Rows())
        rows.rows += 1
        if len(rows.examples) < EXAMPLES:
            rows.examples.append(found.row)
