"""A broker that cannot start says why in one line and exits with 1; one that can, finds its way into the cluster."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lograft.v1 import broker_service_pb2 as pb

from tests.integration.brokers import Broker, Brokers, a_batch, eventually


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Broker]:
    """A broker that is a cluster of its own; not started."""
    brokers = Brokers(tmp_path, count=1)
    yield brokers[0]
    brokers.stop()


def refusal(broker: Broker, *sets: str) -> str:
    """What the broker says when it refuses to start: one line."""
    arguments = [argument for given in sets for argument in ("--set", given)]
    ended = subprocess.run(
        [sys.executable, "-m", "lograft.node", "-c", str(broker.config_path), *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    return line


def test_a_broker_alone_is_a_cluster(alone: Broker) -> None:
    alone.start()
    eventually(alone.is_ready)
    metadata = alone.records.Metadata(pb.MetadataRequest(), timeout=5)
    assert [one.broker_id for one in metadata.brokers] == [0]


def test_a_typo_in_the_configuration_is_named(alone: Broker) -> None:
    with alone.config_path.open("a") as config:
        config.write("\n[limits]\nbatch_byte_max = 5\n")
    line = refusal(alone)
    assert "limits.batch_byte_max" in line and "limits.batch_bytes_max" in line


def test_a_wrong_value_is_named_with_its_source(alone: Broker) -> None:
    line = refusal(alone, "peer.heartbeat_interval_ms=soon")
    assert "--set" in line and "peer.heartbeat_interval_ms" in line


@pytest.mark.parametrize("door", ["grpc", "peer", "http"])
def test_a_port_in_use_is_named(alone: Broker, door: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = refusal(alone, f"listen.{door}={address}")
    assert address in line and f"listen.{door}" in line


def test_a_data_directory_in_use_names_the_process(alone: Broker) -> None:
    alone.start()
    eventually(alone.is_ready)
    assert alone.process is not None
    assert str(alone.process.pid) in refusal(alone)
    assert alone.is_ready()


def test_a_data_directory_of_another_broker_is_refused(alone: Broker) -> None:
    alone.start()
    eventually(alone.is_ready)
    alone.stop()
    line = refusal(alone, "broker.id=5", f"cluster.peers=5=127.0.0.1:{alone.peer_port}")
    assert "broker 0" in line and "broker 5" in line


def test_a_data_directory_of_a_newer_format_is_refused(alone: Broker) -> None:
    alone.data_directory.mkdir()
    (alone.data_directory / "format").write_text(json.dumps({"format": 99, "broker_id": 0}))
    assert "format 99" in refusal(alone)


def test_a_broker_of_another_cluster_is_refused_and_both_go_on(brokers: Brokers, alone: Broker) -> None:
    alone.start()
    eventually(alone.is_ready)
    alone.stop()
    # It belongs to a cluster of its own now, and is told to dial ours.
    peer = f"127.0.0.1:{brokers[0].peer_port}"
    with alone.config_path.open("a") as config:
        config.write(f'1 = "{peer}"\n')
    alone.start()
    assert eventually(lambda: any("cluster" in str(event.get("why", "")) for event in alone.events()))
    assert alone.is_running
    metadata = brokers[0].records.Metadata(pb.MetadataRequest(), timeout=5)
    assert [(one.broker_id, one.alive) for one in metadata.brokers] == [(0, True), (1, True), (2, True)]


def test_a_wiped_broker_comes_back_as_a_learner_and_holds_no_vote(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)
    leader.produce(topic, a_batch(b"kept"))
    wiped = next(broker for broker in brokers.all if broker is not leader)
    wiped.kill()
    aside = wiped.data_directory.with_suffix(".aside")
    wiped.data_directory.rename(aside)
    try:
        brokers.start()
        votes = [event for event in wiped.events() if event.get("event") == "cluster_settled"]
        assert votes[-1]["votes"] is False

        def has_copied() -> bool:
            logs = wiped.data_directory.glob("partitions/*/*.log")
            return any(b"kept" in path.read_bytes() for path in logs)

        assert eventually(has_copied)
    finally:
        wiped.kill()
        shutil.rmtree(wiped.data_directory)
        aside.rename(wiped.data_directory)


def test_a_broker_says_at_a_signal_what_it_waits_for_and_goes_on(alone: Broker) -> None:
    alone.start()
    eventually(alone.is_ready)
    assert alone.process is not None
    alone.process.send_signal(signal.SIGUSR1)
    told = eventually(lambda: next((event for event in alone.events() if event["event"] == "stacks"), None))
    assert any("node/node.py" in frame for frames in told["tasks"].values() for frame in frames), told
    eventually(lambda: "Thread 0x" in alone.log_path.read_text())
    assert alone.is_ready()
