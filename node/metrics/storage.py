"""Disk and logs: room, syncs, sizes, what was dropped, cut, found damaged, repaired and compacted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ...partitions.repairer import RepairCounts
from ...partitions.replica_counts import ReplicaCounts
from .families import LONG_BUCKETS, Catalogue


class StorageMeasures:
    """One a broker."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.log_size_bytes = catalogue.reading("log_size_bytes", "Of the replicas on this broker.", "topic")
        self.log_segments = catalogue.reading("log_segments", "Segments of the replicas on this broker.", "topic")
        self.fsync_seconds = catalogue.histogram("fsync_seconds", "Duration of one fdatasync.")
        self.unsynced_bytes = catalogue.reading(
            "unsynced_bytes", "Written here and not on disk yet, of topics with durability=memory."
        )
        self.disk_free_bytes = catalogue.reading("disk_free_bytes", "Left on the data directory's file system.")
        self.disk_total_bytes = catalogue.reading("disk_total_bytes", "Size of the data directory's file system.")
        self.disk_produce_stopped = catalogue.reading(
            "disk_produce_stopped", "1: batches of clients are refused here, as too little space is left."
        )
        self.disk_replication_stopped = catalogue.reading(
            "disk_replication_stopped", "1: records of leaders are refused here too, as hardly any space is left."
        )
        self.disk_produce_stop = catalogue.gauge(
            "disk_produce_stop_free_bytes", "With less space left, batches of clients are refused (configured)."
        )
        self._crc_errors = catalogue.counter(
            "crc_errors",
            "Bytes that do not match their checksum: in batches of clients, in frames of other brokers (as `peer`), or "
            "on this disk (times that damage was met in a log).",
            "where",
        )
        # From the beginning: else the first error would be no increase, and no alert would see it.
        self._crc_errors_of_clients = self._crc_errors.labels("client")
        self.crc_errors_of_peers = self._crc_errors.labels("peer")
        self.crc_errors_of_disk = self._crc_errors.labels("disk")
        self.damaged = catalogue.reading("damaged_replicas", "Replicas here with stored bytes that are unreadable.")
        self.doubtful = catalogue.reading(
            "doubtful_replicas", "Replicas here that may have lost what they acknowledged, and do not count until sure."
        )
        self.unopened = catalogue.reading(
            "unopened_replicas", "Replicas that should be here, and could not be opened or made."
        )
        self.open_retries = catalogue.reading(
            "replica_open_retries_total", "Tries to open or make such a replica after all, by how they ended.", "result"
        )
        self.truncated_bytes = catalogue.reading(
            "truncated_bytes_total",
            "Cut from the ends of logs: at start what a crash left unfinished (recovery), or what never was committed "
            "and a new leader replaced (raft).",
            "where",
        )
        self.recovery_seconds = catalogue.gauge("recovery_seconds", "What opening all replicas took at the last start.")
        self.dropped_bytes = catalogue.reading(
            "retention_deleted_bytes_total", "Dropped from the logs here, as retention or a trim had it.", "topic"
        )
        self.repairs = tuple(
            (field, catalogue.reading(f"repair_{field}_total", what))
            for field, what in (
                ("holes_filled", "Holes in logs filled with what other replicas hold."),
                ("holes_lost", "Holes behind which a log was given up, as its leader had no use for it."),
                ("bytes", "Bytes taken from other replicas to repair logs."),
                ("failed_tries", "Tries to repair a hole that no replica that answered could fill."),
            )
        )

    def corrupt_from_client(self) -> None:
        self._crc_errors_of_clients.inc()

    def watch_repairs(self, repairs: RepairCounts) -> None:
        for field, family in self.repairs:
            family.watch_value(partial(getattr, repairs, field))

    def watch_counts(self, counts: ReplicaCounts, name_of: Callable[[str], str | None]) -> None:
        """`name_of` gives the name of a topic that exists, by its id."""
        self.truncated_bytes.watch(lambda: ((("recovery",), counts.recovery_cut_bytes), (("raft",), counts.cut_bytes)))
        counts.damage_met = self.crc_errors_of_disk.inc
        self.dropped_bytes.watch(
            lambda: [
                ((name,), dropped)
                for topic_id, dropped in list(counts.dropped_bytes.items())
                if (name := name_of(topic_id)) is not None
            ]
        )


class CompactionMeasures:
    """One a broker."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._ended = catalogue.counter("compactions", "Compactions of one log that ended, by result.", "result")
        for result in ("done", "given_up", "damaged"):
            self._ended.labels(result)  # all of them from the beginning, so that the first is an increase
        self._seconds = catalogue.histograms(
            "compaction_seconds", "Duration of one compaction of one log.", "topic", bounds=LONG_BUCKETS
        )
        self._last_seconds = catalogue.gauge("compaction_last_seconds", "Duration of the compaction that ended last.")
        self._running = catalogue.gauge("compaction_running", "1 while a log is being compacted.")
        self._read_bytes = catalogue.counter("compaction_read_bytes", "Bytes read by compactions.")
        self._before_bytes = catalogue.counter(
            "compaction_before_bytes", "Bytes of the segments that compactions replaced."
        )
        self._after_bytes = catalogue.counter("compaction_after_bytes", "Bytes of the segments that took their place.")
        self._records = catalogue.counter("compaction_records", "Records that compactions looked at.")
        self._dropped = catalogue.counter(
            "compaction_dropped_records", "Records dropped by compactions: superseded ones, and tombstones."
        )

    def began(self) -> None:
        self._running.set(1)

    def ended(self, topic: str, result: str, seconds: float) -> None:
        """`result`: done, given_up or damaged; `topic` is the name of a topic that exists."""
        self._running.set(0)
        self._last_seconds.set(seconds)
        self._ended.labels(result).inc()
        self._seconds.labels(topic).observe(seconds)

    def count(
        self, *, bytes_read: int, bytes_before: int, bytes_after: int, records: int, records_dropped: int
    ) -> None:
        """One compaction is over, and what it made is in place."""
        self._read_bytes.inc(bytes_read)
        self._before_bytes.inc(bytes_before)
        self._after_bytes.inc(bytes_after)
        self._records.inc(records)
        self._dropped.inc(records_dropped)

    def forget_topic(self, name: str) -> None:
        self._seconds.remove(name)
