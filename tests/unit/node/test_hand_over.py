from __future__ import annotations

import asyncio
from collections import Counter

from lograft.node.hand_over import AT_ONCE, HandedOver, hand_over
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import Voter
from lograft.proto.errors import NoLeader

VOTERS = tuple(Voter(broker_id, f"{broker_id:032x}", 1) for broker_id in range(3))


class FakeReplica:
    """Led by broker 0; `takers` take over when they are handed the leadership."""

    def __init__(
        self,
        number: int = 0,
        *,
        voters: tuple[Voter, ...] = VOTERS,
        up: frozenset[int] = frozenset({1, 2}),
        takers: frozenset[int] = frozenset({1, 2}),
    ) -> None:
        self.partition = PartitionId("a" * 32, number)
        self.voter, self.voters = voters[0], voters
        self.leader_id = 0
        self.tried: list[int] = []
        self.under_way: Counter[str] = Counter()
        self._up, self._takers = up, takers

    @property
    def is_leader(self) -> bool:
        return self.leader_id == 0

    def keeps_up(self, voter: Voter) -> bool:
        return voter.broker_id in self._up

    async def transfer_leadership(self, broker_id: int, timeout_ms: int = 0) -> None:
        self.tried.append(broker_id)
        self.under_way["now"] += 1
        self.under_way["most"] = max(self.under_way.values())
        await asyncio.sleep(0)
        self.under_way["now"] -= 1
        if broker_id not in self._takers:
            raise NoLeader(f"broker {broker_id} did not take over")
        self.leader_id = broker_id


def handed_over(
    replicas: list[FakeReplica], *, willing: frozenset[int] = frozenset({1, 2}), asked: list[int] | None = None
) -> HandedOver:
    async def takes_over(broker_id: int) -> bool:
        if asked is not None:
            asked.append(broker_id)
        return broker_id in willing

    return asyncio.run(hand_over(replicas, lambda replica: replica.voters, takes_over))


def test_everything_is_handed_over_and_the_others_get_equally_many() -> None:
    replicas = [FakeReplica(number) for number in range(10)]
    asked: list[int] = []
    assert handed_over(replicas, asked=asked) == HandedOver(10, ())
    assert Counter(replica.leader_id for replica in replicas) == {1: 5, 2: 5}
    assert sorted(asked) == [1, 2], "each broker is asked once, however many partitions there are"


def test_replica_that_lags_gets_nothing() -> None:
    replicas = [FakeReplica(number, up=frozenset({2})) for number in range(4)]
    assert handed_over(replicas) == HandedOver(4, ())
    assert {replica.leader_id for replica in replicas} == {2}


def test_broker_that_is_stopping_too_gets_nothing_and_what_nobody_takes_costs_no_try() -> None:
    replicas = [FakeReplica(number) for number in range(4)]
    assert handed_over(replicas, willing=frozenset()).kept == tuple(replica.partition for replica in replicas)
    assert not any(replica.tried for replica in replicas)


def test_the_next_one_gets_what_the_first_did_not_take_and_the_first_is_left_alone_from_then_on() -> None:
    replicas = [FakeReplica(number, takers=frozenset({2})) for number in range(3 * AT_ONCE)]
    assert handed_over(replicas) == HandedOver(len(replicas), ())
    assert {replica.leader_id for replica in replicas} == {2}
    assert all(replica.tried == [2] for replica in replicas[AT_ONCE:])


def test_partition_with_one_replica_is_kept() -> None:
    alone = FakeReplica(voters=VOTERS[:1])
    assert handed_over([alone]) == HandedOver(0, (alone.partition,))


def test_partition_whose_leadership_was_lost_meanwhile_counts_as_handed_over() -> None:
    replica = FakeReplica()
    replica.leader_id = 2
    assert handed_over([replica]) == HandedOver(1, ()) and not replica.tried


def test_few_hand_overs_are_under_way_at_a_time() -> None:
    replicas = [FakeReplica(number) for number in range(4 * AT_ONCE)]
    for replica in replicas:
        replica.under_way = replicas[0].under_way
    handed_over(replicas)
    assert replicas[0].under_way["most"] <= AT_ONCE
