"""What a member of Kafka's server-side protocol was told, and what it may store by it.

Each partition stands with its *since*: the epoch under which the member was told to have it. The grant that it was told
of is the one in force as long as that grant's generation is not above this.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...partitions.environment import PartitionId
from ...proto.errors import StaleEpoch
from .calls import OffsetToStore
from .facts import GrantFact, Places, ToldFact


def flat(places: Places) -> dict[PartitionId, int]:
    """Partition -> since."""
    return {
        PartitionId(topic_id, int(number)): since
        for topic_id, numbers in places.items()
        for number, since in numbers.items()
    }


def nested(since: Mapping[PartitionId, int]) -> Places:
    places: Places = {}
    for partition, epoch in sorted(since.items()):
        places.setdefault(partition.topic_id, {})[str(partition.number)] = epoch
    return places


def since(told: ToldFact, partition: PartitionId) -> int | None:
    """None: the member was not told to have the partition, or has given it up."""
    for places in (told.assigned, told.revoking):
        if (epoch := places.get(partition.topic_id, {}).get(str(partition.number))) is not None:
            return epoch
    return None


def refuse_stale(
    told: ToldFact, grant: GrantFact | None, partition: PartitionId, member_id: str, entry: OffsetToStore
) -> None:
    """Raises StaleEpoch unless the member has had the partition, under the grant in force, since before the epoch that
    it names (`entry.generation`)."""
    began = since(told, partition)
    if (
        grant is None
        or grant.member_id != member_id
        or began is None
        or not grant.generation <= began <= entry.generation <= told.epoch
    ):
        raise StaleEpoch(
            f"{entry.topic}-{entry.number} was not this member's in epoch {entry.generation}, or is no longer: go on "
            "with what it is told to have now",
            epoch=told.epoch,
        )
