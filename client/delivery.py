"""What became of records that were sent: their metadata, or why they did not arrive.

Invariants
    a batch is settled once, and all its records with it
    a failed record is reported once: to whoever awaits its Delivery, else by the next flush
    outcome "failed" means surely not in the log; "unknown" means that it may be there, or may yet get there
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, Protocol

from ..proto.errors import LograftError
from .records import TopicPartition

Outcome = Literal["failed", "unknown"]

_SAMPLES_MAX = 3


class Durability(NamedTuple):
    """How far a record was safe when the answer left: copies on that medium, of replicas in all."""

    medium: Literal["fsync", "memory", "none"]
    copies: int
    replicas: int

    def __str__(self) -> str:
        return f"{self.medium} x {self.copies} of {self.replicas}" if self.medium != "none" else "none"


class RecordMetadata(NamedTuple):
    """Where a record went. The offset is -1 where nobody knows it any more (an old duplicate) or none was asked for."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    term: int
    durability: Durability


@dataclass(frozen=True, slots=True)
class DeliveredRange:
    """Where consecutive records of one `send_many` went: `count` of them, from `base_offset` on."""

    topic: str
    partition: int
    base_offset: int
    count: int
    term: int
    durability: Durability


class DeliveryFailed(LograftError):
    """A record was not acknowledged. `outcome` says whether it may be in the log all the same; `cause` says why."""

    reason: ClassVar[str] = "DELIVERY_FAILED"

    def __init__(self, partition: TopicPartition, outcome: Outcome, cause: LograftError) -> None:
        fate = "was not appended" if outcome == "failed" else "may or may not have been appended"
        super().__init__(f"record for {partition} {fate}: {cause}", partition=partition, outcome=outcome)
        self.topic, self.partition = partition
        self.outcome: Outcome = outcome
        self.cause = cause


@dataclass(slots=True)
class FailedRecords:
    """Records of one partition that failed for one reason, and that nobody has been told of."""

    partition: TopicPartition
    outcome: Outcome
    cause: LograftError
    count: int = 0
    samples: list[str] = field(default_factory=list)
    """The first few: key, or the beginning of the value."""

    def __str__(self) -> str:
        shown = ", ".join(self.samples) + (", ..." if self.count > len(self.samples) else "")
        fate = "not appended" if self.outcome == "failed" else "outcome unknown"
        return f"{self.count} for {self.partition} ({fate}: {self.cause}; first: {shown})"


class DeliveryErrors(LograftError):
    """Records that were sent but not delivered, and whose Delivery nobody awaited."""

    reason: ClassVar[str] = "DELIVERY_FAILED"

    def __init__(self, failures: Sequence[FailedRecords]) -> None:
        self.failures = tuple(failures)
        self.count = sum(failure.count for failure in failures)
        super().__init__(f"{self.count} records were not delivered: " + "; ".join(map(str, failures)), count=self.count)


class Failures:
    """The failures not yet told to anyone, gathered by partition and reason so that they stay few."""

    def __init__(self) -> None:
        self._untold: dict[tuple[TopicPartition, Outcome, str], FailedRecords] = {}

    def add(
        self, partition: TopicPartition, outcome: Outcome, cause: LograftError, count: int, samples: Sequence[str]
    ) -> FailedRecords:
        entry = self._untold.setdefault((partition, outcome, cause.reason), FailedRecords(partition, outcome, cause))
        entry.count += count
        entry.samples.extend(samples[: _SAMPLES_MAX - len(entry.samples)])
        return entry

    def tell(self) -> tuple[FailedRecords, ...]:
        """All that nobody has been told of; from now on, they have."""
        untold = tuple(entry for entry in self._untold.values() if entry.count > 0)
        self._untold.clear()
        return untold


class Settlement(NamedTuple):
    """The final answer for a batch: either where it went, or how it failed."""

    base_offset: int
    term: int
    durability: Durability | None
    failure: DeliveryFailed | None = None
    untold: FailedRecords | None = None


class Settling(Protocol):
    """A batch, as far as a delivery sees it."""

    @property
    def settlement(self) -> Settlement | None: ...
    @property
    def partition(self) -> TopicPartition: ...
    def wait(self) -> asyncio.Future[None]: ...


class Delivery:
    """A record on its way. Await it for its RecordMetadata; there is no need to, `flush` reports what failed.

    Raises, when awaited
        DeliveryFailed  see its outcome
    """

    __slots__ = ("_batch", "_index", "_told", "timestamp_ms")

    def __init__(self, batch: Settling, index: int, timestamp_ms: int) -> None:
        self._batch = batch
        self._index = index
        self._told = False
        self.timestamp_ms = timestamp_ms

    @property
    def done(self) -> bool:
        return self._batch.settlement is not None

    def __await__(self) -> Generator[object, None, RecordMetadata]:
        if self._batch.settlement is None:
            yield from self._batch.wait()
        return self.result()

    def result(self) -> RecordMetadata:
        """What an await would give; only once it is done."""
        settlement = self._batch.settlement
        assert settlement is not None, "the record is still on its way"
        if settlement.failure is not None:
            if not self._told and settlement.untold is not None:
                settlement.untold.count -= 1
            self._told = True
            failure = settlement.failure  # raised anew, since an exception collects the traces of all who raise it
            raise DeliveryFailed(self._batch.partition, failure.outcome, failure.cause) from failure.cause
        assert settlement.durability is not None
        topic, partition = self._batch.partition
        base_offset = settlement.base_offset
        offset = base_offset + self._index if base_offset >= 0 else -1
        return RecordMetadata(topic, partition, offset, self.timestamp_ms, settlement.term, settlement.durability)


class Deliveries:
    """The records of one `send_many`. Await it for the ranges they went to; `len` counts the records.

    Raises, when awaited
        DeliveryErrors  names what failed of them
    """

    __slots__ = ("_spans", "_told")

    def __init__(self) -> None:
        self._spans: list[tuple[Settling, int, int]] = []  # batch, index of the first, count
        self._told = False

    def add(self, batch: Settling, first_index: int, count: int = 1) -> None:
        """Take on `count` records of a batch; they join the last range if they follow there."""
        if self._spans:
            last, first, before = self._spans[-1]
            if last is batch and first + before == first_index:
                self._spans[-1] = (batch, first, before + count)
                return
        self._spans.append((batch, first_index, count))

    def __len__(self) -> int:
        return sum(count for _, _, count in self._spans)

    @property
    def done(self) -> bool:
        return all(batch.settlement is not None for batch, _, _ in self._spans)

    def __await__(self) -> Generator[object, None, list[DeliveredRange]]:
        for batch, _, _ in self._spans:
            if batch.settlement is None:
                yield from batch.wait()
        return self.result()

    def result(self) -> list[DeliveredRange]:
        """What an await would give; only once all are done."""
        ranges: list[DeliveredRange] = []
        failures = Failures()
        for batch, first_index, count in self._spans:
            settlement = batch.settlement
            assert settlement is not None, "records are still on their way"
            if settlement.failure is not None:
                untold = settlement.untold
                failure = settlement.failure
                samples = untold.samples if untold else []
                failures.add(batch.partition, failure.outcome, failure.cause, count, samples)
                if untold is not None and not self._told:
                    untold.count -= count
                continue
            assert settlement.durability is not None
            base_offset = settlement.base_offset + first_index if settlement.base_offset >= 0 else -1
            ranges.append(DeliveredRange(*batch.partition, base_offset, count, settlement.term, settlement.durability))
        self._told = True
        if failed := failures.tell():
            raise DeliveryErrors(failed)
        return ranges
