"""What a replay of many instances came to, in bounded memory: counts, and each finding with a few examples."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from orchestrator.replay.difference import Kind, Replayed

MOST_FINDINGS = 100
"""Different sentences that are kept; instances with yet another one are only counted."""
EXAMPLES = 3


@dataclass(slots=True)
class Counted:
    """One saga in one version."""

    instances: int = 0
    transitions: int = 0
    different: Counter[Kind] = field(default_factory=Counter)

    @property
    def same(self) -> int:
        return self.instances - self.different.total()


@dataclass(slots=True)
class Finding:
    """One sentence, of how many instances it holds, and the first few of them."""

    instances: int = 0
    examples: list[Replayed] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """Counts by saga and version, findings by saga, version and sentence."""

    counted: dict[tuple[str, int], Counted] = field(default_factory=dict)
    findings: dict[tuple[str, int, str], Finding] = field(default_factory=dict)
    unlisted: int = 0
    """Instances that differ with a sentence beyond MOST_FINDINGS."""

    @property
    def instances(self) -> int:
        return sum(each.instances for each in self.counted.values())

    @property
    def transitions(self) -> int:
        return sum(each.transitions for each in self.counted.values())

    @property
    def different(self) -> int:
        return sum(each.different.total() for each in self.counted.values())

    def add(self, replayed: Replayed) -> None:
        """One more instance."""
        counted = self.counted.setdefault((replayed.name, replayed.version), Counted())
        counted.instances += 1
        counted.transitions += replayed.transitions
        if replayed.difference is not None:
            counted.different[replayed.difference.kind] += 1
            sentence = replayed.difference.sentence
            self._found((replayed.name, replayed.version, sentence), Finding(1, [replayed]))

    def merge(self, other: Tally) -> None:
        """What another one has counted."""
        for which, theirs in other.counted.items():
            counted = self.counted.setdefault(which, Counted())
            counted.instances += theirs.instances
            counted.transitions += theirs.transitions
            counted.different.update(theirs.different)
        for what, finding in other.findings.items():
            self._found(what, finding)
        self.unlisted += other.unlisted

    def _found(self, what: tuple[str, int, str], more: Finding) -> None:
        known = self.findings.get(what)
        if known is None:
            if len(self.findings) >= MOST_FINDINGS:
                self.unlisted += more.instances
                return
            known = self.findings[what] = Finding()
        known.instances += more.instances
        known.examples.extend(more.examples[: EXAMPLES - len(known.examples)])
