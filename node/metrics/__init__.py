"""What this broker measures, under the prefix `lograft_`, in base units.

Invariants
    all families are declared when `Metrics` is made, whatever is wired to them later: the documentation is made of that
    two brokers in one process (tests) do not mix
    recorded per batch and per call, never per record
    labels are drawn from small fixed sets; nothing that a client sends becomes a label, but for the names of topics and
    groups that exist
"""

from __future__ import annotations

from collections.abc import Container

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from .broker import BrokerMeasures
from .exposition import written_out, written_out_at_once
from .families import Catalogue
from .groups import GroupMeasures
from .partitions import PartitionMeasures
from .raft import HealthMeasures, RaftMeasures
from .requests import RequestMeasures
from .storage import CompactionMeasures, StorageMeasures
from .topics import TrafficMeasures

__all__ = ["Metrics"]


class Metrics:
    """All measurements of one broker, by noun. Recording costs a few microseconds a batch."""

    def __init__(self, loop_kind: str = "asyncio") -> None:
        self.page = Catalogue()
        """/metrics"""
        self.partitions_page = Catalogue()
        """/metrics/partitions"""
        self.broker = BrokerMeasures(self.page, loop_kind)
        self.requests = RequestMeasures(self.page)
        self.traffic = TrafficMeasures(self.page)
        self.raft = RaftMeasures(self.page)
        self.health = HealthMeasures(self.page)
        self.storage = StorageMeasures(self.page)
        self.compaction = CompactionMeasures(self.page)
        self.groups = GroupMeasures(self.page)
        self.partitions = PartitionMeasures(self.partitions_page)
        registry = CollectorRegistry()  # they insist on one; what they tell is asked of each
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            self.page.foreign.append(collector(registry=registry))

    def count_produced(self, topic: str, size: int, records: int) -> None:
        """One batch accepted; `topic` is the name of a topic that exists."""
        measures = self.traffic.topic(topic)
        measures.produced_bytes += size
        measures.produced_batches += 1
        measures.produced_records += records

    def count_rejected(self, reason: str) -> None:
        self.traffic.count_rejected(reason)
        if reason == "CORRUPT_BATCH":
            self.storage.corrupt_from_client()

    def count_fetched(self, topic: str, size: int, records: int) -> None:
        """Batches served of one partition, and by how many offsets they bring the reader on."""
        measures = self.traffic.topic(topic)
        measures.fetched_bytes += size
        measures.fetched_records += records

    def forget_topic(self, topic: str) -> None:
        """A deleted topic's series end; those of a new one under its name begin at zero."""
        self.traffic.forget_topic(topic)
        self.compaction.forget_topic(topic)

    def forget_other_topics(self, existing: Container[str]) -> None:
        self.traffic.forget_others(existing)

    async def exposition(self) -> bytes:
        """/metrics in Prometheus' text format."""
        self.broker.count_collections()
        return await written_out(self.page)

    async def partitions_exposition(self) -> bytes:
        """/metrics/partitions likewise."""
        return await written_out(self.partitions_page)

    def text(self) -> str:
        """/metrics, at once."""
        self.broker.count_collections()
        return written_out_at_once(self.page).decode()

    def partitions_text(self) -> str:
        """/metrics/partitions, at once."""
        return written_out_at_once(self.partitions_page).decode()
