"""How replicas are copied: how fast, how that is told, and when nobody asked for it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lograft.v1 import admin_service_pb2 as admin_pb

from .brokers import HEARS_CTRL_C, Broker, Brokers, a_batch, eventually
from .test_moves import assert_nothing_is_lost, described, health, is_whole, lograft, placed_on, under_load

MEGABYTES = 8


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Brokers]:
    cluster = Brokers(tmp_path, 4)
    cluster.start()
    yield cluster
    cluster.stop()


def fill(cluster: Brokers, topic: str, megabytes: int = MEGABYTES) -> None:
    leader = cluster.leader_of(topic)
    for _ in range(megabytes * 2):
        result = leader.produce(topic, a_batch(bytes(500_000)))
        assert not result.error.reason, result.error


def limited_to(cluster: Brokers, rate: str) -> None:
    done = lograft(cluster, "cluster", "set", "moves.bytes_per_second", rate)
    assert done.returncode == 0, done.stderr


def elsewhere(cluster: Brokers, topic: str) -> tuple[int, list[int]]:
    """A broker that holds none of it, and a placement with it in place of the last."""
    present = placed_on(cluster[0], topic)
    new = next(broker.broker_id for broker in cluster.all if broker.broker_id not in present)
    return new, [*present[:-1], new]


@pytest.mark.long
def test_a_move_goes_as_fast_as_it_may_tells_how_far_it_is_and_faster_once_it_may(four: Brokers) -> None:
    four.create_topic("moved", replication=3)
    fill(four, "moved")
    limited_to(four, "400kB/s")
    new, to = elsewhere(four, "moved")
    began = time.monotonic()
    assert lograft(four, "partition", "move", "moved", "0", "--to", ",".join(map(str, to))).returncode == 0

    def copying() -> admin_pb.CopyProgress | None:
        found = next(each for each in described(four[0], "moved").partitions[0].replicas if each.broker_id == new)
        return found.copying if found.copying.bytes_per_second > 0 and found.copying.time_left_ms > 0 else None

    told = eventually(copying)
    seconds = time.monotonic() - began
    assert 0 < told.bytes_done < told.bytes_total and told.bytes_total > MEGABYTES * 900_000
    assert told.bytes_done <= (seconds + 1) * 400_000 + 600_000, "no more than the rate, a burst and a batch"
    assert told.bytes_per_second < 900_000 and told.time_left_ms > 1_000
    leader = four.leader_of("moved")
    assert "lograft_copies 1.0" in eventually(lambda: leader.http("/metrics")[1])
    shown = lograft(four, "partition", "list", "--moving").stdout
    assert re.search(rf"to {new}: \S+ [KM]iB of \S+ MiB, \S+ [KM]iB/s", shown), shown
    (listed,) = json.loads(lograft(four, "partition", "list", "moved", "-o", "json").stdout)
    assert next(each["copying"] for each in listed["replicas"] if each["broker_id"] == new)["bytes_total"] > 0
    limited_to(four, "unlimited")
    eventually(lambda: not described(four[0], "moved").partitions[0].moving and is_whole(four[0], "moved"), seconds=15)
    assert "moved" not in lograft(four, "partition", "list", "--moving").stdout


@pytest.mark.long
def test_a_throttled_copy_of_a_busy_partition_ends_and_costs_it_no_record(four: Brokers) -> None:
    four.create_topic("busy", replication=3)
    fill(four, "busy", 2)
    limited_to(four, "500kB/s")
    _, to = elsewhere(four, "busy")
    with under_load(four, "busy") as load:
        waited = lograft(four, "partition", "move", "busy", "0", "--to", ",".join(map(str, to)), "--wait")
    assert waited.returncode == 0 and "moved partition 0 of busy to" in waited.stderr, waited
    assert is_whole(four[0], "busy")
    assert_nothing_is_lost(four.leader_of("busy"), "busy", load.acknowledged)


@pytest.mark.long
def test_a_voter_that_was_away_is_not_throttled(four: Brokers) -> None:
    four.create_topic("away", replication=3)
    limited_to(four, "100kB/s")
    leader = four.leader_of("away")
    follower = next(four[each] for each in placed_on(leader, "away") if each != leader.broker_id)
    follower.kill()
    fill(four, "away")
    follower.start()
    eventually(follower.is_ready)
    eventually(lambda: is_whole(leader, "away"), seconds=8)


@pytest.mark.long
def test_ctrl_c_ends_the_waiting_and_not_the_move(four: Brokers) -> None:
    four.create_topic("left", replication=3)
    fill(four, "left")
    limited_to(four, "500kB/s")
    _, to = elsewhere(four, "left")
    words = ["partition", "move", "left", "0", "--to", ",".join(map(str, to)), "--wait", "--brokers", four[0].address]
    waiting = subprocess.Popen(
        [*HEARS_CTRL_C, sys.executable, "-P", "-m", "lograft.client.cli.main", *words],
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: described(four[0], "left").partitions[0].moving)
    time.sleep(1.5)  # let it begin to wait: a process that is still starting ends otherwise
    waiting.send_signal(signal.SIGINT)
    _, told = waiting.communicate(timeout=10)
    assert waiting.returncode == 130 and "goes on without you" in told and "Traceback" not in told, told
    assert described(four[0], "left").partitions[0].moving
    limited_to(four, "unlimited")
    eventually(lambda: not described(four[0], "left").partitions[0].moving and is_whole(four[0], "left"))


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("moves.bytes_per_second", "0", "must be from 100kB/s"),
        ("moves.bytes_per_second", "fast", "is no such value"),
        ("brokers.gone_after_ms", "1s", "must be from 10s"),
        ("moves.speed", "1", "no setting 'moves.speed'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_one_line(brokers: Brokers, name: str, value: str, why: str) -> None:
    refused = lograft(brokers, "cluster", "set", name, value)
    assert refused.returncode == 1 and why in refused.stderr and len(refused.stderr.splitlines()) == 1, refused
    listed = json.loads(lograft(brokers, "cluster", "settings", "-o", "json").stdout)
    assert [(one["name"], one["value"]) for one in listed] == [
        ("brokers.gone_after_ms", "30min"),
        ("moves.bytes_per_second", "50MB/s"),
    ]


@pytest.mark.long
def test_what_a_gone_broker_held_is_copied_elsewhere_and_coming_back_it_is_a_member_without_old_replicas(
    four: Brokers,
) -> None:
    topic_ids = {name: four.create_topic(name, partitions=3, replication=3).topic_id for name in ("one", "two")}
    assert lograft(four, "cluster", "set", "brokers.gone_after_ms", "10s").returncode == 0
    lost = four[3]
    with under_load(four, "one") as load:
        lost.kill()
        eventually(lambda: _state(four[0], 3).gone, seconds=25)
        for topic in (*topic_ids, "__offsets"):
            eventually(lambda topic=topic: is_whole(four[0], topic), seconds=30)
        assert _state(four[0], 3).replicas == 0
        (reason,) = health(four[0]).reasons
        assert reason.startswith("broker 3 is gone, unseen for more than 10s: what it held is placed on others"), reason
        assert "dead, gone" in lograft(four, "broker", "list").stdout
        lost.start()
        eventually(lambda: _state(four[0], 3).alive and not _state(four[0], 3).gone, seconds=20)
        eventually(lambda: not _held_by(lost, *topic_ids.values()), seconds=20)
    eventually(lambda: health(four[0]).healthy, seconds=20)
    for topic in topic_ids:
        for partition in described(four[0], topic).partitions:
            assert sorted(replica.broker_id for replica in partition.replicas) == [0, 1, 2]
    assert_nothing_is_lost(four.leader_of("one"), "one", load.acknowledged)
    assert lograft(four, "partition", "move", "one", "0", "--to", "3,1,0", "--wait").returncode == 0, "as any other"


def _state(asked: Broker, broker_id: int) -> admin_pb.BrokerDescription:
    return next(broker for broker in health(asked).brokers if broker.broker_id == broker_id)


def _held_by(broker: Broker, *topic_ids: str) -> list[str]:
    directories = (broker.data_directory / "partitions").iterdir()
    return [found.name for found in directories if found.name.rpartition("-")[0] in topic_ids]
