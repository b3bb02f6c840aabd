"""Replication: elections, followers, peers; and the health of the cluster as this broker sees it."""

from __future__ import annotations

from ...partitions.replica_counts import ReplicaCounts
from .families import Catalogue


class RaftMeasures:
    """One a broker."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.leader_changes = catalogue.counter("raft_leader_changes", "Leaderships gained or lost by this broker.")
        self.elections = catalogue.reading(
            "raft_elections_total",
            "Campaigns of replicas here, begun (once others had said that they would vote for it) and won.",
            "result",
        )
        self.resets = catalogue.reading(
            "raft_resets_total", "Times a replica here dropped its log to begin anew at its leader's first segment."
        )
        self.partitions = catalogue.reading("partitions", "Replicas on this broker.")
        self.leaders = catalogue.reading("leaders", "Partitions that this broker leads.")
        self.peer_sessions = catalogue.reading("peer_sessions", "Brokers in session with this one.")
        self.peer_silence_seconds = catalogue.reading(
            "peer_silence_seconds", "Since a member of the cluster was last heard here, if it ever was.", "peer"
        )
        self.peer_round_trip_seconds = catalogue.reading(
            "peer_round_trip_seconds", "What the last ping to another broker took, on the link for heartbeats.", "peer"
        )
        self.peer_received_bytes = catalogue.reading(
            "peer_received_bytes_total", "Received from another broker: replication and all else.", "peer"
        )
        self.peer_sent_bytes = catalogue.reading("peer_sent_bytes_total", "Sent to another broker.", "peer")
        self.peer_connections_refused = catalogue.reading(
            "peer_connections_refused_total",
            "Connections to the peer port that ended before they had proved to be a broker's.",
        )

    def watch_counts(self, counts: ReplicaCounts) -> None:
        self.elections.watch(lambda: ((("begun",), counts.elections_begun), (("won",), counts.elections_won)))
        self.resets.watch_value(lambda: counts.resets)


class HealthMeasures:
    """One a broker. Looked at in the background; see the help texts for whose word each is."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.brokers_registered = catalogue.reading(
            "brokers_registered",
            "Members of the cluster, without removed ones. Each broker tells what it knows of the whole cluster.",
        )
        self.brokers_up = catalogue.reading(
            "brokers_up",
            "Of the registered brokers, those in touch with this one, itself included. Each broker tells its own view.",
        )
        self.controller_active = catalogue.reading(
            "controller_active", "1 on the broker that decides for the cluster: in sum 1, or nothing can be decided."
        )
        self.leaderless = catalogue.reading(
            "leaderless_partitions",
            "Partitions of the whole cluster without a leader that is in touch with this broker. Each broker tells its "
            "own view: take the greatest.",
        )
        self.under_replicated = catalogue.reading(
            "under_replicated_partitions",
            "Partitions led here of which not all replicas vote and keep up. Leaders tell: take the sum. One without a "
            "leader is not among them.",
        )
        self.at_min_quorum = catalogue.reading(
            "at_min_quorum_partitions",
            "Of the under-replicated partitions led here those with no voter to spare: one more loss stops them. "
            "Leaders tell: take the sum.",
        )
        self.moves_active = catalogue.reading(
            "partition_moves_active", "Partitions led here whose voters are not yet those placed. Take the sum."
        )
        self.copies = catalogue.reading("copies", "Replicas that this broker copies its logs to.")
        self.copies_left_bytes = catalogue.reading("copies_left_bytes", "What they lack in all.")
        self.replica_lag_max = catalogue.reading(
            "replica_lag_max_records",
            "Of the partitions led here: what the follower on that broker lacks, where it lacks most.",
            "peer",
        )
