"""How a topic's fact changes when an operator gives up what a partition's majority held.

What always holds
    one fact says both who is dead and who is placed instead: nobody learns of a new identity without learning that the
        old ones are dead
    every identity of the new lineage has a number that was never given out; all numbers from before it are dead
    the term of the new lineage lies beyond all that is known, so that whoever still names an old leader is outbid
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ...partitions.raft.messages import Voter
from .facts import PartitionFact, RecoveryFact, TopicFact
from .state import ClusterState

TERM_JUMP = 1_000
"""An old lineage that is out of touch may go on electing; pre-votes keep it from getting far."""


def recovered(
    topic: TopicFact,
    number: int,
    source: Voter,
    brokers: Sequence[int],
    directories: Mapping[int, str],
    *,
    term_seen: int,
    kept_offset: int,
    lost_offset: int,
    unknown_brokers: Sequence[int],
    decided_ms: int,
    by: str,
) -> TopicFact:
    """The topic once the log of `source` goes on alone, with its replicas to be on `brokers`, that of `source` first.

    `directories`: the directory id that each broker has now; that of `source` must be its broker's.
    """
    assert brokers[0] == source.broker_id and directories[source.broker_id] == source.directory_id, (
        f"{source} is to go on, but {brokers} are named, and its broker is on {directories.get(source.broker_id)}"
    )
    first_number = topic.next_replica_number
    placement = tuple(
        Voter(broker_id, directories[broker_id], first_number + at) for at, broker_id in enumerate(brokers)
    )
    before = topic.partitions[number]
    recovery = RecoveryFact(
        number=1 if before.recovery is None else before.recovery.number + 1,
        source=source,
        heir=placement[0],
        first_number=first_number,
        term=max(term_seen, 0 if before.recovery is None else before.recovery.term) + TERM_JUMP,
        kept_offset=kept_offset,
        lost_offset=max(lost_offset, kept_offset),
        unknown_brokers=tuple(unknown_brokers),
        decided_ms=decided_ms,
        by=by,
    )
    after: PartitionFact = msgspec.structs.replace(before, placement=placement, recovery=recovery)
    partitions = (*topic.partitions[:number], after, *topic.partitions[number + 1 :])
    return msgspec.structs.replace(topic, partitions=partitions, next_replica_number=first_number + len(placement))


class KnownRecoveries:
    """Which recoveries somebody was told of."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, int], int] = {}

    def new_in(self, state: ClusterState, keys: Sequence[str]) -> Iterator[tuple[str, int, RecoveryFact]]:
        """Topic name, partition number and recovery, of those under `keys` that were not given before."""
        for key in keys:
            topic = state.topic(key.removeprefix(TopicFact.prefix)) if key.startswith(TopicFact.prefix) else None
            for number, fact in enumerate(topic.partitions if topic is not None else ()):
                if topic is not None and fact.recovery is not None:
                    known = self._told.get((topic.topic_id, number), 0)
                    self._told[topic.topic_id, number] = fact.recovery.number
                    if known < fact.recovery.number:
                        yield topic.name, number, fact.recovery
