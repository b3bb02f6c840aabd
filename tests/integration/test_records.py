"""Records in and out of a real cluster of three processes, over gRPC."""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue

import pytest
from lograft.proto.record_batch import decode, split
from lograft.v1 import broker_service_pb2 as pb
from lograft.v1 import common_pb2

from tests.integration.brokers import Brokers, a_batch

FSYNC = common_pb2.Durability.MEDIUM_FSYNC


def test_what_is_acknowledged_by_a_quorum_is_fetched_as_it_was_sent(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)
    result = leader.produce(topic, a_batch(b"one", b"two"))
    assert not result.error.reason
    assert (result.base_offset, result.durability.medium, result.durability.replicas) == (0, FSYNC, 3)
    assert result.durability.copies >= 2
    answer = leader.fetch(topic)
    assert [record.value for _, batch in split(answer.batches) for record in decode(batch)] == [b"one", b"two"]
    assert (answer.next_offset, answer.committed_offset, answer.log_start_offset) == (2, 2, 0)


def test_acks_leader_says_that_one_copy_is_on_disk(brokers: Brokers, topic: str) -> None:
    result = brokers.leader_of(topic).produce(topic, a_batch(b"one"), acks=pb.ACKS_LEADER)
    assert (result.base_offset, result.durability.medium) == (0, FSYNC)
    assert result.durability.copies >= 1


def test_acks_none_promises_no_offset_and_the_record_arrives(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)
    result = leader.produce(topic, a_batch(b"one"), acks=pb.ACKS_NONE)
    assert (result.error.reason, result.base_offset, result.durability.copies) == ("", -1, 0)
    assert leader.fetch(topic, max_wait_ms=5_000).next_offset == 1


def test_every_request_of_a_stream_is_answered_once_and_a_partition_keeps_the_order(
    brokers: Brokers, topic: str
) -> None:
    leader = brokers.leader_of(topic)
    requests = [
        pb.ProduceRequest(
            request_id=number,
            entries=[pb.ProduceRequest.Entry(topic=topic, batch=a_batch(b"%d-%d" % (number, at))) for at in range(3)],
        )
        for number in range(50)
    ]
    answers = list(leader.records.Produce(iter(requests), timeout=15))
    assert sorted(answer.request_id for answer in answers) == list(range(50))
    assert leader.values(topic) == [b"%d-%d" % (number, at) for number in range(50) for at in range(3)]


def test_a_batch_sent_twice_is_stored_once_and_answered_with_its_first_offset(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)
    batch = a_batch(b"one", producer_id=77, producer_epoch=0, base_sequence=0)
    first = leader.produce(topic, batch, first_open=0)
    again = leader.produce(topic, batch, first_open=0)
    assert (first.base_offset, first.duplicate) == (0, False)
    assert (again.base_offset, again.duplicate) == (0, True)
    assert leader.values(topic) == [b"one"]


def test_a_fetch_at_the_end_waits_until_something_is_committed(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)
    began = time.monotonic()
    threading.Timer(0.3, lambda: leader.produce(topic, a_batch(b"late"))).start()
    answer = leader.fetch(topic, max_wait_ms=10_000)
    assert answer.next_offset == 1 and 0.2 < time.monotonic() - began < 5


def test_a_fetch_at_the_end_returns_nothing_when_its_wait_is_over(brokers: Brokers, topic: str) -> None:
    began = time.monotonic()
    answer = brokers.leader_of(topic).fetch(topic, max_wait_ms=200)
    assert (answer.batches, answer.next_offset, answer.error.reason) == (b"", 0, "")
    assert 0.15 < time.monotonic() - began < 3


def test_a_fetch_of_one_byte_still_brings_a_whole_batch(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)
    leader.produce(topic, a_batch(b"x" * 10_000))
    leader.produce(topic, a_batch(b"y" * 10_000))
    answer = leader.fetch(topic, max_bytes=1)
    assert [header.record_count for header, _ in split(answer.batches)] == [1]


def test_a_fetch_from_the_middle_of_a_batch_brings_that_batch(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)
    leader.produce(topic, a_batch(b"0", b"1", b"2"))
    answer = leader.fetch(topic, 1)
    assert [header.base_offset for header, _ in split(answer.batches)] == [0]
    assert answer.next_offset == 3


def test_a_stream_pushes_what_comes_as_far_as_its_credit_goes(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)
    batches = [a_batch(b"%d" % number * 1000) for number in range(3)]
    for batch in batches[:2]:
        leader.produce(topic, batch)
    requests: SimpleQueue[pb.StreamRequest | None] = SimpleQueue()
    requests.put(pb.StreamRequest(start=pb.StreamRequest.Start(topic=topic, offset=0, stream_id=5)))
    requests.put(pb.StreamRequest(credit_bytes=1))
    pushed = leader.records.Stream(iter(requests.get, None), timeout=15)
    first = next(pushed)
    assert (first.stream_id, first.next_offset) == (5, 1)
    requests.put(pb.StreamRequest(credit_bytes=1 << 20))
    assert next(pushed).next_offset == 2
    leader.produce(topic, batches[2])
    third = next(pushed)
    assert (third.next_offset, [record.value for record in decode(third.batches)]) == (3, [b"2" * 1000])
    requests.put(pb.StreamRequest(start=pb.StreamRequest.Start(topic="nowhere", stream_id=6)))
    refused = next(pushed)
    assert (refused.stream_id, refused.error.reason) == (6, "UNKNOWN_TOPIC")
    requests.put(None)
    assert list(pushed) == []


def test_offsets_are_listed_by_bound_and_by_time(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)
    leader.produce(topic, a_batch(b"0", b"1", b"2", timestamp_ms=1_000))
    leader.produce(topic, a_batch(b"3", b"4", timestamp_ms=5_000))

    def query(**where: int) -> tuple[int, int]:
        request = pb.ListOffsetsRequest(queries=[pb.ListOffsetsRequest.Query(topic=topic, **where)])  # type: ignore[arg-type]
        (result,) = leader.records.ListOffsets(request, timeout=10).results
        assert not result.error.reason, result.error
        return result.offset, result.timestamp_ms

    assert query(bound=pb.ListOffsetsRequest.BOUND_START) == (0, -1)
    assert query(bound=pb.ListOffsetsRequest.BOUND_END) == (5, -1)
    assert query(bound=pb.ListOffsetsRequest.BOUND_APPENDED) == (5, -1)
    assert query(timestamp_ms=0) == (0, 1_000)
    assert query(timestamp_ms=1_001) == (1, 1_001)
    assert query(timestamp_ms=1_003) == (3, 5_000)
    assert query(timestamp_ms=5_001) == (4, 5_001)
    assert query(timestamp_ms=9_000) == (5, -1)


def test_plain_records_need_no_batch_codec(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)
    request = pb.ProduceRecordsRequest(
        topic=topic, records=[pb.Record(key=b"k", value=b"v", headers=[pb.Header(key="h", value=b"1")]), pb.Record()]
    )
    (result,) = leader.records.ProduceRecords(request, timeout=10).results
    assert (result.error.reason, result.partition, result.base_offset, result.record_count) == ("", 0, 0, 2)
    ((_, batch),) = split(leader.fetch(topic).batches)
    first, second = decode(batch)
    assert (first.key, first.value, [tuple(header) for header in first.headers]) == (b"k", b"v", [("h", b"1")])
    assert (second.key, second.value) == (None, None)
    assert first.timestamp_ms == pytest.approx(time.time() * 1000, abs=60_000)


def test_the_wrong_broker_names_the_leader_and_its_address(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)
    for other in (broker for broker in brokers.all if broker is not leader):
        for error in (other.produce(topic, a_batch(b"lost?")).error, other.fetch(topic).error):
            assert (error.reason, error.retriable) == ("NOT_LEADER", True)
            assert (error.leader.broker_id, error.leader.address) == (leader.broker_id, leader.address)
            assert error.leader.term >= 1
    assert leader.values(topic) == []


def test_metadata_says_the_same_at_every_broker(brokers: Brokers, topic: str) -> None:
    leader = brokers.leader_of(topic)
    for broker in brokers.all:
        metadata = broker.records.Metadata(pb.MetadataRequest(topics=[topic, "nowhere"]), timeout=5)
        assert metadata.broker_id == broker.broker_id
        assert {found.broker_id: (found.address, found.alive) for found in metadata.brokers} == {
            one.broker_id: (one.address, True) for one in brokers.all
        }
        (described,) = metadata.topics
        (partition,) = described.partitions
        assert (described.name, partition.leader_id, sorted(partition.replicas)) == (
            topic,
            leader.broker_id,
            [0, 1, 2],
        )
        assert list(metadata.unknown_topics) == ["nowhere"]
