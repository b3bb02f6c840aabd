"""The cluster and its topics become larger, other and smaller again while they are used; clients notice nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lograft
import pytest
from lograft.v1 import admin_service_pb2 as admin_pb

from tests.bench.growth import a_cluster, grow_and_shrink
from tests.bench.steady_load import SteadyLoad

from .brokers import HEARS_CTRL_C, Brokers, a_batch, eventually


@pytest.mark.long
def test_from_one_broker_to_three_to_five_to_three_no_client_sees_an_error_and_every_record_is_there_once() -> None:
    async def scene() -> None:
        async with a_cluster(1) as cluster, lograft.Client(cluster.address) as client:
            await client.admin.create_topic("steady", partitions=4)
            async with SteadyLoad(client, "steady", rate=100) as load:
                # By somebody else: the producer hears of it by the age of its metadata, the group from its coordinator.
                await cluster.run("topic", "grow", "steady", "--partitions", "6", "--yes")
                await grow_and_shrink(cluster, client, load, calm_seconds=0.5, report=print)
                second = json.loads(await cluster.run("cluster", "rebalance", "--yes", "-o", "json"))
                await load.written_to({4, 5})
            assert second["moves"] == [], "right after a rebalance there is nothing to do"
            assert not load.errors
            assert await load.wrongs() == []
            assert {partition for partition, *_ in load.consumed} == {*range(6)}
            status = json.loads(await cluster.run("status", "-o", "json"))
            assert status["healthy"] and [broker["broker_id"] for broker in status["brokers"]] == [0, 1, 2]

    asyncio.run(asyncio.wait_for(scene(), 170))


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Brokers]:
    cluster = Brokers(tmp_path, settings="[retention]\ncheck_interval_ms = 200\n")
    cluster.start()
    yield cluster
    cluster.stop()


def command(cluster: Brokers, *arguments: str) -> list[str]:
    addresses = ",".join(broker.address for broker in cluster.running)
    return [sys.executable, "-P", "-m", "lograft.client.cli.main", *arguments, "--brokers", addresses]


def run(cluster: Brokers, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(cluster, *arguments), capture_output=True, text=True, timeout=60, check=False)


def test_running_replicas_go_by_altered_settings_at_once_and_again_after_a_restart(brokers: Brokers) -> None:
    brokers.create_topic("kept", config={"segment.bytes.max": str(64 << 10), "batch.bytes.max": str(32 << 10)})
    leader = brokers.leader_of("kept")
    for _ in range(20):
        assert not leader.produce("kept", a_batch(b"x" * 20_000)).error.reason
    altered = run(brokers, "topic", "alter", "kept", "-c", "retention.bytes=70000", "-c", "batch.bytes.max=1024")
    assert altered.returncode == 0, altered.stderr
    assert "retention.bytes: (default) -> 70000" in altered.stdout
    assert "batch.bytes.max: 32768 -> 1024" in altered.stdout
    assert "retention.bytes=70000" in run(brokers, "topic", "describe", "kept").stdout
    assert leader.produce("kept", a_batch(b"x" * 20_000)).error.reason == "BATCH_TOO_LARGE"

    def start() -> int:
        request = admin_pb.DescribeTopicRequest(name="kept")
        return brokers[0].admin.DescribeTopic(request, timeout=10).topic.partitions[0].log_start_offset

    eventually(lambda: start() > 0)
    files = f"{leader.data_directory}/partitions"
    eventually(lambda: len(list(Path(files).glob("*-0/*.log"))) and start() >= 14)
    leader.stop()
    leader.start()
    brokers.await_ready()
    assert brokers.leader_of("kept").produce("kept", a_batch(b"x" * 20_000)).error.reason == "BATCH_TOO_LARGE"
    refused = run(brokers, "topic", "alter", "kept", "--unset", "batch.bytes.max")
    assert refused.returncode == 1 and "a batch of 1048576 bytes would not fit" in refused.stderr
    undone = run(
        brokers, *("topic", "alter", "kept", "--unset", "batch.bytes.max", "--unset", "segment.bytes.max", "-o", "json")
    )
    assert json.loads(undone.stdout)["changes"]["batch.bytes.max"] == {"before": "1024", "after": None}
    eventually(lambda: not brokers.leader_of("kept").produce("kept", a_batch(b"x" * 20_000)).error.reason)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["grow", "t", "-p", "1", "-y"], "cannot have 1"),
        (["grow", "t", "-p", "100000", "-y"], "ask for 1 to 1000"),
        (["grow", "t", "-p", "9"], "add --yes"),
        (["grow", "absent", "-p", "9", "-y"], "no topic 'absent'"),
        (["grow", "__offsets", "-p", "9", "-y"], "internal"),
        (["alter", "t", "-c", "retention.ms=0"], "from 1 to"),
        (["alter", "t", "-c", "retension.ms=1"], "the nearest is 'retention.ms'"),
        (["alter", "t", "--unset", "segment"], "the nearest is"),
        (["alter", "__offsets", "-c", "retention.ms=1"], "internal"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(brokers_of_all: Brokers, arguments: list[str], why: str) -> None:
    refused = run(brokers_of_all, "topic", *arguments)
    assert refused.returncode == 1 and why in refused.stderr and len(refused.stderr.splitlines()) == 1, refused


@pytest.fixture(scope="module")
def brokers_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    cluster = Brokers(tmp_path_factory.mktemp("all"), 4)
    cluster.start()
    cluster.create_topic("t")
    yield cluster
    cluster.stop()


@pytest.mark.long
def test_a_rebalance_that_is_interrupted_leaves_all_well_and_the_next_one_ends_it(brokers_of_all: Brokers) -> None:
    cluster = brokers_of_all
    topic = cluster.create_topic("uneven", partitions=8, replication=1)
    for partition in topic.partitions:
        if partition.replicas[0].broker_id != 0:
            assert run(cluster, "partition", "move", "uneven", str(partition.number), "--to", "0").returncode == 0

    def parts() -> list[admin_pb.PartitionDescription]:
        request = admin_pb.DescribeTopicRequest(name="uneven")
        return list(cluster[0].admin.DescribeTopic(request, timeout=10).topic.partitions)

    eventually(lambda: all(part.leader_id == 0 and not part.moving for part in parts()), seconds=30)
    with subprocess.Popen(
        [*HEARS_CTRL_C, *command(cluster, "cluster", "rebalance", "--yes", "--at-once", "1")],
        stderr=subprocess.PIPE,
        text=True,
    ) as begun:
        assert begun.stderr is not None
        first = begun.stderr.readline()
        begun.send_signal(signal.SIGINT)
        rest = begun.stderr.read()
    assert first.startswith("1 of ") and begun.returncode == 130, (first, rest)
    assert "`lograft cluster rebalance` plans the rest" in rest
    eventually(lambda: all(part.leader_id >= 0 and not part.moving for part in parts()), seconds=30)
    for part in parts():
        assert [replica.voter for replica in part.replicas] == [True]
    assert run(cluster, "cluster", "rebalance", "--yes").returncode == 0
    again = run(cluster, "cluster", "rebalance", "--dry-run", "-o", "json")
    assert json.loads(again.stdout)["moves"] == []
    shares = json.loads(again.stdout)["brokers"]
    for what in ("replicas", "leaders"):
        loads = [share[what]["after"] for share in shares]
        assert max(loads) - min(loads) <= 1
