from __future__ import annotations

import pytest
from lograft.client.admin import CopyProgress, PartitionDescription, ReplicaDescription
from lograft.client.cli.endings import Refused
from lograft.client.cli.move_watch import is_done
from lograft.client.cli.partition_commands import copied, shown_copy

MIB = 1 << 20


def a_partition(*replicas: ReplicaDescription, moving: bool = True) -> PartitionDescription:
    return PartitionDescription(3, 1, 7, replicas, 0, 100, 1000, moving)


def replica(broker_id: int, *, voter: bool = True, leaving: bool = False, copying: CopyProgress | None = None):
    return ReplicaDescription(broker_id, voter, True, 100, "OK", leaving, copying)


@pytest.mark.parametrize(
    ("copying", "text"),
    [
        (CopyProgress(12 * MIB, 80 * MIB, 20 * MIB, 3.4), "12.0 MiB of 80.0 MiB, 20.0 MiB/s, 3.4 s left"),
        (CopyProgress(0, 80 * MIB, None, None), "0 B of 80.0 MiB"),
        (CopyProgress(5 * MIB, 80 * MIB, 0, None), "5.0 MiB of 80.0 MiB, 0 B/s"),
        (CopyProgress(MIB, 900 << 30, 50 * MIB, 18_432.0), "1.0 MiB of 900.0 GiB, 50.0 MiB/s, 5 h left"),
    ],
)
def test_how_far_a_copy_is_says_what_is_known_and_no_more(copying: CopyProgress, text: str) -> None:
    assert shown_copy(copying) == text


def test_each_replica_that_is_copied_is_told_by_its_broker() -> None:
    copying = CopyProgress(1 * MIB, 2 * MIB, None, None)
    partition = a_partition(
        replica(1), replica(2, voter=False, copying=copying), replica(4, voter=False, copying=copying)
    )
    assert copied(partition) == "to 2: 1.0 MiB of 2.0 MiB; to 4: 1.0 MiB of 2.0 MiB"
    assert copied(a_partition(replica(1))) == ""


def test_a_move_is_done_once_just_those_vote_and_nothing_leaves() -> None:
    assert not is_done(a_partition(replica(1), replica(2, voter=False)), [1, 2])
    assert not is_done(a_partition(replica(1), replica(2), replica(3, leaving=True)), [1, 2])
    # Without a leader that answers nobody knows who votes.
    assert not is_done(a_partition(replica(1, voter=False), replica(2, voter=False), moving=False), [1, 2])
    assert is_done(a_partition(replica(1), replica(2), moving=False), [2, 1])


def test_waiting_ends_if_somebody_moves_the_partition_elsewhere() -> None:
    with pytest.raises(Refused, match="was placed on 1,3 meanwhile"):
        is_done(a_partition(replica(1), replica(3)), [1, 2])
