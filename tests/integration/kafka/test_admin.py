"""Topics administered by clients of Kafka."""

from __future__ import annotations

from typing import Any

import pytest
from lograft.v1 import admin_service_pb2 as admin_pb

from tests.integration.brokers import Brokers
from tests.integration.kafka.clients import Confluent, KafkaPython, confluent_kafka, kafka_python, until


@pytest.fixture
def admin(bootstrap: str) -> Any:
    confluent_kafka()
    from confluent_kafka.admin import AdminClient

    return AdminClient({"bootstrap.servers": bootstrap})


def new_topic(name: str, *arguments: int, **more: Any) -> Any:
    from confluent_kafka.admin import NewTopic

    return NewTopic(name, *arguments, **more)


def refusal(future: Any) -> str:
    with pytest.raises(confluent_kafka().KafkaException) as refused:
        future.result(20)
    return str(refused.value.args[0].name())


def test_a_topic_is_made_grown_trimmed_and_deleted(admin: Any, brokers: Brokers, bootstrap: str) -> None:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import NewPartitions

    admin.create_topics([new_topic("made", 2, 3)])["made"].result(20)
    described = admin.list_topics("made", timeout=10).topics["made"]
    assert len(described.partitions) == 2 and len(described.partitions[0].replicas) == 3
    assert refusal(admin.create_topics([new_topic("made", 2, 3)])["made"]) == "TOPIC_ALREADY_EXISTS"

    admin.create_partitions([NewPartitions("made", 4)])["made"].result(20)
    assert len(admin.list_topics("made", timeout=10).topics["made"].partitions) == 4
    assert refusal(admin.create_partitions([NewPartitions("made", 3)])["made"]) == "INVALID_PARTITIONS"

    Confluent.produce(bootstrap, "made", [b"%d" % number for number in range(10)])
    place = TopicPartition("made", 0, 4)
    assert admin.delete_records([place])[place].result(20).low_watermark == 4
    assert KafkaPython.read(bootstrap, "made", [0], 6)[0] == (0, 4, b"4")
    place = TopicPartition("made", 0, 40)
    assert refusal(admin.delete_records([place])[place]) == "OFFSET_OUT_OF_RANGE"

    admin.delete_topics(["made"])["made"].result(20)
    assert refusal(admin.delete_topics(["made"])["made"]) == "UNKNOWN_TOPIC_OR_PART"


@pytest.mark.parametrize(
    ("topic", "says"),
    [
        (("bad name", 1, 1), "TOPIC_EXCEPTION"),
        (("x" * 250, 1, 1), "TOPIC_EXCEPTION"),
        (("none", 0, 1), "INVALID_PARTITIONS"),
        (("copies", 1, 9), "INVALID_REPLICATION_FACTOR"),
    ],
)
def test_what_no_topic_can_be_is_refused_by_its_name(admin: Any, topic: tuple[str, int, int], says: str) -> None:
    assert refusal(admin.create_topics([new_topic(*topic)])[topic[0]]) == says


def test_a_topic_is_validated_and_not_made(admin: Any) -> None:
    admin.create_topics([new_topic("only-asked", 3, 3)], validate_only=True)["only-asked"].result(20)
    assert "only-asked" not in admin.list_topics(timeout=10).topics


@pytest.mark.filterwarnings("ignore:alter_configs has been deprecated")
def test_settings_are_given_shown_and_changed_in_kafkas_words(admin: Any, brokers: Brokers) -> None:
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

    config = {"retention.ms": "86400000", "max.message.bytes": "100000", "min.insync.replicas": "2"}
    admin.create_topics([new_topic("set-up", 1, 3, config=config)])["set-up"].result(20)

    def shown() -> dict[str, Any]:
        resource = ConfigResource(ConfigResource.Type.TOPIC, "set-up")
        return dict(admin.describe_configs([resource])[resource].result(20))

    entries = shown()
    assert {name: entries[name].value for name in config} == config
    assert entries["cleanup.policy"].value == "delete" and entries["cleanup.policy"].is_default
    assert entries["compression.type"].value == "producer" and entries["compression.type"].is_read_only
    native = brokers[0].admin.DescribeTopic(admin_pb.DescribeTopicRequest(name="set-up"), timeout=10)
    assert dict(native.topic.config) == {"retention.ms": "86400000", "batch.bytes.max": "100000"}

    changes = [
        ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET),
        ConfigEntry("max.message.bytes", None, incremental_operation=AlterConfigOpType.DELETE),
        ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.APPEND),
    ]
    resource = ConfigResource(ConfigResource.Type.TOPIC, "set-up", incremental_configs=changes)
    admin.incremental_alter_configs([resource])[resource].result(20)
    entries = shown()
    assert entries["retention.ms"].value == "1000" and entries["max.message.bytes"].is_default
    assert entries["cleanup.policy"].value == "compact,delete"

    resource = ConfigResource(ConfigResource.Type.TOPIC, "set-up", set_config={"retention.ms": "2000"})
    admin.alter_configs([resource])[resource].result(20)
    entries = shown()
    assert entries["retention.ms"].value == "2000" and entries["cleanup.policy"].value == "delete"

    for name, value in (("retention.ms", "soon"), ("flush.ms", "1"), ("compression.type", "gzip")):
        resource = ConfigResource(ConfigResource.Type.TOPIC, "set-up", set_config={name: value})
        assert refusal(admin.alter_configs([resource])[resource]) == "INVALID_CONFIG"
    resource = ConfigResource(ConfigResource.Type.BROKER, "0")
    assert admin.describe_configs([resource])[resource].result(20)["message.max.bytes"].value == str(1 << 20)


def test_the_cluster_is_described_by_the_addresses_of_this_door(admin: Any, brokers: Brokers) -> None:
    described = admin.describe_cluster().result(20)
    assert {f"{node.host}:{node.port}" for node in described.nodes} == {one.kafka_address for one in brokers.all}
    assert described.cluster_id and described.controller.id in (0, 1, 2)


def test_kafka_python_administers_too(bootstrap: str) -> None:
    kafka_python()
    from kafka.admin import KafkaAdminClient, NewTopic

    admin = KafkaAdminClient(bootstrap_servers=bootstrap.split(","))
    try:
        admin.create_topics([NewTopic("by-kafka-python", num_partitions=2, replication_factor=3)])
        assert "by-kafka-python" in admin.list_topics()
        assert len(admin.describe_cluster()["brokers"]) == 3
        admin.delete_topics(["by-kafka-python"])
    finally:
        admin.close()


def test_leaders_are_elected_partitions_moved_and_replicas_told_of(
    brokers: Brokers, bootstrap: str, admin: Any
) -> None:
    from confluent_kafka import ElectionType, TopicPartition

    kafka_python()
    from kafka.admin import KafkaAdminClient

    brokers.create_topic("moved", partitions=1, replication=2)
    place = TopicPartition("moved", 0)
    told = admin.elect_leaders(ElectionType.PREFERRED, [place]).result(20)
    assert told[place].name() == "ELECTION_NOT_NEEDED"
    theirs = KafkaAdminClient(bootstrap_servers=bootstrap.split(","))
    try:
        held = _replicas(theirs)
        Confluent.produce(bootstrap, "moved", [b"x"], idempotent=True)
        (other,) = {0, 1, 2} - {*held}
        theirs.alter_partition_reassignments({_place("moved"): [other, held[0]]})
        until(lambda: _replicas(theirs) == [other, held[0]])
        until(lambda: not theirs.list_partition_reassignments())
        told_of = str(theirs.describe_log_dirs())
        assert "moved" in told_of
    finally:
        theirs.close()
    assert KafkaPython.read(bootstrap, "moved", [0], 1) == [(0, 0, b"x")]


def _place(topic: str) -> Any:
    from kafka import TopicPartition

    return TopicPartition(topic, 0)


def _replicas(admin: Any) -> list[int]:
    (told,) = admin.describe_topics(["moved"])
    return list(told["partitions"][0]["replica_nodes"])
