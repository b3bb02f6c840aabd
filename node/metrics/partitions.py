"""The page with a series for each partition, apart from the others: there may be thousands."""

from __future__ import annotations

from .families import Catalogue

PLACE = ("topic", "partition")


class PartitionMeasures:
    """One a broker."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.is_leader = catalogue.reading("raft_is_leader", "1 where this broker leads.", *PLACE)
        self.term = catalogue.reading("raft_term", "As the replica here knows.", *PLACE)
        self.log_start = catalogue.reading("log_start_offset", "The first offset that can be read.", *PLACE)
        self.committed = catalogue.reading(
            "committed_offset",
            "The end of what is committed, as the replica here knows; consumers read up to it.",
            *PLACE,
        )
        self.log_end = catalogue.reading("log_end_offset", "The end of the log here, committed or not.", *PLACE)
        self.size_bytes = catalogue.reading("partition_size_bytes", "Of the replica here.", *PLACE)
        self.segments = catalogue.reading("partition_segments", "Of the replica here.", *PLACE)
        self.replicas = catalogue.reading("partition_replicas", "By decision. The leader tells.", *PLACE)
        self.in_sync = catalogue.reading(
            "partition_in_sync_replicas", "Voters that keep up, the leader included. The leader tells.", *PLACE
        )
        self.replica_lag = catalogue.reading(
            "replica_lag_records", "What a follower lacks. The leader tells.", *PLACE, "peer"
        )
        self.group_lag_records = catalogue.reading(
            "group_partition_lag_records",
            "Records between what a group stored and what is committed. The group's coordinator tells.",
            "group",
            *PLACE,
        )
        self.group_lag_seconds = catalogue.reading(
            "group_partition_lag_seconds",
            "How old the group's next unread record is; 0 if nothing is unread. The group's coordinator tells.",
            "group",
            *PLACE,
        )
