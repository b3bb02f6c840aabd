"""What comes in and goes out, by topic.

Invariants
    only names of topics that exist become labels, and a deleted topic's series end
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import partial

from prometheus_client import Counter

from .families import Catalogue, Row


@dataclass(slots=True)
class TopicMeasures:
    """Of one topic, since it was first met."""

    produced_bytes: int = 0
    produced_batches: int = 0
    produced_records: int = 0
    fetched_bytes: int = 0
    fetched_records: int = 0


class TrafficMeasures:
    """One a broker. Called once a batch, or once a partition's share of an answer.

    Topics are counted in plain numbers and read off: there may be thousands of them (see `families`).
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._topics: dict[str, TopicMeasures] = {}
        self._reasons: dict[str, Counter] = {}
        for name, field, what in (
            ("produce_bytes", "produced_bytes", "Batches accepted, bytes as stored."),
            ("produce_batches", "produced_batches", "Batches accepted."),
            ("produce_records", "produced_records", "Records accepted."),
            ("fetch_bytes", "fetched_bytes", "Batches served to clients, bytes as stored."),
            (
                "fetch_records",
                "fetched_records",
                "Offsets that were passed by what was served: records, and in compacted topics those left out.",
            ),
        ):
            catalogue.reading(f"{name}_total", what, "topic").watch(partial(self._by_topic, field))
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

    def topic(self, name: str) -> TopicMeasures:
        """`name` is that of a topic that exists."""
        measures = self._topics.get(name)
        if measures is None:
            measures = self._topics[name] = TopicMeasures()
        return measures

    def count_rejected(self, reason: str) -> None:
        count = self._reasons.get(reason)
        if count is None:
            count = self._reasons[reason] = self._rejected.labels(reason)
        count.inc()

    def forget_topic(self, name: str) -> None:
        """A deleted topic's series end; those of a new one under its name begin at zero."""
        self._topics.pop(name, None)

    def forget_others(self, existing: Container[str]) -> None:
        """Keep none but these: a call may have counted once more just after its topic was deleted."""
        for name in [name for name in self._topics if name not in existing]:
            self.forget_topic(name)

    def _by_topic(self, field: str) -> Iterator[Row]:
        for name, measures in [*self._topics.items()]:
            yield (name,), getattr(measures, field)
