"""Logs that forget: real brokers drop segments, begin anew where they have to, and keep all that is not forgotten."""

from __future__ import annotations

import os
from collections.abc import Iterator

import grpc
import pytest
from lograft.proto.record_batch import decode, split
from lograft.v1 import admin_service_pb2 as admin_pb
from lograft.v1 import broker_service_pb2 as pb

from tests.integration.brokers import Broker, Brokers, a_batch, error_info, eventually

SMALL = {"segment.bytes.max": "65536", "batch.bytes.max": "65536"}
VALUE_BYTES = 10_000
"""Six batches of one record fill a segment."""


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """Three brokers that look every 200 ms at what can go."""
    brokers = Brokers(tmp_path_factory.mktemp("forgetful"), settings="[retention]\ncheck_interval_ms = 200\n")
    try:
        brokers.start()
        yield brokers
    finally:
        brokers.stop()
    for broker in brokers.all:
        odd = [event for event in broker.events() if "raw" in event or event.get("level") in ("error", "critical")]
        assert not odd, f"broker {broker.broker_id}: {odd[:5]}"


def value_of(number: int) -> bytes:
    return f"{number}:".encode().ljust(VALUE_BYTES, b".")


def fill(brokers: Brokers, topic: str, first: int, count: int, **producer: int) -> None:
    leader = brokers.leader_of(topic)
    for number in range(first, first + count):
        sequence = {"base_sequence": number} if producer else {}
        batch = a_batch(value_of(number), **producer, **sequence)
        result = leader.produce(topic, batch, first_open=number if producer else None)
        assert (result.error.reason, result.base_offset) == ("", number)


def trim(broker: Broker, topic: str, *points: tuple[int, int], validate_only: bool = False) -> list[int]:
    request = admin_pb.TrimTopicRequest(
        name=topic,
        partitions=[admin_pb.TrimmedPartition(partition=number, offset=offset) for number, offset in points],
        validate_only=validate_only,
    )
    return [trimmed.offset for trimmed in broker.admin.TrimTopic(request, timeout=15).partitions]


def numbers_from(broker: Broker, topic: str, offset: int) -> list[int]:
    """Which records the leader gives from an offset on."""
    found: list[int] = []
    while True:
        answer = broker.fetch(topic, offset, max_bytes=1 << 20)
        assert not answer.error.reason, answer.error
        if not answer.batches:
            return found
        for _, batch in split(answer.batches):
            for record in decode(batch):
                assert record.value == value_of(record.offset)
                found.append(record.offset)
        offset = answer.next_offset


def segments_of(broker: Broker, topic_id: str) -> list[int]:
    return sorted(int(path.stem) for path in broker.data_directory.glob(f"partitions/{topic_id}-0/*.log"))


def begin_at(brokers: Brokers, topic_id: str, offset: int) -> bool:
    """Have all dropped every segment that lies wholly before the offset, and no other?"""
    found = [segments_of(broker, topic_id) for broker in brokers.all]
    return all(bases[0] <= offset and all(base > offset for base in bases[1:2]) for bases in found)


def described(broker: Broker, topic: str) -> admin_pb.PartitionDescription:
    return broker.admin.DescribeTopic(admin_pb.DescribeTopicRequest(name=topic), timeout=10).topic.partitions[0]


def was_reset(broker: Broker) -> bool:
    return any(event.get("event") == "reset" for event in broker.events())


def test_what_is_trimmed_is_gone_on_every_broker_and_stays_so_over_a_restart(forgetful: Brokers) -> None:
    topic_id = forgetful.create_topic("trimmed", config=SMALL).topic_id
    fill(forgetful, "trimmed", 0, 30)
    leader = forgetful.leader_of("trimmed")
    other = next(broker for broker in forgetful.all if broker is not leader)
    assert trim(other, "trimmed", (0, 20)) == [20] and trim(leader, "trimmed", (0, 7)) == [20]
    assert leader.fetch("trimmed", 19).error.reason == "OFFSET_OUT_OF_RANGE"
    assert numbers_from(leader, "trimmed", 20)[-10:] == list(range(20, 30))
    assert eventually(lambda: begin_at(forgetful, topic_id, 20))
    assert described(other, "trimmed").log_start_offset == 20
    for broker in forgetful.all:
        broker.kill()
    forgetful.start()
    leader = forgetful.leader_of("trimmed")
    assert eventually(lambda: not leader.fetch("trimmed", 20).error.reason)
    assert leader.fetch("trimmed", 19).error.reason == "OFFSET_OUT_OF_RANGE"
    assert numbers_from(leader, "trimmed", 20)[-10:] == list(range(20, 30))
    bound = pb.ListOffsetsRequest.BOUND_START
    query = pb.ListOffsetsRequest.Query(topic="trimmed", partition=0, bound=bound)
    assert leader.records.ListOffsets(pb.ListOffsetsRequest(queries=[query]), timeout=5).results[0].offset == 20


def test_a_broker_that_was_away_while_the_log_moved_on_begins_anew_and_knows_the_producers(
    forgetful: Brokers,
) -> None:
    topic_id = forgetful.create_topic("moved-on", config=SMALL).topic_id
    fill(forgetful, "moved-on", 0, 3, producer_id=7, producer_epoch=0)
    leader = forgetful.leader_of("moved-on")
    away = next(broker for broker in forgetful.all if broker is not leader)
    away.kill()
    fill(forgetful, "moved-on", 3, 30, producer_id=7, producer_epoch=0)
    assert trim(leader, "moved-on", (0, 30)) == [30]
    assert eventually(lambda: segments_of(leader, topic_id)[0] > 20)
    away.start()
    assert eventually(lambda: was_reset(away))
    # In the midst of what follows, or not: each start carries on.
    for _ in range(2):
        away.kill()
        away.start()
        assert eventually(away.is_ready)
    forgetful.await_ready()
    assert eventually(lambda: begin_at(forgetful, topic_id, 30))

    def leads() -> bool:
        request = admin_pb.TransferLeadershipRequest(broker_id=away.broker_id)
        request.partition.topic = "moved-on"
        leader.admin.TransferLeadership(request, timeout=10)
        return forgetful.leader_of("moved-on") is away

    assert eventually(leads)
    assert numbers_from(away, "moved-on", 30)[-3:] == [30, 31, 32]
    last = a_batch(value_of(32), producer_id=7, producer_epoch=0, base_sequence=32)
    assert away.produce("moved-on", last, first_open=32).base_offset == 32  # known, and not appended twice
    fill(forgetful, "moved-on", 33, 1, producer_id=7, producer_epoch=0)


def test_by_size_the_newest_bytes_are_kept(forgetful: Brokers) -> None:
    topic_id = forgetful.create_topic("sized", config={**SMALL, "retention.bytes": "200000"}).topic_id
    fill(forgetful, "sized", 0, 60)
    leader = forgetful.leader_of("sized")
    assert eventually(lambda: described(leader, "sized").log_start_offset >= 27)
    start = described(leader, "sized").log_start_offset
    assert numbers_from(leader, "sized", start) == list(range(start, 60)) and start <= 40
    assert eventually(lambda: begin_at(forgetful, topic_id, described(leader, "sized").log_start_offset))


def test_by_age_what_is_old_goes_even_where_nothing_is_written_any_more(forgetful: Brokers) -> None:
    forgetful.create_topic("aged", config={"retention.ms": "1500"})
    fill(forgetful, "aged", 0, 5)
    leader = forgetful.leader_of("aged")
    assert described(leader, "aged").log_start_offset == 0
    assert eventually(lambda: described(leader, "aged").log_start_offset == 5)
    assert eventually(lambda: described(leader, "aged").size_bytes < VALUE_BYTES)
    fill(forgetful, "aged", 5, 1)
    assert numbers_from(leader, "aged", 5) == [5]


def test_a_topic_that_asks_for_nothing_keeps_everything(forgetful: Brokers) -> None:
    forgetful.create_topic("kept", config=SMALL)
    fill(forgetful, "kept", 0, 20)
    assert numbers_from(forgetful.leader_of("kept"), "kept", 0) == list(range(20))


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ([(0, 5), (1, 1)], "OFFSET_OUT_OF_RANGE"),
        ([(0, -1)], "OFFSET_OUT_OF_RANGE"),
        ([(0, 2**63 - 1)], "OFFSET_OUT_OF_RANGE"),
        ([(2, 0)], "UNKNOWN_PARTITION"),
        ([(-1, 0)], "UNKNOWN_PARTITION"),
        ([(0, 1), (0, 2)], "INVALID_REQUEST"),
        ([], "INVALID_REQUEST"),
    ],
)
def test_a_trim_that_cannot_be_is_refused_and_trims_nothing(
    forgetful: Brokers, points: list[tuple[int, int]], reason: str
) -> None:
    name = f"refused-{os.urandom(4).hex()}"
    forgetful.create_topic(name, partitions=2)
    fill(forgetful, name, 0, 5)
    with pytest.raises(grpc.RpcError) as refused:
        trim(forgetful[0], name, *points)
    assert error_info(refused.value)[1] == reason
    assert reason != "OFFSET_OUT_OF_RANGE" or f"of '{name}' cannot start at" in refused.value.details()
    assert described(forgetful[1], name).log_start_offset == 0


@pytest.mark.parametrize(("name", "reason"), [("__offsets", "NOT_AUTHORIZED"), ("nowhere", "UNKNOWN_TOPIC")])
def test_what_is_internal_or_not_there_is_not_trimmed(forgetful: Brokers, name: str, reason: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        trim(forgetful[0], name, (0, 0))
    assert error_info(refused.value)[1] == reason


def test_to_check_a_trim_trims_nothing(forgetful: Brokers) -> None:
    forgetful.create_topic("checked")
    fill(forgetful, "checked", 0, 5)
    assert trim(forgetful[2], "checked", (0, 5), validate_only=True) == [5]
    assert described(forgetful[0], "checked").log_start_offset == 0
