"""What is unwell, in numbers: without leaders by every broker's own view, without replicas by leaders' word."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from lograft.node.controller.facts import BrokerFact, PartitionFact, TopicFact, put
from lograft.node.controller.state import ClusterState
from lograft.node.sightings import Leading
from lograft.node.vital_signs import LOOK_S_MIN, LedSigns, Signs, VitalSigns, in_turns
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import Voter
from lograft.partitions.raft.points import ORIGIN, Point
from lograft.partitions.replica_status import FollowerStatus

TOPIC_ID = "a" * 32
FIRST, SECOND = PartitionId(TOPIC_ID, 0), PartitionId(TOPIC_ID, 1)
VOTERS = tuple(Voter(broker_id, f"d{broker_id}", broker_id) for broker_id in (1, 2, 3))


def follower(broker_id: int, match: int = 10, *, heard: bool = True, counts: bool = True) -> FollowerStatus:
    point = Point(1, match, 1) if match >= 0 else ORIGIN
    return FollowerStatus(VOTERS[broker_id - 1], True, heard, point, counts, None)


class FakeReplica:
    """Led by broker 1, with two followers."""

    def __init__(self, partition: PartitionId, *followers: FollowerStatus, leads: bool = True) -> None:
        self.partition = partition
        self.voter = VOTERS[0]
        self.voters = self.committed_voters = VOTERS
        self.is_leader = leads
        self.is_damaged = self.is_doubtful = False
        self.unsynced_bytes = 5
        self.log_end = 12
        self.log = SimpleNamespace(size_bytes=1000, segment_count=2)
        self._followers = followers or (follower(2), follower(3))

    def followed_by(self) -> list[tuple[Voter, bool, Point]]:
        return [(one.voter, one.heard and one.counts, one.match) for one in self._followers]


class Scene:
    """Broker 1 of three, and a topic of two partitions."""

    def __init__(self, *replicas: FakeReplica) -> None:
        self.state = ClusterState()
        fact = PartitionFact(placement=VOTERS, first_voters=VOTERS)
        self.state.apply(
            put(
                TopicFact(
                    name="t", topic_id=TOPIC_ID, config={}, partitions=(fact, fact), next_replica_number=4, created_ms=0
                )
            )
        )
        for broker_id in (1, 2, 3):
            self.state.apply(put(BrokerFact(broker_id=broker_id, directory_id=f"d{broker_id}", rack="", joined_ms=0)))
        self.table: dict[PartitionId, Any] = {replica.partition: replica for replica in replicas}
        self.led: list[Any] = [replica for replica in replicas if replica.is_leader]
        self.is_caught_up = True
        self.leaders: dict[PartitionId, int | None] = {FIRST: 1, SECOND: 2}
        self.in_touch = {2, 3}
        self.heartbeats = SimpleNamespace(is_heard=self.in_touch.__contains__)
        self.now_ms = 1_000.0
        self.silent_for_ms: dict[int, float] = {2: 40.0, 3: 0.0}
        self.signs = VitalSigns(1, self, self, lambda _: 10, lambda: self.now_ms)  # type: ignore[arg-type]

    def leader_of(self, partition: PartitionId) -> Leading:
        return Leading(self.leaders[partition], 1)

    def placed_voters(self, replica: Any) -> tuple[Voter, ...]:
        return VOTERS

    # Links

    @property
    def sessions(self) -> list[Any]:
        return [SimpleNamespace(broker_id=broker_id) for broker_id in sorted(self.in_touch)]

    def session(self, broker_id: int) -> Any:
        return object() if broker_id in self.in_touch else None

    def silent_ms(self, broker_id: int) -> float | None:
        return self.silent_for_ms[broker_id] if broker_id in self.in_touch else None

    def look(self) -> Signs:
        asyncio.run(self.signs.look())
        return self.signs.signs


def test_all_is_well() -> None:
    found = Scene(FakeReplica(FIRST), FakeReplica(SECOND, leads=False)).look()
    assert (found.leaderless, found.under_replicated, found.at_min_quorum, found.moves_active) == (0, 0, 0, 0)
    assert found.sizes == {"t": (2000, 4)} and found.unsynced_bytes == 10
    assert found.led == {FIRST: LedSigns(3, 3, 2, ((2, 2), (3, 2)))}


def test_a_partition_whose_leader_is_unknown_or_out_of_touch_is_leaderless() -> None:
    scene = Scene()
    scene.leaders[FIRST] = None
    assert scene.look().leaderless == 1
    scene.in_touch.discard(2)
    assert scene.look().leaderless == 2


def test_a_follower_that_is_silent_behind_or_doubtful_leaves_a_partition_under_replicated() -> None:
    for bad in (follower(2, heard=False), follower(2, 9), follower(2, counts=False)):
        found = Scene(FakeReplica(FIRST, bad, follower(3))).look()
        assert (found.under_replicated, found.at_min_quorum) == (1, 1), bad


def test_with_a_voter_to_spare_one_that_is_missing_is_no_danger_yet() -> None:
    five = tuple(Voter(number, f"d{number}", number) for number in range(1, 6))
    replica = FakeReplica(FIRST)
    replica.voters = replica.committed_voters = five
    replica._followers = tuple(
        FollowerStatus(voter, True, voter.broker_id != 5, Point(1, 10, 1), True, None) for voter in five[1:]
    )
    scene = Scene(replica)
    (topic,) = scene.state.topics.values()
    partition = PartitionFact(placement=five, first_voters=five)
    scene.state.apply(put(TopicFact(**{**_fields(topic), "partitions": (partition, partition)})))
    found = scene.look()
    assert (found.under_replicated, found.at_min_quorum) == (1, 0)


def _fields(topic: TopicFact) -> dict[str, Any]:
    return {name: getattr(topic, name) for name in topic.__struct_fields__}


def test_the_most_that_a_follower_lacks_is_told_by_broker_and_nothing_of_whom_nothing_is_known() -> None:
    replicas = FakeReplica(FIRST, follower(2, 7), follower(3, -1)), FakeReplica(SECOND, follower(2, 11), follower(3))
    assert Scene(*replicas).look().lag_max == {2: 5, 3: 2}


def test_voters_that_are_not_those_placed_are_a_move() -> None:
    replica = FakeReplica(FIRST)
    replica.voters = VOTERS[:2]
    assert Scene(replica).look().moves_active == 1


def test_brokers_are_up_as_long_as_they_are_in_touch_and_removed_ones_do_not_count() -> None:
    scene = Scene()
    scene.in_touch.discard(3)
    assert (len(scene.signs.registered()), scene.signs.up()) == (3, 2)
    scene.state.apply(put(BrokerFact(broker_id=3, directory_id="d3", rack="", joined_ms=0, removed=True)))
    assert (len(scene.signs.registered()), scene.signs.up()) == (2, 2)


def test_silence_grows_from_when_a_broker_was_last_heard() -> None:
    scene = Scene()
    scene.look()
    assert dict(scene.signs.silences_s()) == {2: 0.04, 3: 0.0}
    scene.in_touch.discard(2)
    scene.now_ms += 5_000
    assert dict(scene.signs.silences_s()) == {2: 5.04, 3: 0.0}


def test_looks_are_rarer_where_there_are_many_partitions() -> None:
    scene = Scene()
    assert scene.signs.due_s == LOOK_S_MIN
    scene.led = [None] * 1000
    assert 2.9 < scene.signs.due_s < 3.2


def test_the_loop_turns_while_many_are_looked_at() -> None:
    async def scene() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        assert [thing async for thing in in_turns(range(100), per_turn=10)] == [*range(100)]
        counting.cancel()
        return turns

    assert asyncio.run(scene()) >= 9
