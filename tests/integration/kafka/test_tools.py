"""Command-line tools of others: kcat, and Kafka's own in Java. No Python packages, so they may not be there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from lograft.v1 import groups_service_pb2 as groups_pb

from tests.integration.brokers import Brokers
from tests.integration.kafka.clients import Confluent, until
from tests.integration.kafka.members import coordinator_of

JARS = sorted(Path.home().glob(".cache/lograft/peers/kafka-*/kafka-clients-*.jar"))
KCAT = shutil.which("kcat") or shutil.which("kafkacat")
needs_kcat = pytest.mark.skipif(KCAT is None, reason="kcat is not installed: apt-get install kcat")
needs_java = pytest.mark.skipif(
    not JARS or shutil.which("java") is None, reason="Kafka's tools are not here: make bench-peers brings them"
)
LINES = "".join(f"line {number}\n" for number in range(500))


def run(*command: str, given: str = "") -> str:
    ended = subprocess.run(command, input=given, capture_output=True, text=True, timeout=90, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


def java(tool: str, *arguments: str) -> str:
    return run(*java_command(tool, *arguments))


def java_started(tool: str, *arguments: str) -> subprocess.Popen[str]:
    command = java_command(tool, *arguments)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def java_command(tool: str, *arguments: str) -> tuple[str, ...]:
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"
    return ("java", "-Xmx256m", quiet, "-cp", f"{JARS[-1].parent}/*", f"org.apache.kafka.tools.{tool}", *arguments)


@needs_kcat
@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_kcat_writes_reads_and_reads_in_a_group(brokers: Brokers, bootstrap: str, codec: str) -> None:
    assert KCAT is not None
    topic = f"kcat-{codec}"
    brokers.create_topic(topic)
    run(KCAT, "-b", bootstrap, "-t", topic, "-P", "-z", codec, given=LINES)
    assert run(KCAT, "-b", bootstrap, "-t", topic, "-C", "-o", "beginning", "-e", "-q") == LINES
    read = run(KCAT, "-b", bootstrap, "-G", f"by-{topic}", "-X", "auto.offset.reset=earliest", "-c", "500", "-q", topic)
    assert read == LINES


@needs_java
@pytest.mark.long
def test_kafkas_own_tools_make_a_topic_fill_it_read_it_in_a_group_and_tell_of_both(
    brokers: Brokers, bootstrap: str
) -> None:
    there = ("--bootstrap-server", bootstrap)
    java("TopicCommand", *there, "--create", "--topic", "java", "--partitions", "3", "--replication-factor", "3")
    described = java("TopicCommand", *there, "--describe", "--topic", "java")
    assert "PartitionCount: 3" in described and "ReplicationFactor: 3" in described
    size = ("--num-records", "5000", "--record-size", "100", "--throughput", "-1")
    to = ("--producer-props", f"bootstrap.servers={bootstrap}", "acks=all")
    assert "5000 records sent" in java("ProducerPerformance", "--topic", "java", *size, *to)
    group = ("--from-beginning", "--max-messages", "5000", "--group", "of-java", "--timeout-ms", "30000")
    read = java("consumer.ConsoleConsumer", *there, "--topic", "java", *group)
    assert len(read.splitlines()) == 5000
    told = java("consumer.group.ConsumerGroupCommand", *there, "--describe", "--group", "of-java")
    rows = [line.split() for line in told.splitlines() if line.startswith("of-java")]
    assert sum(int(row[3]) for row in rows) == 5000 and {row[5] for row in rows} == {"0"}


@needs_java
@pytest.mark.long
def test_kafkas_own_consumer_reads_in_a_group_that_the_broker_shares_out_and_tools_tell_of_it(
    brokers: Brokers, bootstrap: str
) -> None:
    there = ("--bootstrap-server", bootstrap)
    brokers.create_topic("java-848", partitions=3)
    Confluent.produce(bootstrap, "java-848", [b"%d" % number for number in range(1000)])
    by_broker = ("--command-property", "group.protocol=consumer", "--group", "of-java-848", "--from-beginning")
    one, two = (java_started("consumer.ConsoleConsumer", *there, "--topic", "java-848", *by_broker) for _ in range(2))

    def described(*more: str) -> list[list[str]]:
        told = java("consumer.group.ConsumerGroupCommand", *there, "--describe", "--group", "of-java-848", *more)
        return [line.split() for line in told.splitlines() if line.startswith("of-java-848")]

    def owners() -> set[str]:
        """GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID ..."""
        return {row[6] for row in described()}

    try:
        until(lambda: "of-java-848" in java("consumer.group.ConsumerGroupCommand", *there, "--list"), 60)
        until(lambda: len(owners() - {"-"}) == 2, 60)
        until(lambda: sorted(row[2:6] for row in described())[0] == ["0", "1000", "1000", "0"], 60)
        members = described("--members")
        assert sorted(row[-1] for row in members) == ["1", "2"], members
        (state,) = described("--state")
        assert {"Stable", "uniform", "2"} <= {*state}, state
        listed = java("consumer.group.ConsumerGroupCommand", *there, "--list", "--type", "consumer")
        assert "of-java-848" in listed.split()
        one.terminate()
        until(lambda: len(owners()) == 1, 60)
        Confluent.produce(bootstrap, "java-848", [b"%d" % number for number in range(1000, 1500)], partition=2)
        until(lambda: sorted(row[3] for row in described())[-2:] == ["1000", "500"], 60)
        target = groups_pb.SeekGroupRequest.Target(topic="java-848", partition=0, offset=990)
        request = groups_pb.SeekGroupRequest(group="of-java-848", targets=[target])
        brokers[coordinator_of(brokers, "of-java-848")].groups.SeekGroup(request, timeout=10)
        until(lambda: sorted(row[3] for row in described())[-2:] == ["1000", "500"], 60)
        brokers[coordinator_of(brokers, "of-java-848")].kill()
        Confluent.produce(bootstrap, "java-848", [b"%d" % number for number in range(1500, 1600)], partition=1)
        until(lambda: sorted(row[3] for row in described())[0] == "100", 60)
    finally:
        read = []
        for process in (one, two):
            process.terminate()
            read += process.communicate(timeout=60)[0].split()
    assert sorted(map(int, read)) == sorted([*range(1600), *range(990, 1000)]), "each once, and what was sought twice"
    until(lambda: "Empty" in described("--state")[0], 60)
    java("consumer.group.ConsumerGroupCommand", *there, "--delete", "--group", "of-java-848")
