"""What clients and strangers send by mistake or on purpose: a clear error, and nothing lost or left half-made."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time

import crc32c
import grpc
import pytest
from lograft.proto.record_batch import HEADER_SIZE
from lograft.v1 import admin_service_pb2 as admin_pb
from lograft.v1 import broker_service_pb2 as pb

from tests.integration.brokers import Broker, Brokers, a_batch, error_info


def refused_creation(broker: Broker, **fields: object) -> tuple[grpc.StatusCode, str]:
    request = admin_pb.CreateTopicRequest(
        **{"name": "good", "partitions": 1, "topic_id": os.urandom(16).hex(), **fields}  # type: ignore[arg-type]
    )
    with pytest.raises(grpc.RpcError) as failure:
        broker.admin.CreateTopic(request, timeout=10)
    code, reason, _ = error_info(failure.value)
    return code, reason


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "x" * 250, "a\0b", "../../etc/x", "naïve", "a b", "x" * 100_000]
)
def test_a_bad_topic_name_is_refused(brokers: Brokers, name: str) -> None:
    for broker in brokers.all:
        assert refused_creation(broker, name=name) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_TOPIC")


@pytest.mark.parametrize("partitions", [0, -1, 1_000_000, 2**31 - 1])
def test_a_bad_number_of_partitions_is_refused(brokers: Brokers, partitions: int) -> None:
    expected = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PARTITIONS")
    assert refused_creation(brokers[0], partitions=partitions) == expected


@pytest.mark.parametrize("replication", [4, -5])
def test_a_bad_number_of_replicas_is_refused(brokers: Brokers, replication: int) -> None:
    expected = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REPLICATION")
    assert refused_creation(brokers[0], replication=replication) == expected


def test_a_refused_topic_is_not_left_half_made(brokers: Brokers) -> None:
    refused_creation(brokers[0], name="half-made", replication=4)
    refused_creation(brokers[0], name="half-made", config={"nonsense": "1"})
    metadata = brokers[0].records.Metadata(pb.MetadataRequest(topics=["half-made"]), timeout=5)
    assert list(metadata.unknown_topics) == ["half-made"]
    brokers.create_topic("half-made")


def with_crc_broken(batch: bytes) -> bytes:
    return batch[:-1] + bytes([batch[-1] ^ 1])


def with_magic(batch: bytes, magic: int) -> bytes:
    return batch[:16] + bytes([magic]) + batch[17:]


def with_count(batch: bytes, count: int) -> bytes:
    """Another record count, and a CRC that is good again."""
    body = batch[21:57] + struct.pack(">i", count) + batch[61:]
    return batch[:17] + struct.pack(">I", crc32c.crc32c(body)) + body


GOOD = a_batch(b"one", b"two")

BAD_BATCHES = {
    "crc": (with_crc_broken(GOOD), "CORRUPT_BATCH"),
    "magic 1": (with_magic(GOOD, 1), "CORRUPT_BATCH"),
    "magic 9": (with_magic(GOOD, 9), "CORRUPT_BATCH"),
    "cut short": (GOOD[:-5], "CORRUPT_BATCH"),
    "no whole header": (GOOD[: HEADER_SIZE - 1], "CORRUPT_BATCH"),
    "empty": (b"", "CORRUPT_BATCH"),
    "nonsense": (b"nonsense" * 100, "CORRUPT_BATCH"),
    "two in one": (GOOD + GOOD, "CORRUPT_BATCH"),
    "count 0": (with_count(GOOD, 0), "INVALID_RECORD"),
    "count 3": (with_count(GOOD, 3), "INVALID_RECORD"),
    "count -1": (with_count(GOOD, -1), "CORRUPT_BATCH"),
    "too large": (a_batch(b"x" * (1 << 20)), "BATCH_TOO_LARGE"),
}


@pytest.mark.parametrize(("batch", "reason"), BAD_BATCHES.values(), ids=BAD_BATCHES)
def test_a_bad_batch_is_refused_and_nothing_is_appended(
    brokers: Brokers, shared_topic: str, batch: bytes, reason: str
) -> None:
    leader = brokers.leader_of(shared_topic)
    before = leader.fetch(shared_topic).committed_offset
    result = leader.produce(shared_topic, batch)
    assert (result.error.reason, result.error.retriable, result.base_offset) == (reason, False, -1)
    result = leader.produce(shared_topic, GOOD)
    assert (result.error.reason, result.base_offset) == ("", before)


def test_a_good_entry_is_not_harmed_by_a_bad_one_beside_it(brokers: Brokers, topic: str) -> None:
    entry = pb.ProduceRequest.Entry
    request = pb.ProduceRequest(
        entries=[
            entry(topic=topic, batch=with_crc_broken(GOOD)),
            entry(topic=topic, batch=GOOD),
            entry(topic="nowhere", batch=GOOD),
            entry(topic=topic, partition=1, batch=GOOD),
            entry(topic=topic, partition=-1, batch=GOOD),
        ]
    )
    (answer,) = brokers.leader_of(topic).records.Produce(iter([request]), timeout=10)
    reasons = [result.error.reason for result in answer.results]
    assert reasons == ["CORRUPT_BATCH", "", "UNKNOWN_TOPIC", "UNKNOWN_PARTITION", "UNKNOWN_PARTITION"]
    assert answer.results[1].base_offset == 0


def test_acks_that_do_not_exist_are_refused(brokers: Brokers, topic: str) -> None:
    result = brokers.leader_of(topic).produce(topic, GOOD, acks=7)
    assert result.error.reason == "INVALID_REQUEST"
    assert brokers.leader_of(topic).values(topic) == []


def test_a_jump_in_a_producers_sequence_is_refused_and_may_be_mended(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)

    def send(sequence: int, first_open: int) -> str:
        batch = a_batch(b"%d" % sequence, producer_id=5, producer_epoch=0, base_sequence=sequence)
        return leader.produce(topic, batch, first_open=first_open).error.reason

    assert send(0, 0) == ""
    assert send(2, 1) == "OUT_OF_ORDER_SEQUENCE"
    assert send(1, 1) == ""
    assert send(2, 2) == ""
    assert leader.values(topic) == [b"0", b"1", b"2"]


def test_a_producer_that_goes_on_in_an_epoch_that_it_left_behind_is_told_so(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)

    def send(epoch: int, sequence: int) -> str:
        batch = a_batch(b"%d.%d" % (epoch, sequence), producer_id=6, producer_epoch=epoch, base_sequence=sequence)
        return leader.produce(topic, batch, first_open=sequence).error.reason

    assert [send(0, 0), send(1, 0), send(0, 1), send(1, 1)] == ["", "", "STALE_PRODUCER", ""]
    assert leader.values(topic) == [b"0.0", b"1.0", b"1.1"]


@pytest.mark.parametrize("offset", [-1, -7, 3, 2**62])
def test_a_fetch_outside_the_log_is_refused_at_once_and_says_where_the_log_is(
    brokers: Brokers, shared_topic: str, offset: int
) -> None:
    leader = brokers.leader_of(shared_topic)
    end = leader.fetch(shared_topic).committed_offset
    offset = end + 1 if offset == 3 else offset
    began = time.monotonic()
    answer = leader.fetch(shared_topic, offset, max_wait_ms=20_000)
    assert answer.error.reason == "OFFSET_OUT_OF_RANGE" and time.monotonic() - began < 5
    assert (answer.error.metadata["start"], answer.error.metadata["end"]) == ("0", str(end))


def test_an_unknown_topic_is_named_in_the_error(brokers: Brokers) -> None:
    answer = brokers[0].fetch("nowhere")
    assert answer.error.reason == "UNKNOWN_TOPIC" and "'nowhere'" in answer.error.message


def test_a_topic_name_of_a_megabyte_does_not_come_back(brokers: Brokers) -> None:
    answer = brokers[0].fetch("x" * (1 << 20))
    assert answer.error.reason == "UNKNOWN_TOPIC" and len(answer.error.message) < 1_000


def test_a_grpc_message_over_the_limit_is_refused_and_the_broker_goes_on(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)
    with pytest.raises(grpc.RpcError) as failure:
        leader.produce(topic, b"x" * (17 << 20))
    assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not leader.produce(topic, GOOD).error.reason


def test_bytes_that_are_no_request_are_refused_and_leave_no_traceback_in_the_log(brokers: Brokers) -> None:
    for service, method in (("AdminService", "ListTopics"), ("GroupsService", "Heartbeat")):
        call = brokers[0].channel.unary_unary(f"/lograft.v1.{service}/{method}")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"\xff\xff\xff", timeout=5)
        assert error_info(refused.value)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    for method in ("Produce", "Stream"):
        stream = brokers[0].channel.stream_stream(f"/lograft.v1.BrokerService/{method}")
        with pytest.raises(grpc.RpcError) as refused:
            list(stream(iter([b"\xff\xff\xff"]), timeout=5))
        assert error_info(refused.value)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert not [event for event in brokers[0].events() if "Traceback" in event.get("raw", "")]


def test_a_stream_request_that_asks_for_nothing_is_refused(brokers: Brokers) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        list(brokers[0].records.Stream(iter([pb.StreamRequest()]), timeout=10))
    assert error_info(failure.value)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack(">i", 0),
        struct.pack(">i", -1),
        struct.pack(">i", 2**31 - 1),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(200),
        os.urandom(4096),
        struct.pack(">I", 100) + os.urandom(100),
    ],
    ids=["length-0", "length--1", "length-2^31-1", "http", "tls", "random", "random-frame"],
)
def test_garbage_on_the_peer_port_closes_that_connection_and_nothing_else(brokers: Brokers, garbage: bytes) -> None:
    for broker in brokers.all:
        with socket.create_connection(("127.0.0.1", broker.peer_port), timeout=5) as stranger:
            stranger.sendall(garbage)
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(1024) == b""
    for broker in brokers.all:
        assert broker.is_running
        metadata = broker.records.Metadata(pb.MetadataRequest(), timeout=5)
        assert all(one.alive for one in metadata.brokers)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 405),
        (b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n", 431),
    ],
    ids=["post", "nonsense", "long-path"],
)
def test_a_bad_http_request_gets_its_status(brokers: Brokers, request_bytes: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", brokers[0].http_port), timeout=5) as connection:
        connection.sendall(request_bytes)
        assert int(connection.recv(65536).split()[1]) == status
