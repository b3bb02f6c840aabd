"""What this broker measures, under the prefix `lograft_`, in base units.

Invariants
    a registry of its own: two brokers in one process (tests) do not mix
    recorded per batch and per call, never per record
    labels are drawn from small fixed sets; nothing that a client sends becomes a label, but for existing topics' names
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from ..partitions.repairer import RepairCounts

LONG_BUCKETS = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600)
LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The broker's counters, gauges and histograms. Methods are called in the event loop and cost microseconds."""

    def __init__(self, loop_kind: str = "asyncio") -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build = Gauge("lograft_build_info", "Version of this broker.", ["version", "loop"], registry=self.registry)
        build.labels(version("lograft"), loop_kind).set(1)
        self._requests = self._counter("requests", "Calls, by result code.", "api", "code")
        self._request_seconds = Histogram(
            "lograft_request_duration_seconds",
            "Time from a call's start to its end; a long poll's wait and a stream's life are part of it.",
            ["api"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.produce_seconds = self._histogram(
            "produce_ack_seconds", "From reading a produce request to its answer, as the acks asked for."
        )
        self.fetch_wait_seconds = self._histogram("fetch_wait_seconds", "Time a fetch was parked.")
        self.fsync_seconds = self._histogram("fsync_seconds", "Duration of one fdatasync.")
        self._produce_bytes = self._counter("produce_bytes", "Batches accepted, bytes.", "topic")
        self._produce_batches = self._counter("produce_batches", "Batches accepted.", "topic")
        self._produce_records = self._counter("produce_records", "Records accepted.", "topic")
        self._produced_of: dict[str, tuple[Counter, Counter, Counter]] = {}
        """By topic: looking a label up takes longer than counting."""
        self._produce_rejected = self._counter("produce_rejected", "Batches refused, by reason.", "reason")
        self._fetch_bytes = self._counter("fetch_bytes", "Batches served, bytes.", "topic")
        self._compactions = self._counter("compactions", "Compactions of one log that ended, by result.", "result")
        self._compaction_seconds = Histogram(
            "lograft_compaction_seconds",
            "Duration of one compaction of one log.",
            ["topic"],
            buckets=LONG_BUCKETS,
            registry=self.registry,
        )
        self._compaction_last_seconds = Gauge(
            "lograft_compaction_last_seconds", "Duration of the compaction that ended last.", registry=self.registry
        )
        self._compaction_running = Gauge(
            "lograft_compaction_running", "1 while a log is being compacted.", registry=self.registry
        )
        self._compaction_read_bytes = self._counter("compaction_read_bytes", "Bytes read by compactions.")
        self._compaction_before_bytes = self._counter(
            "compaction_before_bytes", "Bytes of the segments that compactions replaced."
        )
        self._compaction_after_bytes = self._counter(
            "compaction_after_bytes", "Bytes of the segments that took their place."
        )
        self._compaction_records = self._counter("compaction_records", "Records that compactions looked at.")
        self._compaction_dropped = self._counter(
            "compaction_dropped_records", "Records dropped by compactions: superseded ones, and tombstones."
        )
        self.leader_changes = self._counter("raft_leader_changes", "Leaderships gained or lost by this broker.")
        self.peer_sessions = Gauge("lograft_peer_sessions", "Brokers in session with this one.", registry=self.registry)
        self._partitions = Gauge("lograft_partitions", "Replicas on this broker.", registry=self.registry)
        self._leaders = Gauge("lograft_leaders", "Partitions that this broker leads.", registry=self.registry)

        self._copies = Gauge("lograft_copies", "Replicas that this broker copies its logs to.", registry=self.registry)
        self._copies_left = Gauge("lograft_copies_left_bytes", "What they lack in all.", registry=self.registry)

    def watch_copies(self, left_bytes: Callable[[], list[int]]) -> None:
        """What each replica that is being copied lacks; looked at when someone asks."""
        self._copies.set_function(lambda: len(left_bytes()))
        self._copies_left.set_function(lambda: sum(left_bytes()))

    def watch_calls(self, under_way: Callable[[], int]) -> None:
        """Counted when someone asks."""
        calls = Gauge("lograft_calls", "Calls of clients being carried out.", registry=self.registry)
        calls.set_function(under_way)

    def watch_peer_refusals(self, refused: Callable[[], int]) -> None:
        """Likewise."""
        what = "Connections to the peer port that ended before they had proved to be a broker's."
        Gauge("lograft_peer_connections_refused", what, registry=self.registry).set_function(refused)

    def watch_partitions(self, partitions: Callable[[], int], leaders: Callable[[], int]) -> None:
        """Counted when someone asks, not when they change."""
        self._partitions.set_function(partitions)
        self._leaders.set_function(leaders)

    def watch_unsynced(self, unsynced_bytes: Callable[[], int]) -> None:
        """Likewise."""
        what = "Written here and not on disk yet, of topics with durability=memory."
        Gauge("lograft_unsynced_bytes", what, registry=self.registry).set_function(unsynced_bytes)

    def watch_repairs(self, repairs: RepairCounts, damaged: Callable[[], int]) -> None:
        """Likewise."""
        what = "Replicas with stored bytes that are unreadable."
        Gauge("lograft_damaged_replicas", what, registry=self.registry).set_function(damaged)
        for name, what in (
            ("holes_filled", "Holes in logs filled with what other replicas hold."),
            ("holes_lost", "Holes behind which a log was given up, as its leader had no use for it."),
            ("bytes", "Bytes taken from other replicas to repair logs."),
            ("failed_tries", "Tries to repair a hole that no replica that answered could fill."),
        ):
            counted = Gauge(f"lograft_repair_{name}", what, registry=self.registry)
            counted.set_function(partial(getattr, repairs, name))

    def count_request(self, api: str, code: str, seconds: float) -> None:
        self._requests.labels(api, code).inc()
        self._request_seconds.labels(api).observe(seconds)

    def count_produced(self, topic: str, size: int, records: int) -> None:
        """One batch accepted; `topic` is the name of a topic that exists."""
        of_topic = self._produced_of.get(topic)
        if of_topic is None:
            of_topic = self._produced_of[topic] = (
                self._produce_bytes.labels(topic),
                self._produce_batches.labels(topic),
                self._produce_records.labels(topic),
            )
        in_bytes, in_batches, in_records = of_topic
        in_bytes.inc(size)
        in_batches.inc()
        in_records.inc(records)

    def count_rejected(self, reason: str) -> None:
        self._produce_rejected.labels(reason).inc()

    def count_fetched(self, topic: str, size: int) -> None:
        self._fetch_bytes.labels(topic).inc(size)

    def compaction_began(self) -> None:
        self._compaction_running.set(1)

    def compaction_ended(self, topic: str, result: str, seconds: float) -> None:
        """`result`: done, given_up or damaged; `topic` is the name of a topic that exists."""
        self._compaction_running.set(0)
        self._compaction_last_seconds.set(seconds)
        self._compactions.labels(result).inc()
        self._compaction_seconds.labels(topic).observe(seconds)

    def count_compacted(
        self, *, bytes_read: int, bytes_before: int, bytes_after: int, records: int, records_dropped: int
    ) -> None:
        """One compaction is over, and what it made is in place."""
        self._compaction_read_bytes.inc(bytes_read)
        self._compaction_before_bytes.inc(bytes_before)
        self._compaction_after_bytes.inc(bytes_after)
        self._compaction_records.inc(records)
        self._compaction_dropped.inc(records_dropped)

    def forget_topic(self, topic: str) -> None:
        """A deleted topic's series end; those of a new one under its name begin at zero."""
        families = (
            self._produce_bytes,
            self._produce_batches,
            self._produce_records,
            self._fetch_bytes,
            self._compaction_seconds,
        )
        for family in families:
            family.remove_by_labels({"topic": topic})

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"lograft_{name}", help_text, labels, registry=self.registry)

    def _histogram(self, name: str, help_text: str) -> Histogram:
        return Histogram(f"lograft_{name}", help_text, buckets=LATENCY_BUCKETS, registry=self.registry)
