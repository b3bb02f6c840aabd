"""A replica that could not be opened at the start is opened once what stood in the way is mended, without a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lograft.node.controller.facts import CLUSTER_TOPIC_ID
from lograft.node.open_retries import FIRST_WAIT_MS
from lograft.v1 import broker_service_pb2 as pb

from tests.integration.brokers import Broker, Brokers, a_batch, eventually

SECONDS_MAX = 4 * FIRST_WAIT_MS / 1000 + 20


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Broker]:
    """A broker that is a cluster of its own, with a topic of a record."""
    brokers = Brokers(tmp_path, count=1)
    try:
        brokers.start()
        brokers.create_topic("kept")
        brokers.leader_of("kept").produce("kept", a_batch(b"one"))
        yield brokers[0]
    finally:
        brokers.stop()


def metric(broker: Broker, name: str) -> float:
    lines = broker.http("/metrics")[1].splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.split(" ")[0] == name)


def is_listening(broker: Broker) -> bool:
    try:
        return broker.http("/healthz")[0] == 200
    except OSError:
        return False


def directory_of(broker: Broker, topic: str) -> Path:
    (found,) = broker.records.Metadata(pb.MetadataRequest(topics=[topic]), timeout=5).topics
    (directory,) = (broker.data_directory / "partitions").glob(f"{found.topic_id}*")
    return directory


def in_the_way(directory: Path) -> Path:
    """Where the directory of a log was, there is a file: what root, too, cannot open as a log."""
    aside = directory.with_name(f"{directory.name}.aside")
    directory.rename(aside)
    directory.write_bytes(b"")
    return aside


def mend(directory: Path, aside: Path) -> None:
    directory.unlink()
    aside.rename(directory)


@pytest.mark.long
def test_a_replica_that_could_not_be_opened_is_tried_again_and_told(alone: Broker) -> None:
    directory = directory_of(alone, "kept")
    alone.stop()
    aside = in_the_way(directory)
    alone.start()
    eventually(alone.is_ready)
    assert metric(alone, "lograft_unopened_replicas") == 1
    eventually(lambda: metric(alone, 'lograft_replica_open_retries_total{result="failed"}') >= 1, SECONDS_MAX)
    mend(directory, aside)
    eventually(lambda: metric(alone, "lograft_unopened_replicas") == 0, SECONDS_MAX)
    assert metric(alone, 'lograft_replica_open_retries_total{result="opened"}') == 1
    assert eventually(lambda: alone.values("kept")) == [b"one"]
    assert not alone.produce("kept", a_batch(b"two")).error.reason
    assert alone.values("kept") == [b"one", b"two"]
    said = [event for event in alone.events() if event["event"].startswith("replica_")]
    assert said[0]["event"] == "replica_unopened" and said[0]["again_in_s"] == FIRST_WAIT_MS / 1000
    assert said[-1]["event"] == "replica_opened_at_last"


def test_a_broker_whose_decisions_could_not_be_opened_comes_up_once_they_can(alone: Broker) -> None:
    (directory,) = (alone.data_directory / "partitions").glob(f"{CLUSTER_TOPIC_ID}*")
    alone.stop()
    aside = in_the_way(directory)
    alone.start()
    eventually(lambda: is_listening(alone) and metric(alone, "lograft_unopened_replicas") == 1)
    assert not alone.is_ready()
    mend(directory, aside)
    eventually(alone.is_ready, SECONDS_MAX)
    assert eventually(lambda: alone.values("kept")) == [b"one"]
