"""Groups of Kafka clients: shared partitions, stored offsets, and what they may not mix with."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
from lograft.v1 import groups_service_pb2 as groups_pb

from tests.integration.brokers import Brokers, error_info
from tests.integration.kafka.clients import Confluent, confluent_kafka, kafka_python, until
from tests.integration.kafka.members import Member, stored


def test_members_share_partitions_and_what_they_store_native_clients_see(brokers: Brokers, bootstrap: str) -> None:
    brokers.create_topic("shared", partitions=4)
    for number in range(4):
        Confluent.produce(bootstrap, "shared", [b"%d-%d" % (number, one) for one in range(20)], partition=number)
    one = Member(bootstrap, "team", "shared")
    two = None
    try:
        until(lambda: one.owned == {0, 1, 2, 3})
        two = Member(bootstrap, "team", "shared")
        until(lambda: len(one.owned) == len(two.owned) == 2 and one.owned | two.owned == {0, 1, 2, 3})
        until(lambda: stored(brokers, "team", "shared", 4) == [20] * 4)
        assert {*one.values, *two.values} == {b"%d-%d" % (n, o) for n in range(4) for o in range(20)}
        two.stop()
        until(lambda: one.owned == {0, 1, 2, 3})
    finally:
        for member in (one, two):
            if member is not None:
                member.stop()


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_every_strategy_of_sharing_out_passes_through(brokers: Brokers, bootstrap: str, strategy: str) -> None:
    topic = f"by-{strategy}"
    brokers.create_topic(topic, partitions=3)
    options = {"partition.assignment.strategy": strategy}
    members = [Member(bootstrap, f"team-{strategy}", topic, **options) for _ in range(3)]
    try:
        until(lambda: sorted(len(member.owned) for member in members) == [1, 1, 1])
        assert set.union(*(member.owned for member in members)) == {0, 1, 2}
    finally:
        for member in members:
            member.stop()


def test_a_group_goes_on_where_it_stood_when_its_coordinator_is_killed(brokers: Brokers, bootstrap: str) -> None:
    brokers.create_topic("goes-on", partitions=2)
    member = Member(bootstrap, "survivors", "goes-on")
    try:
        until(lambda: member.owned == {0, 1})
        Confluent.produce(bootstrap, "goes-on", [b"before"])
        until(lambda: member.values == [b"before"])
        coordinator = brokers[0].groups.FindCoordinator(groups_pb.FindCoordinatorRequest(group="survivors"), timeout=5)
        brokers[coordinator.broker_id].kill()
        Confluent.produce(bootstrap, "goes-on", [b"after"])
        until(lambda: member.values == [b"before", b"after"])
        until(lambda: stored(brokers, "survivors", "goes-on", 1) == [2])
        assert member.owned == {0, 1}
    finally:
        member.stop()


def test_a_static_member_comes_back_without_anything_moving(brokers: Brokers, bootstrap: str) -> None:
    brokers.create_topic("static", partitions=2)
    first = Member(bootstrap, "statics", "static", **{"group.instance.id": "one"})
    second = Member(bootstrap, "statics", "static", **{"group.instance.id": "two"})
    try:
        until(lambda: len(first.owned) == len(second.owned) == 1)
        had, others = set(first.owned), set(second.owned)
        first.stop()
        first = Member(bootstrap, "statics", "static", **{"group.instance.id": "one"})
        until(lambda: first.owned == had)
        assert second.owned == others
    finally:
        first.stop()
        second.stop()


def test_kafka_clients_and_native_ones_cannot_be_members_of_one_group_and_are_told_so(
    brokers: Brokers, bootstrap: str
) -> None:
    brokers.create_topic("mixed", partitions=2)
    member = Member(bootstrap, "mixed", "mixed")
    try:
        until(lambda: member.owned == {0, 1})
        join = groups_pb.HeartbeatRequest.Join(topics=["mixed"], session_timeout_ms=10_000)
        request = groups_pb.HeartbeatRequest(group="mixed", member_id="native", join=join)
        assert _refusal(brokers, request) == "INCONSISTENT_GROUP"
    finally:
        member.stop()
    until(lambda: _refusal(brokers, request) == "")
    refused = Member(bootstrap, "mixed", "mixed")
    try:
        until(lambda: refused.errors)
        assert "INCONSISTENT_GROUP_PROTOCOL" in str(refused.errors[0]) or "Inconsistent" in str(refused.errors[0])
    finally:
        refused.stop()


def _refusal(brokers: Brokers, request: groups_pb.HeartbeatRequest) -> str:
    coordinator = brokers[0].groups.FindCoordinator(groups_pb.FindCoordinatorRequest(group=request.group), timeout=5)
    try:
        brokers[coordinator.broker_id].groups.Heartbeat(request, timeout=10)
    except grpc.RpcError as error:
        return error_info(error)[1]
    return ""


def test_a_seek_by_a_native_client_moves_kafka_clients_that_read(brokers: Brokers, bootstrap: str) -> None:
    brokers.create_topic("sought")
    Confluent.produce(bootstrap, "sought", [b"one", b"two", b"three"])
    member = Member(bootstrap, "seekers", "sought")
    try:
        until(lambda: member.values == [b"one", b"two", b"three"])
        coordinator = brokers[0].groups.FindCoordinator(groups_pb.FindCoordinatorRequest(group="seekers"), timeout=5)
        target = groups_pb.SeekGroupRequest.Target(topic="sought", partition=0, offset=1)
        request = groups_pb.SeekGroupRequest(group="seekers", targets=[target])
        brokers[coordinator.broker_id].groups.SeekGroup(request, timeout=10)
        until(lambda: member.values == [b"one", b"two", b"three", b"two", b"three"])
    finally:
        member.stop()


def test_kafka_python_and_aiokafka_read_in_groups(brokers: Brokers, bootstrap: str) -> None:
    from aiokafka import AIOKafkaConsumer

    brokers.create_topic("theirs", partitions=2)
    Confluent.produce(bootstrap, "theirs", [b"%d" % number for number in range(50)])
    consumer = kafka_python().KafkaConsumer(
        "theirs",
        bootstrap_servers=bootstrap.split(","),
        group_id="by-kafka-python",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        consumer_timeout_ms=200,
    )
    found: list[bytes] = []
    until(lambda: found.extend(one.value for one in consumer) or len(found) == 50)
    consumer.commit()
    consumer.close()
    assert stored(brokers, "by-kafka-python", "theirs", 1) == [50]

    async def read() -> int:
        # Not by itself: should its coordinator move as it stops, aiokafka never looks for it and tries for ever.
        consumer = AIOKafkaConsumer(
            "theirs",
            bootstrap_servers=bootstrap,
            group_id="by-aiokafka",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        await consumer.start()
        count = 0
        deadline = time.monotonic() + 30
        while count < 50 and time.monotonic() < deadline:
            count += sum(map(len, (await consumer.getmany(timeout_ms=500)).values()))
        await consumer.commit()
        await consumer.stop()
        return count

    assert asyncio.run(read()) == 50
    until(lambda: stored(brokers, "by-aiokafka", "theirs", 1) == [50])


def test_groups_are_listed_described_and_deleted(brokers: Brokers, bootstrap: str) -> None:
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
    from confluent_kafka.admin import AdminClient

    brokers.create_topic("administered", partitions=2)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    member = Member(bootstrap, "watched", "administered")
    try:
        until(lambda: member.owned == {0, 1})
        listed = {one.group_id: one for one in admin.list_consumer_groups().result().valid}
        assert listed["watched"].state.name == "STABLE"
        described = admin.describe_consumer_groups(["watched"])["watched"].result()
        assert described.state.name == "STABLE" and len(described.members) == 1
        assert {place.partition for place in described.members[0].assignment.topic_partitions} == {0, 1}
        with pytest.raises(confluent_kafka().KafkaException, match="NON_EMPTY_GROUP"):
            admin.delete_consumer_groups(["watched"])["watched"].result()
    finally:
        member.stop()
    place = TopicPartition("administered", 1, 0)
    asked = ConsumerGroupTopicPartitions("watched", [place])

    def is_stored() -> bool:
        """Refused until the group has noticed that its member left."""
        (told,) = admin.alter_consumer_group_offsets([asked])["watched"].result().topic_partitions
        return told.error is None

    until(is_stored)
    assert stored(brokers, "watched", "administered", 2) == [-1, 0]
    told = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("watched")])["watched"].result()
    assert [(one.partition, one.offset) for one in told.topic_partitions] == [(1, 0)]
    admin.delete_consumer_groups(["watched"])["watched"].result()
    assert "watched" not in {one.group_id for one in admin.list_consumer_groups().result().valid}
