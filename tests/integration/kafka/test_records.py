"""Records in and out through the door for Kafka clients, by clients that nobody here wrote."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import grpc
import pytest
from lograft.v1 import admin_service_pb2 as admin_pb
from lograft.v1 import common_pb2

from tests.integration.brokers import Brokers, a_batch
from tests.integration.kafka.clients import Aiokafka, Confluent, KafkaPython, confluent_kafka, every_client


@every_client
@pytest.mark.parametrize("idempotent", [False, True], ids=["plain", "idempotent"])
def test_what_a_client_produces_any_client_reads_and_so_does_ours(
    brokers: Brokers, bootstrap: str, client: Any, idempotent: bool
) -> None:
    topic = f"in-and-out-{client.__name__}-{idempotent}"
    brokers.create_topic(topic, partitions=2)
    values = [b"value %d" % number for number in range(300)]
    assert client.produce(bootstrap, topic, values, partition=1, idempotent=idempotent) == list(range(300))
    for reader in (Confluent, KafkaPython, Aiokafka):
        found = reader.read(bootstrap, topic, [0, 1], 300)
        assert found == [(1, offset, value) for offset, value in enumerate(values)], reader
    assert brokers.leader_of(topic, 1).values(topic, 1) == values


@every_client
@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_every_codec_passes_through(brokers: Brokers, bootstrap: str, client: Any, compression: str) -> None:
    topic = f"packed-{client.__name__}-{compression}"
    brokers.create_topic(topic)
    values = [b"the same again and again %d" % (number // 100) for number in range(500)]
    client.produce(bootstrap, topic, values, compression=compression)
    assert [value for _, _, value in Confluent.read(bootstrap, topic, [0], 500)] == values
    if compression != "zstd" or client is not Aiokafka:
        assert [value for _, _, value in client.read(bootstrap, topic, [0], 500)] == values


@every_client
@pytest.mark.parametrize("acks", [0, 1, -1])
def test_every_acks_gets_records_in(brokers: Brokers, bootstrap: str, client: Any, acks: int) -> None:
    topic = f"acks-{client.__name__}{acks}"
    brokers.create_topic(topic)
    client.produce(bootstrap, topic, [b"one", b"two"], acks=acks)
    assert [value for _, _, value in client.read(bootstrap, topic, [0], 2)] == [b"one", b"two"]


def test_the_end_of_a_partition_is_told_only_where_it_is(brokers: Brokers, bootstrap: str) -> None:
    """Also of partitions for which an answer that is full has no room: `kcat -e` stops there."""
    client = confluent_kafka()
    topic, count, partitions = "read-to-the-end", 4, 9
    brokers.create_topic(topic, partitions=partitions)
    for number in range(partitions):
        Confluent.produce(bootstrap, topic, [bytes(60_000)] * count, partition=number)
    settings = {"enable.partition.eof": True, "fetch.max.bytes": 70_000, "max.partition.fetch.bytes": 70_000}
    consumer = client.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "unused", "message.max.bytes": 70_000, **settings}
    )
    consumer.assign([client.TopicPartition(topic, number, 0) for number in range(partitions)])
    read, ends = dict.fromkeys(range(partitions), 0), dict[int, int]()
    deadline = time.monotonic() + 60
    while len(ends) < partitions and time.monotonic() < deadline:
        for message in consumer.consume(100, 0.5):
            if message.error() is None:
                read[message.partition()] += 1
            else:
                assert message.error().code() == client.KafkaError._PARTITION_EOF, message.error()
                ends.setdefault(message.partition(), read[message.partition()])
    consumer.close()
    assert ends == dict.fromkeys(range(partitions), count)


def test_what_our_own_client_wrote_others_read(brokers: Brokers, bootstrap: str) -> None:
    brokers.create_topic("from-grpc")
    brokers.leader_of("from-grpc").produce("from-grpc", a_batch(b"one", b"two"))
    for reader in (Confluent, KafkaPython, Aiokafka):
        assert reader.read(bootstrap, "from-grpc", [0], 2) == [(0, 0, b"one"), (0, 1, b"two")]


def test_an_idempotent_producer_loses_and_doubles_nothing_when_the_leader_is_killed(
    brokers: Brokers, bootstrap: str
) -> None:
    brokers.create_topic("killed")
    producer = confluent_kafka().Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 1, "batch.num.messages": 20}
    )
    outcomes: list[tuple[Any, bytes, int]] = []
    killed = threading.Event()

    def delivered(error: Any, told: Any) -> None:
        outcomes.append((error, told.value(), told.offset()))

    def kill() -> None:
        time.sleep(0.7)
        brokers.leader_of("killed").kill()
        killed.set()

    thread = threading.Thread(target=kill)
    thread.start()
    sent = []
    while not killed.is_set() or len(sent) < 3000:
        value = b"%d" % len(sent)
        sent.append(value)
        producer.produce(
            "killed", value, on_delivery=lambda error, told: outcomes.append((error, told.value(), told.offset()))
        )
        producer.poll(0.001)
    assert producer.flush(60) == 0
    thread.join()
    assert [error for error, _, _ in outcomes if error is not None] == []
    brokers.start()
    assert [(offset, value) for _, offset, value in Confluent.read(bootstrap, "killed", [0], len(sent))] == list(
        enumerate(sent)
    )
    assert [offset for _, _, offset in outcomes] == list(range(len(sent)))


def test_offsets_are_found_by_bound_and_by_time(brokers: Brokers, bootstrap: str) -> None:
    client = confluent_kafka()
    brokers.create_topic("times")
    producer = client.Producer({"bootstrap.servers": bootstrap, "linger.ms": 50})
    for number in range(10):
        producer.produce("times", b"%d" % number, timestamp=1_700_000_000_000 + 1000 * (number if number < 9 else 3))
    producer.flush(10)
    consumer = client.Consumer({"bootstrap.servers": bootstrap, "group.id": "unused"})
    place = client.TopicPartition("times", 0)
    assert consumer.get_watermark_offsets(place) == (0, 10)

    def at(timestamp_ms: int) -> int:
        (found,) = consumer.offsets_for_times([client.TopicPartition("times", 0, timestamp_ms)])
        return int(found.offset)

    assert at(1_700_000_004_000) == 4  # in the midst of a batch
    assert at(1_700_000_003_001) == 4
    assert at(1) == 0
    assert at(1_700_000_999_000) == -1  # librdkafka's OFFSET_END
    from confluent_kafka.admin import AdminClient, OffsetSpec

    admin = AdminClient({"bootstrap.servers": bootstrap})
    latest = admin.list_offsets({place: OffsetSpec.max_timestamp()})[place].result(10)
    assert (latest.offset, latest.timestamp) == (8, 1_700_000_008_000)
    consumer.close()


def test_a_long_poll_waits_and_is_woken_by_a_record(brokers: Brokers, bootstrap: str) -> None:
    client = confluent_kafka()
    brokers.create_topic("parked")
    consumer = client.Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "fetch.wait.max.ms": 20_000})
    consumer.assign([client.TopicPartition("parked", 0, 0)])
    assert consumer.poll(1.0) is None
    began = time.monotonic()
    Confluent.produce(bootstrap, "parked", [b"wake"])
    message = consumer.poll(10)
    assert message is not None and message.value() == b"wake" and time.monotonic() - began < 5
    consumer.close()


def test_a_topic_that_is_not_there_is_unknown_and_not_made(brokers: Brokers, bootstrap: str) -> None:
    client = confluent_kafka()
    producer = client.Producer({"bootstrap.servers": bootstrap, "message.timeout.ms": 3000})
    told: list[Any] = []
    producer.produce("absent", b"x", on_delivery=lambda error, _: told.append(error))
    producer.flush(10)
    assert told and told[0].code() in (client.KafkaError._UNKNOWN_TOPIC, client.KafkaError._MSG_TIMED_OUT)
    assert "absent" not in producer.list_topics(timeout=10).topics


def test_an_idempotent_producer_loses_doubles_and_reorders_nothing_while_leadership_is_handed_about(
    brokers: Brokers, bootstrap: str
) -> None:
    brokers.create_topic("handed-about")
    outcomes: list[tuple[Any, int]] = []
    producer = confluent_kafka().Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 0, "batch.num.messages": 5}
    )
    is_over = threading.Event()

    def hand_about() -> None:
        partition = common_pb2.TopicPartition(topic="handed-about", partition=0)
        for number in range(12):
            request = admin_pb.TransferLeadershipRequest(partition=partition, broker_id=number % 3)
            with contextlib.suppress(grpc.RpcError):  # it leads already, or is not ready to
                brokers[0].admin.TransferLeadership(request, timeout=10)
            time.sleep(0.25)
        is_over.set()

    thread = threading.Thread(target=hand_about)
    thread.start()
    sent = 0
    while not is_over.is_set():
        producer.produce(
            "handed-about", b"%d" % sent, on_delivery=lambda error, told: outcomes.append((error, told.offset()))
        )
        sent += 1
        producer.poll(0.01 if len(producer) > 500 else 0)
    thread.join()
    assert producer.flush(60) == 0
    assert [error for error, _ in outcomes if error is not None] == []
    assert [offset for _, offset in outcomes] == list(range(sent))
    values = [value for _, _, value in Confluent.read(bootstrap, "handed-about", [0], sent)]
    assert values == [b"%d" % number for number in range(sent)]
