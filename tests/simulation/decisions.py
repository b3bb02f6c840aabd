"""What is decided about where replicas should be, and how late each broker hears of it.

Invariants
    a decision is a whole topic fact, made of the one before by the controller's own code
    a process applies decisions in their order, from any earlier one on when it starts, and never goes back
    it creates nothing before it has applied all that was decided when it started, as a real broker does
"""

from __future__ import annotations

from collections.abc import Sequence

from lograft.node.controller.facts import PartitionFact, RecoveryFact, TopicFact
from lograft.node.controller.moves import placed_on, rehomed
from lograft.node.controller.recoveries import recovered
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import Voter


class Decisions:
    """Every version of the one topic's fact, the newest last."""

    def __init__(self, topic_id: str, placements: Sequence[Sequence[int]], directories: dict[int, str]) -> None:
        self.directories = directories
        """Broker id -> directory id, as registered."""
        number = 1
        partitions = []
        for brokers in placements:
            voters = tuple(Voter(broker, directories[broker], number + at) for at, broker in enumerate(brokers))
            number += len(voters)
            partitions.append(PartitionFact(placement=voters, first_voters=voters))
        topic = TopicFact(
            name="simulated",
            topic_id=topic_id,
            config={},
            partitions=tuple(partitions),
            next_replica_number=number,
            created_ms=0,
        )
        self.versions = [topic]

    @property
    def newest(self) -> TopicFact:
        return self.versions[-1]

    def placement(self, partition: PartitionId) -> tuple[Voter, ...]:
        return self.newest.partitions[partition.number].placement

    def move(self, partition: PartitionId, brokers: Sequence[int]) -> bool:
        """False: that is where they are."""
        moved = placed_on(self.newest, partition.number, brokers, self.directories)
        if moved == self.newest:
            return False
        self.versions.append(moved)
        return True

    def recover(self, partition: PartitionId, source: Voter, brokers: Sequence[int], *, term_seen: int) -> RecoveryFact:
        """An operator gave up what all others held."""
        topic = recovered(
            self.newest,
            partition.number,
            source,
            brokers,
            self.directories,
            term_seen=term_seen,
            kept_offset=0,
            lost_offset=0,
            unknown_brokers=(),
            decided_ms=0,
            by="",
        )
        self.versions.append(topic)
        recovery = topic.partitions[partition.number].recovery
        assert recovery is not None
        return recovery

    def register(self, broker_id: int, directory_id: str) -> None:
        """A broker came up on another disk: what was on the old one is placed there anew."""
        if self.directories[broker_id] == directory_id:
            return
        self.directories[broker_id] = directory_id
        self.versions.append(rehomed(self.newest, broker_id, self.directories))
