"""How a topic's fact changes when replicas go elsewhere.

What always holds
    who stays where it is stays who it is; everybody else gets a replica number that was never given out in the topic
    first voters are those of the partition's beginning, whatever comes later
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ...partitions.raft.messages import Voter
from .facts import PartitionFact, TopicFact


def placed_on(topic: TopicFact, number: int, brokers: Sequence[int], directories: Mapping[int, str]) -> TopicFact:
    """The topic with the replicas of partition `number` on `brokers`, the preferred leader first.

    `directories`: the directory id that each broker has now. A replica on another disk of its broker is not there.
    """
    present = {voter[:2]: voter for voter in topic.partitions[number].placement}
    next_number = topic.next_replica_number
    placement = []
    for broker_id in brokers:
        disk = (broker_id, directories[broker_id])
        if disk not in present:
            present[disk] = Voter(*disk, next_number)
            next_number += 1
        placement.append(present[disk])
    partition = msgspec.structs.replace(topic.partitions[number], placement=tuple(placement))
    return msgspec.structs.replace(
        topic, partitions=_with(topic.partitions, number, partition), next_replica_number=next_number
    )


def rehomed(topic: TopicFact, broker_id: int, directories: Mapping[int, str]) -> TopicFact:
    """The topic as it is once a broker has come up on another disk: what was on the old one is placed there anew."""
    for number, partition in enumerate(topic.partitions):
        if any(voter.broker_id == broker_id for voter in partition.placement):
            topic = placed_on(topic, number, [voter.broker_id for voter in partition.placement], directories)
    return topic


def _with(partitions: tuple[PartitionFact, ...], number: int, partition: PartitionFact) -> tuple[PartitionFact, ...]:
    return (*partitions[:number], partition, *partitions[number + 1 :])
