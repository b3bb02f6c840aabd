"""One partition as clients are told of it: what was decided, and what its leader says of that.

Invariants
    a partition counts as moving until a leader says that just those vote who are placed: where none answers, nobody
        knows, and whoever takes "not moving" for leave to switch a broker off must not be misled
"""

from __future__ import annotations

from collections.abc import Callable

from lograft.v1 import admin_service_pb2 as pb

from ...partitions.raft.messages import Voter
from ..cluster_view import PartitionView, ReplicaView
from ..controller.facts import PartitionFact
from ..sightings import Leading
from .recoveries import described_recovery


def described_partition(
    number: int, fact: PartitionFact, view: PartitionView | None, leader: Leading, is_alive: Callable[[int], bool]
) -> pb.PartitionDescription:
    """`view`: what its leader says, if one answers; `leader`: who leads, as far as is known here."""
    described = pb.PartitionDescription(
        number=number,
        leader_id=-1 if leader.broker_id is None else leader.broker_id,
        term=leader.term,
        log_start_offset=-1,
        committed_offset=-1,
        size_bytes=-1,
        moving=view is None or is_moving(fact, view),
    )
    if view is not None:
        described.leader_id, described.term = view.leader_id, view.term
        described.log_start_offset, described.committed_offset = view.start_offset, view.committed_offset
        described.size_bytes = view.size_bytes
    # Of two identities on one broker the one that lives counts.
    known = sorted(view.replicas, key=lambda replica: replica.state == "OK") if view is not None else []
    seen = {replica.broker_id: replica for replica in known}
    for placed in fact.placement:
        alive = is_alive(placed.broker_id)
        replica = seen.get(placed.broker_id)
        described.replicas.add(
            broker_id=placed.broker_id,
            voter=replica is not None and replica.votes,
            alive=alive,
            match_offset=-1 if replica is None else replica.match_offset,
            state=replica.state if replica is not None else "BEHIND" if alive else "UNREACHABLE",
            copying=_copying(replica, placed),
        )
    if fact.recovery is not None:
        described.recovery.CopyFrom(described_recovery(fact.recovery))
    placed_on = {placed.broker_id for placed in fact.placement}
    for replica in view.replicas if view is not None else ():
        if replica.votes and replica.broker_id not in placed_on:
            described.replicas.add(
                broker_id=replica.broker_id,
                voter=True,
                alive=is_alive(replica.broker_id),
                match_offset=replica.match_offset,
                state=replica.state,
                leaving=True,
            )
    return described


def is_moving(fact: PartitionFact, view: PartitionView) -> bool:
    """Do not just those vote who are placed? Who fills another's place is told by the leader as that one."""
    return {*view.voters} != {*fact.placement}


def _copying(replica: ReplicaView | None, placed: Voter) -> pb.CopyProgress | None:
    """Of a replica that is to vote, and does not yet."""
    if replica is None or replica.copying is None or replica.voter != placed:
        return None
    return pb.CopyProgress(**replica.copying._asdict())
