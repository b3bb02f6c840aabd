"""What comes in and goes out, by topic.

Invariants
    only names of topics that exist become labels, and a deleted topic's series end
"""

from __future__ import annotations

from collections.abc import Container

from .families import Catalogue, Count, Counter


class TopicMeasures:
    """Of one topic."""

    __slots__ = (
        "fetched_bytes",
        "fetched_records",
        "produced_batches",
        "produced_bytes",
        "produced_records",
    )

    def __init__(self, produced: tuple[Count, Count, Count], fetched: tuple[Count, Count]) -> None:
        self.produced_bytes, self.produced_batches, self.produced_records = produced
        self.fetched_bytes, self.fetched_records = fetched


class TrafficMeasures:
    """One a broker. Called once a batch, or once a partition's share of an answer."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._produced = (
            catalogue.counter("produce_bytes", "Batches accepted, bytes as stored.", "topic"),
            catalogue.counter("produce_batches", "Batches accepted.", "topic"),
            catalogue.counter("produce_records", "Records accepted.", "topic"),
        )
        self._fetched = (
            catalogue.counter("fetch_bytes", "Batches served to clients, bytes as stored.", "topic"),
            catalogue.counter(
                "fetch_records",
                "Offsets that were passed by what was served: records, and in compacted topics those left out.",
                "topic",
            ),
        )
        self._rejected = catalogue.counter(
            "produce_rejected", "Batches refused, by the reason that the client is told.", "reason"
        )
        self.duplicates = catalogue.counter("duplicate_batches", "Batches sent again that had been accepted before.")
        self.produce_ack_seconds = catalogue.histogram(
            "produce_ack_seconds", "From reading a produce request to its answer, as the acks asked for."
        )
        self.replication_ack_seconds = catalogue.histogram(
            "replication_ack_seconds", "From a batch's append at the leader until a majority has it."
        )
        self.fetch_wait_seconds = catalogue.histogram("fetch_wait_seconds", "Time a fetch was parked.")
        self.cold_reads = catalogue.counter("cold_reads", "Reads for clients that had to wait for the disk.")
        self._topics: dict[str, TopicMeasures] = {}
        self._reasons: dict[str, Count] = {}

    def topic(self, name: str) -> TopicMeasures:
        """`name` is that of a topic that exists."""
        measures = self._topics.get(name)
        if measures is None:
            produced_bytes, batches, records = (family.of(name) for family in self._produced)
            fetched_bytes, fetched_records = (family.of(name) for family in self._fetched)
            measures = TopicMeasures((produced_bytes, batches, records), (fetched_bytes, fetched_records))
            self._topics[name] = measures
        return measures

    def count_rejected(self, reason: str) -> None:
        count = self._reasons.get(reason)
        if count is None:
            count = self._reasons[reason] = self._rejected.of(reason)
        count.value += 1

    def forget_topic(self, name: str) -> None:
        """A deleted topic's series end; those of a new one under its name begin at zero."""
        self._topics.pop(name, None)
        families: tuple[Counter, ...] = (*self._produced, *self._fetched)
        for family in families:
            family.forget(name)

    def forget_others(self, existing: Container[str]) -> None:
        """Keep none but these: a call may have counted once more just after its topic was deleted."""
        for name in [name for name in self._topics if name not in existing]:
            self.forget_topic(name)
