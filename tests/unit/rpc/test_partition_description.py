from __future__ import annotations

from lograft.node.cluster_view import PartitionView, ReplicaView
from lograft.node.controller.facts import PartitionFact
from lograft.node.rpc.partition_description import described_partition
from lograft.node.sightings import Leading
from lograft.partitions.raft.messages import Voter
from lograft.v1 import admin_service_pb2 as pb

HERE, THERE = Voter(0, "a" * 32, 3), Voter(1, "b" * 32, 1)


def described(placed: Voter, *replicas: ReplicaView) -> pb.PartitionDescription:
    """Of a partition that is placed on one broker and led by broker 0, which tells of `replicas` or is silent."""
    view = PartitionView("c" * 32, 0, 0, 3, 0, 20, 1_000, replicas) if replicas else None
    return described_partition(
        0, PartitionFact(placement=(placed,), first_voters=(THERE,)), view, Leading(0, 3), lambda _: True
    )


def replica(voter: Voter, *, votes: bool = True) -> ReplicaView:
    return ReplicaView(voter.broker_id, votes, 20, "OK", *voter[1:])


def test_a_partition_whose_leader_does_not_answer_may_still_be_moving() -> None:
    told = described(HERE)
    assert told.moving and told.leader_id == 0
    assert [one.voter for one in told.replicas] == [False]


def test_a_partition_is_moved_once_just_those_vote_who_are_placed() -> None:
    assert described(HERE, replica(HERE), replica(THERE)).moving
    assert described(HERE, replica(HERE, votes=False), replica(THERE)).moving
    assert not described(HERE, replica(HERE)).moving
    assert not described(HERE, replica(HERE), replica(THERE, votes=False)).moving


def test_who_votes_and_is_placed_elsewhere_by_now_is_shown_as_leaving() -> None:
    told = described(HERE, replica(HERE), replica(THERE))
    assert [(one.broker_id, one.leaving) for one in told.replicas] == [(0, False), (1, True)]
