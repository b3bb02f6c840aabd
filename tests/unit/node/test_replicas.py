"""Who leads what as this broker tells it, with replicas and neighbours that are only named."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from lograft.node.config import BrokerConfig, BrokerSection
from lograft.node.controller.facts import DeletedTopicFact, PartitionFact, RecoveryFact, TopicFact, put
from lograft.node.metrics import Metrics
from lograft.node.open_retries import FIRST_WAIT_MS
from lograft.node.replicas import CLUSTER_PARTITION, Replicas, remove_tree
from lograft.node.sightings import Addresses, ExchangedSightings, Led, Sighting
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import AppendRequest, ReadProbe, Voter
from lograft.partitions.raft.points import ORIGIN, Item, ItemKind, Point
from lograft.partitions.real_environment import RealDisk
from lograft.partitions.storage.promise_frames import DeletedFrame, DirectoryFrame
from lograft.partitions.storage.promised import Promised
from lograft.proto.errors import (
    BrokerUnavailable,
    DiskFull,
    LograftError,
    NoLeader,
    NotAuthorized,
    NotLeader,
    UnknownPartition,
    UnknownTopic,
    UnknownTopicId,
)

TOPIC_ID = "a" * 32
PARTITION = PartitionId(TOPIC_ID, 0)
MINE, OTHER = Voter(1, "mine", 1), Voter(2, "other", 2)
CONFIG = BrokerConfig(broker=BrokerSection(id=1, data_directory="nowhere"))


class FakeReplica(SimpleNamespace):
    """A replica on broker 1; whoever it takes for the leader."""

    def __init__(self, leader: Voter | None, term: int = 5) -> None:
        super().__init__(partition=PARTITION, leader=leader, term=term, voters=(MINE, OTHER), learners=(), heard=[])

    @property
    def is_leader(self) -> bool:
        return self.leader == MINE

    def step_down(self, reason: str) -> None:
        self.heard.append(reason)
        self.leader = None

    def receive(self, message: Any) -> None:
        self.heard.append(message)


class Scene:
    """Broker 1 with one topic of one partition, on brokers 1 and 2. All decisions are read."""

    def __init__(self, replica: FakeReplica | None = None, *, name: str = "events") -> None:
        self.now_ms = 0.0
        self.free_bytes = 1 << 40
        self.heard_brokers = {2}
        environment = SimpleNamespace(
            monotonic_ms=lambda: self.now_ms,
            log=lambda event, **facts: None,
            disk=SimpleNamespace(free_bytes=lambda: self.free_bytes, total_bytes=lambda: 1 << 41),
            call_soon=lambda callback: None,
        )
        self.sightings = ExchangedSightings(send=lambda body: None)
        self.replicas = Replicas(
            environment,  # type: ignore[arg-type]
            SimpleNamespace(directory_id="mine"),  # type: ignore[arg-type]
            SimpleNamespace(),  # type: ignore[arg-type]
            SimpleNamespace(),  # type: ignore[arg-type]
            CONFIG,
            self.sightings,
            Metrics(),
            open_files_max=1 << 20,
        )
        self.replicas.heartbeats = SimpleNamespace(  # type: ignore[assignment]
            is_heard=self.heard_brokers.__contains__, tick=lambda now_ms: None, role_changed=lambda replica: None
        )
        self.replicas.transport = SimpleNamespace(take_cut_off=list)  # type: ignore[assignment]
        self.replicas._may_create = True
        fact = PartitionFact(placement=(MINE, OTHER), first_voters=(MINE, OTHER))
        self.topic = TopicFact(
            name=name, topic_id=TOPIC_ID, config={}, partitions=(fact,), next_replica_number=3, created_ms=0
        )
        self.replicas.state.apply(put(self.topic))
        if replica is not None:
            self.replicas.table[PARTITION] = replica  # type: ignore[assignment]
            self.replicas.role_changed(replica)  # type: ignore[arg-type]

    def see_leader(self, broker_id: int, term: int) -> None:
        addresses = Addresses(f"host:{broker_id}", "", "")
        self.sightings.see(Sighting(broker_id, "d", 1, term, addresses, "", "1", (Led(TOPIC_ID, 0, term),)))

    def refusal(self, number: int = 0, topic_id: str = "", name: str = "events") -> LograftError:
        with pytest.raises(LograftError) as refused:
            self.replicas.leading(name, number, topic_id)
        return refused.value


def test_the_leader_here_is_given_with_the_topics_settings() -> None:
    replica = FakeReplica(leader=MINE)
    led = Scene(replica).replicas.leading("events", 0, TOPIC_ID)
    assert (led.replica, led.topic.name, led.settings.durability) == (replica, "events", "fsync")
    assert led.settings.batch_bytes_max <= CONFIG.limits.batch_bytes_max


def test_what_does_not_exist_is_named() -> None:
    scene = Scene(FakeReplica(leader=MINE))
    assert isinstance(scene.refusal(name="nowhere"), UnknownTopic)
    assert isinstance(scene.refusal(number=1), UnknownPartition)
    assert isinstance(scene.refusal(number=-1), UnknownPartition)
    assert isinstance(scene.refusal(topic_id="b" * 32), UnknownTopicId)


def test_a_deleted_topic_is_told_from_one_that_never_was() -> None:
    scene = Scene()
    scene.replicas.state.apply((scene.topic.key, None))
    scene.replicas.state.apply(put(DeletedTopicFact(topic_id=TOPIC_ID, name="events", deleted_ms=1)))
    assert isinstance(scene.refusal(topic_id=TOPIC_ID), UnknownTopicId)
    assert isinstance(scene.refusal(), UnknownTopic)


def test_before_all_decisions_are_read_nothing_is_said_not_to_exist() -> None:
    scene = Scene()
    scene.replicas._may_create = False
    refusal = scene.refusal(name="nowhere")
    assert isinstance(refusal, BrokerUnavailable) and refusal.retriable


def test_another_leader_is_named_with_its_address_by_whoever_knows_the_newest_term() -> None:
    scene = Scene(FakeReplica(leader=OTHER, term=5))
    scene.see_leader(2, term=4)
    refusal = scene.refusal()
    assert isinstance(refusal, NotLeader)
    assert refusal.facts == {"leader_id": "2", "term": "5", "leader_address": "host:2"}
    scene.see_leader(2, term=7)
    assert scene.refusal().facts["term"] == "7"


def test_a_broker_without_a_replica_knows_the_leader_from_sightings() -> None:
    scene = Scene()
    assert isinstance(scene.refusal(), NoLeader)
    scene.see_leader(2, term=4)
    assert scene.refusal().facts["leader_address"] == "host:2"


def test_a_leader_that_is_not_in_touch_is_not_named() -> None:
    scene = Scene(FakeReplica(leader=None, term=5))
    scene.see_leader(2, term=5)
    assert isinstance(scene.refusal(), NotLeader)
    scene.heard_brokers.clear()
    assert isinstance(scene.refusal(), NoLeader)


def test_a_loop_that_slept_past_an_election_timeout_drops_its_leaderships_before_it_answers() -> None:
    replica = FakeReplica(leader=MINE)
    scene = Scene(replica)
    scene.now_ms = CONFIG.replica.election_timeout_ms
    assert scene.replicas.leading("events", 0)
    scene.now_ms += 1
    assert isinstance(scene.refusal(), NoLeader)
    assert len(replica.heard) == 1 and "slept" in replica.heard[0]


def test_a_loop_that_ticks_keeps_its_leaderships() -> None:
    replica = FakeReplica(leader=MINE)
    scene = Scene(replica)
    for _ in range(100):
        scene.now_ms += CONFIG.replica.election_timeout_ms / 2
        scene.replicas.tick()
    assert scene.replicas.leading("events", 0) and not replica.heard


def test_clients_are_refused_before_the_disk_is_full_and_items_of_leaders_later() -> None:
    replica = FakeReplica(leader=MINE)
    scene = Scene(replica)
    led = scene.replicas.leading("events", 0)
    item = Item(Point(5, 1, 1), ItemKind.RECORDS, b"")
    items = AppendRequest(OTHER, MINE, 5, 1, ORIGIN, ORIGIN, ORIGIN, (item,))
    probe = ReadProbe(OTHER, MINE, 5, 1)

    scene.free_bytes = CONFIG.disk.produce_stop_free_bytes - 1
    scene.replicas.look_at_disk()
    with pytest.raises(DiskFull):
        scene.replicas.check_writable(led)
    scene.replicas.receive(2, PARTITION, items)
    assert replica.heard == [items]

    scene.free_bytes = CONFIG.disk.replication_stop_free_bytes - 1
    scene.replicas.look_at_disk()
    scene.replicas.receive(2, PARTITION, items)
    scene.replicas.receive(2, PARTITION, probe)
    assert replica.heard == [items, probe]

    scene.free_bytes = 1 << 40
    scene.replicas.look_at_disk()
    scene.replicas.check_writable(led)


def test_a_broker_with_a_full_disk_still_takes_decisions_so_that_deleting_a_topic_frees_it() -> None:
    scene, cluster = Scene(), FakeReplica(leader=OTHER)
    scene.replicas.table[CLUSTER_PARTITION] = cluster  # type: ignore[assignment]
    item = Item(Point(5, 1, 1), ItemKind.RECORDS, b"")
    decision = AppendRequest(OTHER, MINE, 5, 1, ORIGIN, ORIGIN, ORIGIN, (item,))
    scene.free_bytes = CONFIG.disk.replication_stop_free_bytes - 1
    scene.replicas.look_at_disk()
    scene.replicas.receive(2, CLUSTER_PARTITION, decision)
    assert cluster.heard == [decision]


def test_a_broker_with_a_full_disk_still_takes_what_brings_no_records_so_that_a_log_can_start_later() -> None:
    replica = FakeReplica(leader=OTHER)
    scene = Scene(replica)
    scene.free_bytes = CONFIG.disk.replication_stop_free_bytes - 1
    scene.replicas.look_at_disk()
    start = Item(Point(5, 0, 1), ItemKind.TERM_START, b"")
    move = Item(Point(5, 0, 2), ItemKind.LOG_START, b"")
    small = AppendRequest(OTHER, MINE, 5, 1, ORIGIN, ORIGIN, ORIGIN, (start, move))
    large = AppendRequest(
        OTHER, MINE, 5, 1, ORIGIN, ORIGIN, ORIGIN, (start, Item(Point(5, 1, 1), ItemKind.RECORDS, b""))
    )
    scene.replicas.receive(2, PARTITION, large)
    scene.replicas.receive(2, PARTITION, small)
    assert replica.heard == [small]


def test_clients_do_not_write_to_internal_topics() -> None:
    scene = Scene(FakeReplica(leader=MINE), name="__offsets")
    with pytest.raises(NotAuthorized):
        scene.replicas.check_writable(scene.replicas.leading("__offsets", 0))


def test_a_message_that_names_another_sender_than_the_session_is_dropped() -> None:
    replica = FakeReplica(leader=OTHER)
    Scene(replica).replicas.receive(3, PARTITION, ReadProbe(OTHER, MINE, 5, 1))
    assert not replica.heard


def placed_again(scene: Scene) -> None:
    """Elsewhere and back: what is here is not who the decisions name."""
    fact = scene.topic.partitions[0]
    again = msgspec.structs.replace(fact, placement=(MINE._replace(replica_number=3), OTHER))
    scene.replicas.state.apply(put(msgspec.structs.replace(scene.topic, partitions=(again,), next_replica_number=4)))
    known = SimpleNamespace(replica_number=MINE.replica_number)
    scene.replicas._promises = SimpleNamespace(  # type: ignore[assignment]
        directory_id="mine", listed=lambda: [PARTITION], recall=lambda partition: known
    )


def test_a_replica_that_votes_where_a_newer_one_is_placed_should_vote_and_seldom_asks_whether_it_may_go() -> None:
    replica = FakeReplica(leader=MINE)
    scene = Scene(replica)
    placed_again(scene)
    assert scene.replicas.placed_voters(replica) == (MINE, OTHER)  # type: ignore[arg-type]
    assert scene.replicas.departing(all_=False) == []
    assert scene.replicas.departing(all_=True) == [(PARTITION, MINE)]


def test_a_replica_that_does_not_vote_any_more_makes_room_for_the_newer_one_on_its_disk() -> None:
    replica = FakeReplica(leader=OTHER)
    replica.voters = (OTHER,)
    scene = Scene(replica)
    placed_again(scene)
    assert scene.replicas.placed_voters(replica) == (MINE._replace(replica_number=3), OTHER)  # type: ignore[arg-type]
    assert scene.replicas.departing(all_=False) == [(PARTITION, MINE)]


def test_settings_follow_the_topics_fact() -> None:
    scene = Scene(FakeReplica(leader=MINE))
    assert scene.replicas.settings(scene.topic).batch_bytes_max == CONFIG.limits.batch_bytes_max
    altered = msgspec.structs.replace(scene.topic, config={"batch.bytes.max": "2048"})
    scene.replicas.state.apply(put(altered))
    assert scene.replicas.leading("events", 0).settings.batch_bytes_max == 2048


def test_watchers_hear_of_roles_only_of_replicas_that_are_here() -> None:
    scene = Scene()
    heard: list[Any] = []
    scene.replicas.watchers.append(SimpleNamespace(role_changed=heard.append))  # type: ignore[arg-type]
    replica = FakeReplica(leader=MINE)
    scene.replicas.role_changed(replica)  # type: ignore[arg-type]
    assert not heard, "it is being opened: that it is there is told first"
    scene.replicas.table[PARTITION] = replica  # type: ignore[assignment]
    scene.replicas.role_changed(replica)  # type: ignore[arg-type]
    assert heard == [replica]


class _Disk(RealDisk):
    """Another process makes a file just before a directory goes."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self.comers = ["00000000000000000007.log.new", "00000000000000000009.log.new"]

    def remove_directory(self, path: str) -> None:
        if self.comers:
            self.open(f"{path}/{self.comers.pop()}", create=True).close()
        super().remove_directory(path)


def test_a_replica_is_removed_though_compaction_was_just_writing_beside_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        directory = tmp_path / "partition"
        directory.mkdir()
        (directory / "00000000000000000000.log").write_bytes(b"items")
        await remove_tree(SimpleNamespace(disk=_Disk()), str(directory))  # type: ignore[arg-type]
        assert not directory.exists()

    asyncio.run(scenario())


def test_what_a_recovery_ended_is_not_opened_by_another_try_though_its_end_could_not_be_noted() -> None:
    scene = Scene()
    replicas = scene.replicas
    opened: list[PartitionId] = []

    async def cannot_note(*args: Any, **more: Any) -> str:
        return "input/output error"

    async def admits(*args: Any) -> None:
        return None

    async def open_it(partition: PartitionId, *args: Any) -> None:
        opened.append(partition)

    replicas._promises = SimpleNamespace(  # type: ignore[assignment]
        directory_id="mine",
        listed=lambda: [PARTITION],
        departed=set(),
        recall=lambda partition: SimpleNamespace(replica_number=MINE.replica_number),
    )
    replicas.lineages = SimpleNamespace(  # type: ignore[assignment]
        follow=cannot_note, admit=admits, is_unfinished=lambda partition: False, ended={}
    )
    replicas._open = open_it  # type: ignore[method-assign]
    replicas.unopened[PARTITION] = "input/output error"
    replicas.retries.note_failed(PARTITION, scene.now_ms)

    def look_again() -> None:
        scene.now_ms += FIRST_WAIT_MS
        replicas._dirty = True
        asyncio.run(replicas._reconcile())

    look_again()
    assert opened == [PARTITION], "as long as it is not over"
    recovery = RecoveryFact(
        number=1, source=OTHER, heir=OTHER._replace(replica_number=9), first_number=9, term=7, kept_offset=0,
        lost_offset=0, decided_ms=0, by="an operator",
    )  # fmt: skip
    ended = msgspec.structs.replace(scene.topic.partitions[0], recovery=recovery)
    replicas.state.apply(put(msgspec.structs.replace(scene.topic, partitions=(ended,))))
    replicas.retries.note_failed(PARTITION, scene.now_ms)
    for _ in range(3):
        look_again()
    assert opened == [PARTITION] and replicas.unopened == {PARTITION: "input/output error"}
    assert PARTITION in replicas.retries, "that its end is noted is tried again as well"


def test_no_replica_is_made_where_the_note_of_the_one_before_cannot_be_removed() -> None:
    scene = Scene()
    replicas = scene.replicas

    async def cannot(partition: PartitionId) -> None:
        raise OSError("input/output error")

    replicas._promises = SimpleNamespace(directory_id="mine", recall=lambda partition: None)  # type: ignore[assignment]
    replicas.lineages = SimpleNamespace(make_way=cannot)  # type: ignore[assignment]
    asyncio.run(replicas._open(PARTITION, MINE.replica_number, (), replicas.config.replica))
    assert replicas.unopened == {PARTITION: "input/output error"} and PARTITION in replicas.retries


class HeldBefore(Promised):
    """Promises that are only told, of a directory that once held `partitions`."""

    def __init__(self, *partitions: PartitionId) -> None:
        super().__init__()
        self.apply(DirectoryFrame("mine", departures_are_kept=True))
        for partition in partitions:
            self.apply(DeletedFrame(partition))

    def forget_departed(self, partition: PartitionId) -> None:
        self.departed.discard(partition)


def made_by(scene: Scene, promises: Promised) -> list[tuple[PartitionId, int, tuple[Voter, ...]]]:
    """What is opened when the decisions are acted on: partition, replica number, first voters."""
    opened: list[tuple[PartitionId, int, tuple[Voter, ...]]] = []

    async def note(partition: PartitionId, number: int, first_voters: tuple[Voter, ...], config: Any) -> None:
        opened.append((partition, number, first_voters))

    scene.replicas._promises = promises  # type: ignore[assignment]
    scene.replicas._open = note  # type: ignore[method-assign]
    scene.replicas._dirty = True
    asyncio.run(scene.replicas._reconcile())
    return opened


def decide(scene: Scene, *placement: Voter) -> None:
    fact = msgspec.structs.replace(scene.topic.partitions[0], placement=placement)
    scene.replicas.state.apply(put(msgspec.structs.replace(scene.topic, partitions=(fact,), next_replica_number=4)))


def test_a_first_voter_that_was_never_made_is_made_though_it_is_placed_under_another_number_or_no_more() -> None:
    for placement in ((MINE._replace(replica_number=3), OTHER), (OTHER, Voter(3, "third", 3))):
        scene = Scene()
        decide(scene, *placement)
        assert made_by(scene, HeldBefore()) == [(PARTITION, MINE.replica_number, (MINE, OTHER))]


def test_a_first_voter_that_was_deleted_here_is_never_made_again() -> None:
    scene = Scene()
    decide(scene, MINE._replace(replica_number=3), OTHER)
    assert made_by(scene, HeldBefore(PARTITION)) == [(PARTITION, 3, (MINE, OTHER))]
    decide(scene, OTHER, Voter(3, "third", 3))
    assert made_by(scene, HeldBefore(PARTITION)) == []


def test_nothing_is_made_of_a_deleted_topic_and_what_was_here_of_it_is_forgotten() -> None:
    scene = Scene()
    scene.replicas.state.apply(put(DeletedTopicFact(topic_id=TOPIC_ID, name="events", deleted_ms=1)))
    assert made_by(scene, HeldBefore()) == []
    kept = PartitionId("b" * 32, 0)
    promises = HeldBefore(PARTITION, kept)
    assert made_by(scene, promises) == []
    assert promises.departed == {kept}


def test_nothing_is_made_before_all_decisions_are_read() -> None:
    scene = Scene()
    scene.replicas._may_create = False
    assert made_by(scene, HeldBefore()) == []
