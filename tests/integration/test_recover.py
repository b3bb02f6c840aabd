"""A partition whose majority is lost for good goes on with what one disk holds, once an operator accepts the loss."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .brokers import Broker, Brokers, a_batch, eventually
from .test_moves import described, health, is_whole, lograft


@pytest.fixture
def five(tmp_path: Path) -> Iterator[Brokers]:
    """`__cluster` has five voters, so that it outlives two brokers."""
    cluster = Brokers(tmp_path, 5)
    cluster.start()
    eventually(lambda: is_whole(cluster[0], "__offsets"), seconds=40)
    yield cluster
    cluster.stop()


def holders(cluster: Brokers, topic: str) -> list[Broker]:
    return [cluster[replica.broker_id] for replica in described(cluster.running[0], topic).partitions[0].replicas]


def write(cluster: Brokers, topic: str, values: list[bytes]) -> None:
    for value in values:
        result = cluster.leader_of(topic).produce(topic, a_batch(value))
        assert not result.error.reason, result.error


def is_out_of_touch(cluster: Brokers, gone: list[Broker]) -> bool:
    """And does somebody decide without them?"""
    known = health(cluster.running[0])
    dead = {broker.broker_id for broker in known.brokers if not broker.alive}
    is_led = known.controller_id in {broker.broker_id for broker in cluster.running}
    return is_led and {broker.broker_id for broker in gone} <= dead


@pytest.mark.long
def test_two_of_three_disks_are_gone_and_what_the_third_holds_goes_on_with_new_replicas(five: Brokers) -> None:
    five.create_topic("lost", replication=3)
    written = [f"value {count}".encode() for count in range(50)]
    write(five, "lost", written)
    eventually(lambda: is_whole(five[0], "lost"), seconds=30)
    gone = holders(five, "lost")[:2]
    left = holders(five, "lost")[2]
    refused = lograft(five, "partition", "recover", "lost", "0")
    assert refused.returncode == 1 and "commits: there is nothing to recover" in refused.stderr, refused
    for broker in gone:
        broker.kill()
        shutil.rmtree(broker.data_directory)
    eventually(lambda: is_out_of_touch(five, gone), seconds=60)

    explained = lograft(five, "partition", "recover", "lost", "0")
    assert explained.returncode == 0, explained
    assert "it has no leader" in explained.stdout and "nothing need be lost: try that first" in explained.stdout
    assert f"the log of broker {left.broker_id} would go on; it is kept up to offset 50" in explained.stdout
    assert described(left, "lost").partitions[0].recovery.number == 0, "nothing was changed"
    unasked = lograft(five, "partition", "recover", "lost", "0", "--accept-loss")
    assert unasked.returncode == 2 and "--yes" in unasked.stderr, unasked
    wrong = lograft(five, "partition", "recover", "lost", "0", "--accept-loss", "-y", "--from", str(gone[0].broker_id))
    assert wrong.returncode == 1 and "holds no replica" in wrong.stderr, wrong

    done = lograft(five, "partition", "recover", "lost", "0", "--accept-loss", "--yes")
    assert done.returncode == 0, done
    assert f"broker {left.broker_id} leads it" in done.stderr
    eventually(lambda: is_whole(left, "lost"), seconds=40)
    assert five.leader_of("lost").values("lost") == written
    write(five, "lost", [b"after"])
    shown = lograft(five, "topic", "describe", "lost", "-o", "json")
    recovery = json.loads(shown.stdout)["partitions"][0]["recovery"]
    assert recovery["number"] == 1 and recovery["kept_offset"] == 50 and recovery["by"], recovery
    assert sorted(recovery["unknown_broker_ids"]) == sorted(broker.broker_id for broker in gone)
    for broker in five.running:
        assert "partition_recovered" in broker.log_path.read_text(), f"broker {broker.broker_id} does not tell"
    # Redundancy is back: the last of the old ones may go as well.
    again = lograft(five, "partition", "recover", "lost", "0")
    assert again.returncode == 1 and "nothing to recover" in again.stderr, again


def test_old_disks_that_come_back_after_all_are_set_aside_and_get_the_new_log(five: Brokers) -> None:
    five.create_topic("split", replication=3)
    write(five, "split", [f"value {count}".encode() for count in range(20)])
    eventually(lambda: is_whole(five[0], "split"), seconds=30)
    topic_id = described(five[0], "split").topic_id
    gone = holders(five, "split")[:2]
    for broker in gone:
        broker.kill()
    eventually(lambda: is_out_of_touch(five, gone), seconds=60)
    done = lograft(five, "partition", "recover", "split", "0", "--accept-loss", "--yes")
    assert done.returncode == 0, done
    write(five, "split", [b"new"])
    # Both come back, together a majority of the old voters.
    for broker in gone:
        broker.start()
    five.await_ready()
    for broker in gone:
        kept = broker.data_directory / "recovered"
        eventually(lambda kept=kept: any(kept.glob(f"{topic_id}-0.1-ended/*.log")), seconds=30)
    eventually(lambda: is_whole(five[0], "split"), seconds=40)
    assert five.leader_of("split").values("split")[-1] == b"new"
    assert len(five.leader_of("split").values("split")) == 21


def offline(broker: Broker, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`lograft broker -c FILE ...`, which runs no broker."""
    command = [sys.executable, "-P", "-m", "lograft.client.cli.main", "broker", "-c", str(broker.config_path)]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.long
def test_two_of_three_brokers_are_lost_and_the_third_goes_on_with_its_decisions_and_its_records(tmp_path: Path) -> None:
    cluster = Brokers(tmp_path, 3)
    cluster.start()
    try:
        eventually(lambda: is_whole(cluster[0], "__offsets"), seconds=40)
        cluster.create_topic("all", replication=3)
        written = [f"value {count}".encode() for count in range(30)]
        write(cluster, "all", written)
        eventually(lambda: is_whole(cluster[0], "all"), seconds=30)
        left, *gone = cluster.all
        running = offline(left, "--recover-cluster")
        assert running.returncode == 1, running
        for broker in gone:
            broker.kill()
        shutil.rmtree(gone[0].data_directory)
        left.stop()
        explained = offline(left, "--recover-cluster")
        assert explained.returncode == 0 and "start them instead" in explained.stdout, explained
        assert "nothing was changed" in explained.stderr
        assert offline(left, "--recover-cluster", "--accept-loss").returncode == 2
        done = offline(left, "--recover-cluster", "--accept-loss", "--yes")
        assert done.returncode == 0, done
        left.start()
        eventually(left.is_ready, seconds=20)
        # One comes with an empty disk, the other with what it held, and belongs to the old cluster until it is told.
        gone[0].start()
        eventually(gone[0].is_ready, seconds=20)
        gone[1].start()
        assert not gone[1].is_ready()
        eventually(lambda: "WRONG_CLUSTER" in gone[1].log_path.read_text() or "cluster" in gone[1].log_path.read_text())
        gone[1].stop()
        token = done.stderr.split("--follow-recovered ")[1].split()[0]
        followed = offline(gone[1], "--follow-recovered", token)
        assert followed.returncode == 0 and "start it" in followed.stderr, followed
        assert offline(gone[1], "--follow-recovered", "nonsense").returncode == 1
        gone[1].start()
        cluster.await_ready()
        eventually(lambda: health(left).losses_borne == 1, seconds=40)
        # Its replica of the topic was never lost: with it two of three are there.
        eventually(lambda: is_whole(left, "all"), seconds=40)
        assert cluster.leader_of("all").values("all") == written
        write(cluster, "all", [b"after"])
        eventually(lambda: is_whole(left, "__offsets"), seconds=40)
    finally:
        cluster.stop()


@pytest.mark.long
def test_what_two_lost_disks_of_three_brokers_leave_is_recovered_partition_by_partition(tmp_path: Path) -> None:
    cluster = Brokers(tmp_path, 3)
    cluster.start()
    try:
        eventually(lambda: is_whole(cluster[0], "__offsets"), seconds=40)
        cluster.create_topic("all", replication=3)
        written = [f"value {count}".encode() for count in range(30)]
        write(cluster, "all", written)
        eventually(lambda: is_whole(cluster[0], "all"), seconds=30)
        left, *gone = cluster.all
        for broker in gone:
            broker.kill()
            shutil.rmtree(broker.data_directory)
        left.stop()
        assert offline(left, "--recover-cluster", "--accept-loss", "--yes").returncode == 0
        cluster.start()
        for topic in ("all", "__offsets"):
            for partition in described(left, topic).partitions:
                done = lograft(cluster, "partition", "recover", topic, str(partition.number), "--accept-loss", "--yes")
                assert done.returncode == 0, done
        for topic in ("all", "__offsets"):
            eventually(lambda topic=topic: is_whole(left, topic), seconds=60)
        assert cluster.leader_of("all").values("all") == written
        write(cluster, "all", [b"after"])
        left.kill()
        assert cluster.leader_of("all").values("all") == [*written, b"after"]
    finally:
        cluster.stop()
