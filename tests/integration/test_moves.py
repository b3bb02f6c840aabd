"""Replicas and voters where they did not begin: new brokers, lost disks. Nothing acknowledged is lost on the way."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from lograft.v1 import admin_service_pb2 as admin_pb

from .brokers import Broker, Brokers, a_batch, eventually


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Brokers]:
    cluster = Brokers(tmp_path)
    cluster.start()
    yield cluster
    cluster.stop()


class Load:
    """Sends one batch after the other to whoever leads, and remembers what was acknowledged."""

    def __init__(self, cluster: Brokers, topic: str) -> None:
        self.acknowledged: list[bytes] = []
        self._cluster = cluster
        self._topic = topic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        count = 0
        while not self._stop.is_set():
            value = f"value {count}".encode()
            # A resend may double what was appended without an answer, never lose it: no producer id is used here.
            for broker in self._cluster.running:
                try:
                    result = broker.produce(self._topic, a_batch(value))
                except grpc.RpcError:
                    continue
                if not result.error.reason:
                    self.acknowledged.append(value)
                    break
            count += 1
            time.sleep(0.005)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()


def described(broker: Broker, topic: str) -> admin_pb.TopicDescription:
    return broker.admin.DescribeTopic(admin_pb.DescribeTopicRequest(name=topic), timeout=10).topic


def is_whole(broker: Broker, topic: str, count: int = 3) -> bool:
    """Has every partition of the topic `count` voters that keep up?"""
    return all(
        sum(replica.voter and replica.state == "OK" for replica in partition.replicas) == count
        and len(partition.replicas) == count
        for partition in described(broker, topic).partitions
    )


def health(broker: Broker) -> admin_pb.DescribeClusterResponse:
    return broker.admin.DescribeCluster(admin_pb.DescribeClusterRequest(), timeout=10)


def assert_nothing_is_lost(broker: Broker, topic: str, acknowledged: list[bytes]) -> None:
    held = broker.values(topic)
    missing = {*acknowledged} - {*held}
    assert acknowledged and not missing, f"{len(missing)} of {len(acknowledged)} are missing, such as {min(missing)!r}"


@contextmanager
def under_load(cluster: Brokers, topic: str) -> Iterator[Load]:
    with Load(cluster, topic) as load:
        eventually(lambda: len(load.acknowledged) > 20)
        yield load
        before = len(load.acknowledged)
        eventually(lambda: len(load.acknowledged) > before + 20)


@pytest.mark.long
def test_a_broker_whose_directory_was_deleted_gets_all_its_replicas_again_as_somebody_else(brokers: Brokers) -> None:
    brokers.create_topic("kept", replication=3)
    brokers.create_topic("others", partitions=4, replication=3)
    lost = brokers.leader_of("kept")
    with under_load(brokers, "kept") as load:
        lost.kill()
        shutil.rmtree(lost.data_directory)
        lost.start()
        asked = next(broker for broker in brokers.running if broker is not lost)
        for topic in ("kept", "others", "__offsets"):
            eventually(lambda topic=topic: is_whole(asked, topic), seconds=40)
        eventually(lambda: health(asked).healthy and health(asked).losses_borne == 1, seconds=40)
    # The other two go: what the wiped broker holds now must be enough, together with either of them.
    other = next(broker for broker in brokers.running if broker is not lost and broker is not asked)
    other.kill()
    assert_nothing_is_lost(brokers.leader_of("kept"), "kept", load.acknowledged)


@pytest.mark.long
def test_a_cluster_of_one_broker_grows_to_three_voters_as_two_more_join(tmp_path: Path) -> None:
    cluster = Brokers(tmp_path)
    first = cluster[0]
    for broker in cluster.all:
        text = broker.config_path.read_text()
        head, _, peers = text.partition("[cluster.peers]\n")
        broker.config_path.write_text(f"{head}[cluster.peers]\n{peers.splitlines()[0]}\n")
    try:
        first.start()
        eventually(first.is_ready, seconds=20)
        eventually(lambda: is_whole(first, "__offsets", 1), seconds=20)
        cluster.create_topic("single", replication=1)
        with under_load(cluster, "single") as load:
            cluster[1].start()
            cluster[2].start()
            cluster.await_ready()
            eventually(lambda: is_whole(first, "__offsets"), seconds=40)
            eventually(lambda: health(first).losses_borne == 1, seconds=40)
        assert_nothing_is_lost(cluster.leader_of("single"), "single", load.acknowledged)
        assert is_whole(first, "single", 1), "what somebody asked for stays as it was asked for"
        first.kill()
        eventually(lambda: cluster[1].is_ready() and health(cluster[1]).controller_id in (1, 2), seconds=20)
        cluster[1].admin.CreateTopic(
            admin_pb.CreateTopicRequest(name="later", partitions=1, replication=2, topic_id="c" * 32), timeout=20
        )
    finally:
        cluster.stop()


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Brokers]:
    cluster = Brokers(tmp_path, 4)
    cluster.start()
    yield cluster
    cluster.stop()


def lograft(cluster: Brokers, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the command line, told where the cluster is."""
    addresses = ",".join(broker.address for broker in cluster.running)
    command = [sys.executable, "-P", "-m", "lograft.client.cli.main", *arguments, "--brokers", addresses]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def placed_on(broker: Broker, topic: str) -> list[int]:
    return [replica.broker_id for replica in described(broker, topic).partitions[0].replicas if not replica.leaving]


def test_a_partition_moves_under_load_and_leaves_nothing_behind(four: Brokers) -> None:
    four.create_topic("moved", replication=3)
    before = placed_on(four[0], "moved")
    new = next(broker.broker_id for broker in four.all if broker.broker_id not in before)
    to = [new, *before[1:]]
    left = four[before[0]]
    with under_load(four, "moved") as load:
        moved = lograft(four, "partition", "move", "moved", "0", "--to", ",".join(map(str, to)))
        assert moved.returncode == 0, moved.stderr
        topic_id = described(four[0], "moved").topic_id
        eventually(lambda: not described(four[0], "moved").partitions[0].moving, seconds=40)
        eventually(lambda: is_whole(four[0], "moved"), seconds=40)
        eventually(lambda: not (left.data_directory / "partitions" / f"{topic_id}-0").exists(), seconds=20)
        eventually(lambda: four.leader_of("moved").broker_id == new, seconds=30)
    assert sorted(placed_on(four[0], "moved")) == sorted(to)
    left.kill()
    assert_nothing_is_lost(four.leader_of("moved"), "moved", load.acknowledged)
    assert "moved" in lograft(four, "partition", "list").stdout


@pytest.mark.parametrize(
    ("to", "why"),
    [("0,1,9", "broker 9 is unknown"), ("0,0,1", "each once"), ("same", "already"), ("0,1,dead", "not alive")],
)
def test_a_move_that_cannot_be_is_refused_with_the_reason(four: Brokers, to: str, why: str) -> None:
    four.create_topic("still", replication=2)
    present = placed_on(four[0], "still")
    if "dead" in to:
        dead = next(broker for broker in four.all[2:] if broker.broker_id not in present)
        dead.kill()
        eventually(lambda: not next(b for b in health(four[0]).brokers if b.broker_id == dead.broker_id).alive)
        to = to.replace("dead", str(dead.broker_id))
    refused = lograft(four, "partition", "move", "still", "0", "--to", to.replace("same", ",".join(map(str, present))))
    assert refused.returncode == 1 and why in refused.stderr, refused
    assert placed_on(four[0], "still") == present


def test_a_move_to_a_broker_that_died_on_the_way_can_be_replaced_by_another(four: Brokers) -> None:
    four.create_topic("stuck", replication=2)
    before = placed_on(four[0], "stuck")
    target = next(broker for broker in four.all[::-1] if broker.broker_id not in before)
    in_the_way = target.data_directory / "partitions" / f"{described(four[0], 'stuck').topic_id}-0"
    in_the_way.write_text("no directory: the replica cannot be made here")
    to = f"{before[0]},{target.broker_id}"
    assert lograft(four, "partition", "move", "stuck", "0", "--to", to).returncode == 0
    refused = lograft(four, "partition", "move", "stuck", "0", "--to", to)
    assert refused.returncode == 1 and "being moved already" in refused.stderr, refused
    target.kill()
    eventually(lambda: not next(b for b in health(four.running[0]).brokers if b.broker_id == target.broker_id).alive)
    assert described(four.running[0], "stuck").partitions[0].moving
    spare = next(broker.broker_id for broker in four.running if broker.broker_id not in before)
    other = lograft(four, "partition", "move", "stuck", "0", "--to", f"{before[0]},{spare}")
    assert other.returncode == 0, other.stderr
    eventually(lambda: not described(four.running[0], "stuck").partitions[0].moving, seconds=20)


def test_a_move_that_cannot_end_yet_is_taken_back_and_what_was_there_stays(four: Brokers) -> None:
    four.create_topic("back", replication=2)
    before = placed_on(four[0], "back")
    target = next(broker for broker in four.all[::-1] if broker.broker_id not in before)
    directory = f"partitions/{described(four[0], 'back').topic_id}-0"
    in_the_way = target.data_directory / directory
    in_the_way.write_text("no directory: the replica cannot be made here")
    with Load(four, "back") as load:
        eventually(lambda: len(load.acknowledged) > 20)
        kept = {broker: (broker.data_directory / directory).stat().st_ino for broker in map(four.__getitem__, before)}
        move = ("partition", "move", "back", "0", "--to")
        assert lograft(four, *move, f"{before[0]},{target.broker_id}").returncode == 0
        eventually(lambda: described(four[0], "back").partitions[0].moving)
        assert lograft(four, *move, ",".join(map(str, before))).returncode == 0
        eventually(lambda: not described(four[0], "back").partitions[0].moving, seconds=20)
        assert is_whole(four[0], "back", 2) and placed_on(four[0], "back") == before
        acknowledged = len(load.acknowledged)
        eventually(lambda: len(load.acknowledged) > acknowledged + 20)
    assert {broker: (broker.data_directory / directory).stat().st_ino for broker in kept} == kept, "nothing was copied"
    assert_nothing_is_lost(four.leader_of("back"), "back", load.acknowledged)


def test_who_was_away_when_a_topic_was_made_and_is_placed_elsewhere_and_back_votes_in_the_end(four: Brokers) -> None:
    """Its first replica votes by the log of the others, and is made when it is back, though it is placed elsewhere."""
    away = four[3]
    away.pause()
    name = next(
        name
        for name in map("away-{}".format, range(4))
        if four.create_topic(name, replication=3) and 3 in placed_on(four[0], name)
    )
    away.kill()
    before = placed_on(four[0], name)
    target = next(broker for broker in four.all if broker.broker_id not in before)
    directory = f"partitions/{described(four[0], name).topic_id}-0"
    (target.data_directory / directory).write_text("no directory: the replica cannot be made here")
    assert not (away.data_directory / directory).exists()
    with Load(four, name) as load:
        eventually(lambda: len(load.acknowledged) > 20, seconds=30)
        move = ("partition", "move", name, "0", "--to")
        to = [target.broker_id if broker == 3 else broker for broker in before]
        assert lograft(four, *move, ",".join(map(str, to))).returncode == 0
        away.start()
        eventually(lambda: next(one for one in health(four[0]).brokers if one.broker_id == 3).alive, seconds=30)
        eventually(lambda: lograft(four, *move, ",".join(map(str, before))).returncode == 0, seconds=30)
        eventually(lambda: is_whole(four[0], name), seconds=30)
        eventually(lambda: not described(four[0], name).partitions[0].moving, seconds=30)
        assert (away.data_directory / directory).exists()
    assert_nothing_is_lost(four.leader_of(name), name, load.acknowledged)


@pytest.mark.long
def test_after_a_move_was_taken_back_leadership_returns_to_the_preferred_leader(four: Brokers) -> None:
    four.create_topic("preferred", replication=3)
    before = placed_on(four[0], "preferred")
    target = next(broker for broker in four.all if broker.broker_id not in before)
    directory = f"partitions/{described(four[0], 'preferred').topic_id}-0"
    (target.data_directory / directory).write_text("no directory: the replica cannot be made here")
    eventually(lambda: four.leader_of("preferred").broker_id == before[0], seconds=30)
    move = ("partition", "move", "preferred", "0", "--to")
    assert lograft(four, *move, ",".join(map(str, [target.broker_id, *before[1:]]))).returncode == 0
    assert lograft(four, *move, ",".join(map(str, before))).returncode == 0
    four[before[0]].stop()
    eventually(lambda: described(four.running[0], "preferred").partitions[0].leader_id in before[1:], seconds=30)
    four[before[0]].start()
    eventually(lambda: four.leader_of("preferred").broker_id == before[0], seconds=60)


@pytest.mark.long
def test_a_drained_broker_leads_nothing_until_it_is_undrained_and_one_that_is_needed_is_not_drained(
    brokers: Brokers,
) -> None:
    brokers.create_topic("drained", partitions=6, replication=3)
    asked = brokers[0]
    assert lograft(brokers, "broker", "drain", "1").returncode == 0

    def led_by(broker_id: int) -> int:
        return next(one.leaders for one in health(asked).brokers if one.broker_id == broker_id)

    eventually(lambda: led_by(1) == 0, seconds=20)
    brokers[1].stop()
    eventually(lambda: sum(led_by(each) for each in (0, 2)) >= 6, seconds=20)
    refused = lograft(brokers, "broker", "drain", "2")
    assert refused.returncode == 1 and "no majority" in refused.stderr, refused
    brokers[1].start()
    brokers.await_ready()
    assert lograft(brokers, "broker", "undrain", "1").returncode == 0
    eventually(lambda: led_by(1) > 0, seconds=30)


def test_what_a_removed_broker_held_is_placed_elsewhere_also_if_it_is_dead(four: Brokers) -> None:
    four.create_topic("spread", partitions=3, replication=3)
    four[3].kill()
    eventually(lambda: not next(one for one in health(four[0]).brokers if one.broker_id == 3).alive)
    removed = lograft(four, "broker", "remove", "3")
    assert removed.returncode == 0, removed.stderr
    for topic in ("spread", "__offsets"):
        eventually(lambda topic=topic: is_whole(four[0], topic), seconds=40)
    assert all(replica.broker_id != 3 for part in described(four[0], "spread").partitions for replica in part.replicas)
    refused = lograft(four, "broker", "remove", "2")
    assert refused.returncode == 1 and "start one first" in refused.stderr, refused


def test_a_broker_that_restarts_while_it_is_removed_still_hands_over_what_it_alone_holds(four: Brokers) -> None:
    four.create_topic("single", partitions=12, replication=1)
    parts = described(four[0], "single").partitions
    number = next(part.number for part in parts if part.replicas[0].broker_id == 3)
    values = [f"value {count}".encode() for count in range(50)]
    assert not eventually(lambda: four[3].produce("single", a_batch(*values), partition=number)).error.reason
    assert lograft(four, "broker", "remove", "3").returncode == 0
    four[3].kill()
    four[3].start()

    def is_elsewhere() -> bool:
        part = described(four[0], "single").partitions[number]
        return part.leader_id in (0, 1, 2) and not part.moving

    eventually(is_elsewhere, seconds=40)
    four[3].kill()
    assert four.leader_of("single", number).values("single", number) == values
