"""What is encoded by hand is, byte for byte, what two other libraries write."""

from __future__ import annotations

import io
from typing import Any
from uuid import UUID

import pytest
from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer
from lograft.node.kafka.apis import APIS, FETCH, HEARTBEAT, PRODUCE
from lograft.node.kafka.codec import encode_response
from lograft.node.kafka.frames import TAGS_MAX, MalformedRequest, unsigned_varint
from lograft.node.kafka.hot_codec import (
    FetchedAnswer,
    ProducedAnswer,
    ProduceRequest,
    fetch_response,
    heartbeat_response,
    produce_response,
    read_produce_request,
)
from lograft.node.rpc.limits import PARTITIONS_PER_REQUEST_MAX

TOPIC_ID = UUID("0123456789abcdef0123456789abcdef")
LONG = "t" * 200


def versions(key: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("version", range(APIS[key].answered_from, APIS[key].highest + 1))


def other_library(name: str) -> Any:
    return pytest.importorskip(f"kafka.protocol.{name}").__dict__


PRODUCED = [
    ProducedAnswer("one", 0, 0, 1 << 40, 7),
    ProducedAnswer("one", 3, 6, -1, -1, "led elsewhere"),
    ProducedAnswer(LONG, 1, 0, 0, 0),
]


def told_produced(answers: list[ProducedAnswer]) -> dict[str, Any]:
    topics: dict[str, list[dict[str, Any]]] = {}
    for one in answers:
        topics.setdefault(one.topic, []).append(
            {
                "index": one.partition,
                "error_code": one.error_code,
                "base_offset": one.base_offset,
                "log_append_time": -1,
                "log_start_offset": one.log_start_offset,
                "record_errors": (),
                "error_message": one.error_message,
            }
        )
    return {"responses": [{"name": name, "partition_responses": told} for name, told in topics.items()]}


@versions(PRODUCE)
@pytest.mark.parametrize("answers", [[], PRODUCED[:1], PRODUCED], ids=len)
def test_an_answer_to_produce_is_what_kio_writes(version: int, answers: list[ProducedAnswer]) -> None:
    assert produce_response(version, answers) == encode_response(PRODUCE, version, told_produced(answers))


@versions(PRODUCE)
def test_an_answer_to_produce_is_what_kafka_python_reads(version: int) -> None:
    kind = other_library("producer")["ProduceResponse"]
    read = kind.decode(produce_response(version, PRODUCED), version=version)
    told = [(topic.name, one.index, one.error_code, one.base_offset) for topic in read.responses for one in topic[1]]
    assert told == [one[:4] for one in PRODUCED]


FETCHED = [
    FetchedAnswer("one", TOPIC_ID, 0, 0, 1 << 40, 7, [b"batch one", memoryview(b"batch two")]),
    FetchedAnswer("one", TOPIC_ID, 1, 1, -1, -1, ()),
    FetchedAnswer(LONG, None, 2, 0, 5, 0, [bytes(300)]),
]


def told_fetched(answers: list[FetchedAnswer], version: int, is_read_committed: bool) -> dict[str, Any]:
    topics: dict[str, tuple[UUID | None, list[dict[str, Any]]]] = {}
    for one in answers:
        topics.setdefault(one.topic, (one.topic_id, []))[1].append(
            {
                "partition_index": one.partition,
                "error_code": one.error_code,
                "high_watermark": one.committed_offset,
                "last_stable_offset": one.committed_offset,
                "log_start_offset": one.log_start_offset,
                "aborted_transactions": () if is_read_committed else None,
                "preferred_read_replica": -1,
                "records": b"".join(one.batches),
            }
        )
    return {
        "responses": [{"topic": name, "topic_id": uuid, "partitions": told} for name, (uuid, told) in topics.items()]
    }


@versions(FETCH)
@pytest.mark.parametrize("is_read_committed", [False, True])
@pytest.mark.parametrize("answers", [[], FETCHED[:1], FETCHED], ids=len)
def test_an_answer_to_fetch_is_what_kio_writes(
    version: int, answers: list[FetchedAnswer], is_read_committed: bool
) -> None:
    written = b"".join(fetch_response(version, answers, is_read_committed=is_read_committed))
    assert written == encode_response(FETCH, version, told_fetched(answers, version, is_read_committed))


@pytest.mark.parametrize("version", range(4, 13))
def test_an_answer_to_fetch_is_what_kafka_python_reads(version: int) -> None:
    kind = other_library("consumer")["FetchResponse"]
    read = kind.decode(b"".join(fetch_response(version, FETCHED, is_read_committed=False)), version=version)
    told = [
        (one.partition_index, one.error_code, one.high_watermark, bytes(one.records or b""))
        for topic in read.responses
        for one in topic.partitions
    ]
    assert told == [(one.partition, one.error_code, one.committed_offset, b"".join(one.batches)) for one in FETCHED]


@pytest.mark.parametrize("version", range(5))
@pytest.mark.parametrize("code", [0, 27])
def test_an_answer_to_heartbeat_is_what_kio_writes(version: int, code: int) -> None:
    assert heartbeat_response(version, code) == encode_response(HEARTBEAT, version, {"error_code": code})


def a_produce_request(version: int) -> bytes:
    schema: Any = load_request_schema(PRODUCE, version)
    nested = entity_module(schema)
    last = nested.PartitionProduceData(index=1, records=bytes(500))
    request = schema(
        transactional_id=None,
        acks=-1,
        timeout=__import__("datetime").timedelta(seconds=30),
        topic_data=(
            nested.TopicProduceData(
                name="one",
                partition_data=(
                    nested.PartitionProduceData(index=0, records=b"first batch"),
                    nested.PartitionProduceData(index=7, records=None),
                ),
            ),
            nested.TopicProduceData(name=LONG, partition_data=()),
            nested.TopicProduceData(name="two", partition_data=(last,)),
        ),
    )
    written = io.BytesIO()
    entity_writer(schema)(written, request)
    return written.getvalue()


def told_batches(request: ProduceRequest) -> list[tuple[str, int, bytes | None]]:
    return [(topic, number, records and bytes(records)) for topic, number, records in request.batches]


def entity_module(schema: Any) -> Any:
    return __import__(schema.__module__, fromlist=["x"])


@versions(PRODUCE)
def test_a_produce_request_is_read_as_kio_wrote_it_and_its_records_are_a_view(version: int) -> None:
    frame = b"head" + a_produce_request(version)
    request = read_produce_request(frame, 4, version)
    assert (request.transactional_id, request.acks, request.timeout_ms) == (None, -1, 30_000)
    assert [
        (topic, number, None if records is None else bytes(records)) for topic, number, records in request.batches
    ] == [
        ("one", 0, b"first batch"),
        ("one", 7, None),
        ("two", 1, bytes(500)),
    ]
    assert request.batches[0].records is not None and request.batches[0].records.obj is frame


@versions(PRODUCE)
def test_a_produce_request_cut_or_flipped_anywhere_is_malformed_or_another_request_as_kio_has_it(version: int) -> None:
    frame = a_produce_request(version)
    reader = entity_reader(load_request_schema(PRODUCE, version))
    for size in range(len(frame)):
        with pytest.raises(MalformedRequest):
            read_produce_request(frame[:size], 0, version)
    for at in range(len(frame)):
        for bit in range(8):
            flipped = bytearray(frame)
            flipped[at] ^= 1 << bit
            try:
                ours: Any = read_produce_request(bytes(flipped), 0, version)
            except MalformedRequest:
                continue
            theirs, _ = reader(bytes(flipped), 0)
            told = [(topic.name, one.index, one.records) for topic in theirs.topic_data for one in topic.partition_data]
            assert told == [
                (topic, number, None if records is None else bytes(records)) for topic, number, records in ours.batches
            ]


@pytest.mark.parametrize("version", [3, 9])
def test_a_request_that_claims_more_partitions_than_there_may_be_is_refused_before_they_are_read(version: int) -> None:
    count = PARTITIONS_PER_REQUEST_MAX + 1
    many = bytes(7) + (bytes([1]) if version == 9 else b"")
    with pytest.raises(MalformedRequest, match="are the most"):
        if version == 9:
            from lograft.node.kafka.frames import unsigned_varint

            read_produce_request(b"\0" + bytes(6) + unsigned_varint(count + 1) + many * 9, 0, version)
        else:
            read_produce_request(b"\xff\xff" + bytes(6) + count.to_bytes(4, "big") + many * 9, 0, version)


def test_every_schema_that_is_told_of_exists() -> None:
    for api in APIS.values():
        for version in range(api.answered_from, api.highest + 1):
            assert load_request_schema(api.key, version) and load_response_schema(api.key, version)


def test_tagged_fields_beyond_what_any_client_sends_are_refused_before_they_are_walked_over() -> None:
    def request(tags: int) -> bytes:
        # no transactional id, acks, time-out, no topics
        return b"\0" + (1).to_bytes(2, "big") + bytes(4) + b"\1" + unsigned_varint(tags) + b"\7\0" * tags

    assert read_produce_request(request(TAGS_MAX), 0, 9).batches == []
    with pytest.raises(MalformedRequest, match="tagged fields"):
        read_produce_request(request(TAGS_MAX + 1), 0, 9)
