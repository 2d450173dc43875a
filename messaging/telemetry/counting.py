"""What the loop and the relay count: once a batch, from numbers they have anyway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

from messaging.bus import Receipt
from messaging.telemetry.families import INSTANTS, SIZES, Family, Histogram


class Counted(Protocol):
    """What a worker counts itself."""

    @property
    def conflicts(self) -> int: ...


class BatchMeter:
    """The batches of one consumer that were committed."""

    def __init__(self, consumer: str) -> None:
        self.consumer = consumer
        self.worker: Counted | None = None
        self._seconds = Histogram(INSTANTS)
        self._messages = Histogram(SIZES)
        self._failed = 0

    def committed(self, messages: int, seconds: float) -> None:
        """A batch of so many messages was committed, so many seconds after its transaction began."""
        self._messages.observe(messages)
        self._seconds.observe(seconds)

    def failed(self) -> None:
        """A message failed alone, and was put off or buried."""
        self._failed += 1

    def listen(self) -> None:
        """It counts always."""

    def families(self) -> Iterable[Family]:
        labels, here = ("consumer",), (self.consumer,)
        yield Family(
            "amends_batch_duration_seconds",
            "From the beginning of a batch's transaction to its commit.",
            "histogram",
            labels,
            {here: self._seconds},
        )
        yield Family(
            "amends_batch_messages",
            "Messages and deadlines in a batch that was committed.",
            "histogram",
            labels,
            {here: self._messages},
        )
        yield Family(
            "amends_messages_failed",
            "Messages that failed alone, and were put off or became dead letters.",
            "counter",
            labels,
            {here: self._failed},
        )
        yield Family(
            "amends_batch_conflicts",
            "Batches that were undone and done again because another process had moved the same rows.",
            "counter",
            labels,
            {here: 0 if self.worker is None else self.worker.conflicts},
        )


class PublishMeter:
    """What was sent to the broker, and what it said."""

    def __init__(self) -> None:
        self._seconds = Histogram(INSTANTS)
        self._receipts: Counter[Receipt] = Counter(dict.fromkeys(Receipt, 0))

    def published(self, receipts: Sequence[Receipt], seconds: float) -> None:
        """So many messages were sent together, and these receipts had come after so many seconds."""
        self._seconds.observe(seconds)
        self._receipts.update(receipts)

    def listen(self) -> None:
        """It counts always."""

    def families(self) -> Iterable[Family]:
        yield Family(
            "amends_publish_duration_seconds",
            "From sending messages to the broker until it had confirmed all that were sent together.",
            "histogram",
            (),
            {(): self._seconds},
        )
        yield Family(
            "amends_messages_published",
            "Messages sent, by what the broker said of them; what is not confirmed is sent again.",
            "counter",
            ("receipt",),
            {(receipt.value,): number for receipt, number in self._receipts.items()},
        )
