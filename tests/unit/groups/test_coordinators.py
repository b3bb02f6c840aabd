"""Which coordinators a broker has, and who is told of which, as replicas of `__offsets` come, change and go."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from lograft.node.controller.facts import OFFSETS_TOPIC, OFFSETS_TOPIC_ID, PartitionFact, TopicFact, put
from lograft.node.controller.state import ClusterState
from lograft.node.groups import coordinators as module
from lograft.node.groups.coordinators import Coordinators
from lograft.node.groups.rules import GroupsLimits
from lograft.node.sightings import Leading
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import Voter
from lograft.partitions.raft.points import ORIGIN
from lograft.proto.errors import BrokerUnavailable, InvalidGroup, LograftError, NoLeader, NotLeader
from lograft.proto.record_batch import partition_for_key

PARTITIONS = 4
USERS_TOPIC_ID = "b" * 32


class FakeReplica:
    """A replica of `__offsets`, or of another topic; empty."""

    def __init__(self, number: int, topic_id: str = OFFSETS_TOPIC_ID, *, leads: bool = False) -> None:
        self.partition = PartitionId(topic_id, number)
        self.is_leader = self.is_ready = leads
        self.term = 1
        self.committed = ORIGIN
        self.resets = 0
        self.followed = 0

    def on_commit_past(self, offset: int, callback: Callable[[], None]) -> None:
        self.followed += 1


class FakeCoordinator:
    """Notes what it is told."""

    def __init__(self, number: int, replica: Any, log: Any, outside: Any, limits: Any) -> None:
        self.number, self.replica, self.log, self.outside = number, replica, log, outside
        self.told: list[str] = []

    def leadership_changed(self) -> None:
        self.told.append("leadership")

    def decisions_changed(self) -> None:
        self.told.append("decisions")

    def stop(self) -> None:
        self.told.append("stop")


class Scene:
    """Broker 1, with `__offsets` decided, and whatever replicas a test opens."""

    def __init__(self, *, decided: bool = True) -> None:
        self.state = ClusterState()
        self.table: dict[int, FakeReplica] = {}
        self.leaders: dict[int, int] = {}
        self.awake = self.caught_up = True
        self.forgotten = 0
        self.soon: list[Callable[[], None]] = []
        if decided:
            voters = (Voter(1, "d", 1),)
            fact = PartitionFact(placement=voters, first_voters=voters)
            self.state.apply(
                put(
                    TopicFact(
                        name=OFFSETS_TOPIC,
                        topic_id=OFFSETS_TOPIC_ID,
                        config={},
                        partitions=(fact,) * PARTITIONS,
                        next_replica_number=2,
                        created_ms=0,
                    )
                )
            )
        environment = SimpleNamespace(call_soon=self.soon.append, log=lambda event, **facts: None)
        lag = SimpleNamespace(forget_deleted=self._forget, known_end=lambda partition: 7)
        self.coordinators = Coordinators(self, lag, environment, GroupsLimits())  # type: ignore[arg-type]

    def open(self, *replicas: FakeReplica) -> None:
        for replica in replicas:
            if replica.partition.topic_id == OFFSETS_TOPIC_ID:
                self.table[replica.partition.number] = replica
            self.coordinators.opened(replica)  # type: ignore[arg-type]

    def turn(self) -> None:
        soon, self.soon[:] = list(self.soon), []
        for callback in soon:
            callback()

    def refusal(self, ask: Callable[[str], object], group: str) -> LograftError:
        with pytest.raises(LograftError) as refused:
            ask(group)
        return refused.value

    def _forget(self) -> None:
        self.forgotten += 1

    # Replicas

    def leading(self, name: str, number: int) -> Any:
        assert name == OFFSETS_TOPIC
        replica = self.table.get(number)
        if replica is None or not replica.is_leader or not self.awake:
            raise NotLeader("elsewhere", leader_id=2)
        return SimpleNamespace(replica=replica)

    def leader_of(self, partition: PartitionId) -> Leading:
        return Leading(self.leaders.get(partition.number), 5)

    def check_caught_up(self) -> None:
        if not self.caught_up:
            raise BrokerUnavailable("not read yet")


@pytest.fixture(autouse=True)
def fake_coordinator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Coordinator", FakeCoordinator)


def a_group_of(number: int) -> str:
    """A name that belongs to this partition of `__offsets`."""
    return next(f"g{n}" for n in range(1000) if partition_for_key(f"g{n}".encode(), PARTITIONS) == number)


def told(coordinators: Coordinators, number: int) -> list[str]:
    coordinator: Any = coordinators.of(a_group_of(number))
    return list(coordinator.told)


def test_a_group_is_coordinated_by_whoever_leads_its_partition() -> None:
    scene = Scene()
    scene.open(*(FakeReplica(number, leads=True) for number in range(PARTITIONS)))
    assert [scene.coordinators.of(a_group_of(number)).number for number in range(PARTITIONS)] == [0, 1, 2, 3]


def test_names_are_found_as_other_clients_find_partitions_by_key() -> None:
    scene = Scene()
    scene.open(*(FakeReplica(number, leads=True) for number in range(PARTITIONS)))
    for name in ("grüppe", "g" * 249, "日本"):
        assert scene.coordinators.of(name).number == partition_for_key(name.encode(), PARTITIONS)


def test_a_follower_has_a_coordinator_that_follows_and_is_not_asked() -> None:
    scene = Scene()
    replica = FakeReplica(2)
    scene.open(replica)
    scene.turn()
    assert replica.followed == 1
    assert isinstance(scene.refusal(scene.coordinators.of, a_group_of(2)), NotLeader)
    assert scene.coordinators.led() == []


def test_logs_are_read_one_piece_in_each_turn_of_the_loop() -> None:
    scene = Scene()
    replicas = [FakeReplica(number) for number in range(3)]
    scene.open(*replicas)
    for followed in (1, 2, 3, 3):
        scene.turn()
        assert sum(replica.followed for replica in replicas) == followed


def test_what_was_closed_before_its_turn_is_not_followed() -> None:
    scene = Scene()
    replica = FakeReplica(0)
    scene.open(replica)
    scene.coordinators.closed(replica.partition)
    scene.turn()
    assert replica.followed == 0


def test_only_those_that_lead_and_know_what_is_committed_are_listed() -> None:
    scene = Scene()
    taking_office = FakeReplica(1, leads=True)
    taking_office.is_ready = False
    scene.open(FakeReplica(3, leads=True), taking_office, FakeReplica(2), FakeReplica(0, leads=True))
    assert [coordinator.number for coordinator in scene.coordinators.led()] == [0, 3]


def test_after_the_loop_slept_none_is_named() -> None:
    scene = Scene()
    scene.open(FakeReplica(0, leads=True))
    scene.awake = False
    assert isinstance(scene.refusal(scene.coordinators.of, a_group_of(0)), NotLeader)
    assert scene.coordinators.led() == []


def test_changes_of_role_are_told_to_the_one_concerned_after_the_replicas_step() -> None:
    scene = Scene()
    first, second = FakeReplica(0, leads=True), FakeReplica(1, leads=True)
    scene.open(first, second)
    assert told(scene.coordinators, 0) == []
    scene.turn()
    assert told(scene.coordinators, 0) == ["leadership"], "it may have led from the start"
    scene.coordinators.role_changed(first)  # type: ignore[arg-type]
    assert told(scene.coordinators, 0) == ["leadership"]
    scene.turn()
    assert told(scene.coordinators, 0) == ["leadership"] * 2
    assert told(scene.coordinators, 1) == ["leadership"]


def test_users_partitions_are_nobodys_to_coordinate() -> None:
    scene = Scene()
    users = FakeReplica(0, USERS_TOPIC_ID, leads=True)
    scene.open(users, FakeReplica(0, leads=True))
    scene.turn()
    scene.coordinators.role_changed(users)  # type: ignore[arg-type]
    scene.coordinators.closed(users.partition)
    scene.turn()
    assert users.followed == 0
    assert told(scene.coordinators, 0) == ["leadership"]


def test_decisions_are_told_to_all_and_ends_of_deleted_topics_forgotten() -> None:
    scene = Scene()
    scene.open(FakeReplica(0, leads=True), FakeReplica(1, leads=True))
    scene.coordinators.decisions_changed(["topic/t"])
    assert (told(scene.coordinators, 0), told(scene.coordinators, 1)) == (["decisions"], ["decisions"])
    assert scene.forgotten == 0
    scene.coordinators.decisions_changed(["topic/t", "deleted/" + USERS_TOPIC_ID])
    assert scene.forgotten == 1


def test_a_replica_that_goes_takes_its_coordinator_with_it() -> None:
    scene = Scene()
    replica = FakeReplica(0, leads=True)
    scene.open(replica)
    coordinator: Any = scene.coordinators.of(a_group_of(0))
    scene.coordinators.closed(replica.partition)
    assert coordinator.told[-1] == "stop"
    assert isinstance(scene.refusal(scene.coordinators.of, a_group_of(0)), NoLeader)


def test_a_stopped_broker_coordinates_nothing_any_more() -> None:
    scene = Scene()
    replica = FakeReplica(0, leads=True)
    scene.open(replica)
    coordinator: Any = scene.coordinators.of(a_group_of(0))
    scene.coordinators.stop()
    assert coordinator.told == ["stop"]
    refusal = scene.refusal(scene.coordinators.of, a_group_of(0))
    assert isinstance(refusal, NoLeader) and refusal.retriable
    scene.open(FakeReplica(1, leads=True))
    assert scene.coordinators.led() == []


def test_any_broker_says_who_coordinates() -> None:
    scene = Scene()
    scene.leaders[2] = 3
    place = scene.coordinators.place(a_group_of(2))
    assert place == (PartitionId(OFFSETS_TOPIC_ID, 2), 3, 5)
    refusal = scene.refusal(scene.coordinators.place, a_group_of(1))
    assert isinstance(refusal, NoLeader) and refusal.facts["term"] == "5"


def test_until_the_topic_is_made_one_is_asked_to_try_again() -> None:
    scene = Scene(decided=False)
    assert scene.coordinators.partition_count == 0
    for ask in (scene.coordinators.of, scene.coordinators.place):
        refusal = scene.refusal(ask, "g")
        assert isinstance(refusal, NoLeader) and OFFSETS_TOPIC in refusal.message
    scene.caught_up = False
    assert isinstance(scene.refusal(scene.coordinators.of, "g"), BrokerUnavailable)


def test_bad_names_are_refused_before_anything_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    monkeypatch.setattr(module, "partition_for_key", lambda key, count: pytest.fail("hashed"))
    for name in ("", "a\nb", "x" * (1 << 20)):
        for ask in (scene.coordinators.of, scene.coordinators.place):
            assert isinstance(scene.refusal(ask, name), InvalidGroup)


def test_a_coordinator_sees_the_decisions_in_force_also_after_they_were_replaced() -> None:
    scene = Scene()
    scene.open(FakeReplica(0, leads=True))
    coordinator: Any = scene.coordinators.of(a_group_of(0))
    first, scene.state = scene.state, scene.state.copy()
    assert coordinator.outside.topics() is scene.state is not first
    assert coordinator.outside.known_end(PartitionId(USERS_TOPIC_ID, 0)) == 7
