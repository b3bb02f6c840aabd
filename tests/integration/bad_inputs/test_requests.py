"""Requests that can be read and should not be granted, or not whole. Rows 16 to 34 of the list of bad inputs.

Beside these: tests/integration/test_bad_input.py (batches, sequences, offsets), test_groups.py (members, stores,
fencing), test_admin.py (deleted topics) and test_failover.py (those who do not lead).
"""

from __future__ import annotations

import gzip
import os
import struct
import time

import crc32c
import grpc
import pytest
import zstandard
from lograft.proto.record_batch import HEADER_SIZE, Compression, NewRecord, decode, encode
from lograft.v1 import admin_service_pb2 as admin_pb
from lograft.v1 import broker_service_pb2 as pb
from lograft.v1 import groups_service_pb2 as groups_pb

from tests.integration.bad_inputs.conftest import TOPIC
from tests.integration.bad_inputs.watch import GROWTH_BYTES_MAX, Watch
from tests.integration.brokers import Broker, Brokers, a_batch, error_info, eventually

GOOD = a_batch(b"one", b"two")


def refused(broker: Broker, **fields: object) -> str:
    request = admin_pb.CreateTopicRequest(
        **{"name": "good", "partitions": 1, "topic_id": os.urandom(16).hex(), **fields}  # type: ignore[arg-type]
    )
    with pytest.raises(grpc.RpcError) as failure:
        broker.admin.CreateTopic(request, timeout=10)
    return error_info(failure.value)[1]


def topics(broker: Broker) -> set[str]:
    return {topic.name for topic in broker.records.Metadata(pb.MetadataRequest(all_topics=True), timeout=10).topics}


@pytest.fixture
def led(lone_brokers: Brokers, request: pytest.FixtureRequest) -> tuple[Broker, str]:
    """The broker and a new topic that it leads."""
    name = "t-" + os.urandom(6).hex()
    lone_brokers.create_topic(name)
    return lone_brokers.leader_of(name), name


# Topics -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["..", ".", "", "a/b", "a\0", "../../etc/x", "x" * 250, "a b", "оrders", "a\nb", "a\x1b[2J", "x" * 1_000_000],
)
def test_name_that_no_topic_may_have_is_refused_and_makes_no_file(broker: Broker, watch: Watch, name: str) -> None:
    before = topics(broker)
    with watch:
        assert refused(broker, name=name) == "INVALID_TOPIC"
    assert topics(broker) == before
    assert all(len(path.name) < 50 for path in (broker.data_directory / "partitions").iterdir())


def test_name_that_metrics_cannot_tell_from_another_is_refused_and_case_tells_two_apart(
    lone_brokers: Brokers, broker: Broker
) -> None:
    first = lone_brokers.create_topic("a.collision")
    assert refused(broker, name="a_collision") == "INVALID_TOPIC"
    second = lone_brokers.create_topic("A.Collision")
    assert first.topic_id != second.topic_id
    lone_brokers.leader_of("A.Collision").produce("A.Collision", GOOD)
    assert lone_brokers.leader_of("a.collision").values("a.collision") == []


def test_name_of_a_device_is_a_name_like_any_other(lone_brokers: Brokers) -> None:
    for name in ("con", "nul", "COM1"):
        lone_brokers.create_topic(name)


def test_metrics_have_no_label_for_what_does_not_exist(broker: Broker) -> None:
    for number in range(50):
        broker.fetch(f"no-such-topic-{number}")
        broker.produce(f"no-such-topic-{number}", GOOD)
    text = broker.http("/metrics")[1]
    assert "no-such-topic" not in text


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"partitions": 1_000_000}, "INVALID_PARTITIONS"),
        ({"partitions": 1_001}, "INVALID_PARTITIONS"),
        ({"partitions": -1}, "INVALID_PARTITIONS"),
        ({"replication": 2}, "INVALID_REPLICATION"),
        ({"replication": -5}, "INVALID_REPLICATION"),
        ({"name": "__mine"}, "NOT_AUTHORIZED"),
        ({"topic_id": "../../etc"}, "INVALID_REQUEST"),
        ({"topic_id": "0" * 31 + "1"}, "INVALID_REQUEST"),
        ({"config": {"file": "file:///etc/passwd"}}, "INVALID_CONFIG"),
        ({"config": {"retention.ms": "9" * 5_000}}, "INVALID_CONFIG"),
    ],
    ids=str,
)
def test_topic_that_cannot_be_is_refused_and_nothing_of_it_is_left(
    broker: Broker, watch: Watch, fields: dict[str, object], reason: str
) -> None:
    before = topics(broker)
    with watch:
        assert refused(broker, **{"name": "cannot-be", **fields}) == reason
    assert topics(broker) == before


@pytest.mark.parametrize("topic", ["__cluster", "__offsets"])
def test_client_writes_to_no_internal_topic(broker: Broker, topic: str) -> None:
    assert broker.produce(topic, GOOD).error.reason in ("NOT_AUTHORIZED", "UNKNOWN_TOPIC")
    with pytest.raises(grpc.RpcError) as failure:
        broker.admin.DeleteTopic(admin_pb.DeleteTopicRequest(name=topic), timeout=10)
    assert error_info(failure.value)[1] == "NOT_AUTHORIZED"


# Batches ------------------------------------------------------------------------------------------------------------


def resealed(batch: bytes, position: int, field: bytes) -> bytes:
    """With one field of the header replaced, and a CRC that is good again."""
    batch = batch[:position] + field + batch[position + len(field) :]
    body = batch[21:]
    return batch[:17] + struct.pack(">I", crc32c.crc32c(body)) + body


def around(records: bytes, codec: int, count: int) -> bytes:
    """A batch of so many records, as it says, around bytes that are whatever they are."""
    header = GOOD[:HEADER_SIZE]
    batch = header[:8] + struct.pack(">i", HEADER_SIZE - 12 + len(records)) + header[12:] + records
    batch = resealed(batch, 21, struct.pack(">hi", codec, count - 1))
    return resealed(batch, 57, struct.pack(">i", count))


NO_PLACE = {
    "control": (resealed(GOOD, 21, struct.pack(">h", 1 << 5)), "INVALID_RECORD"),
    "transactional": (resealed(GOOD, 21, struct.pack(">h", 1 << 4)), "INVALID_RECORD"),
    "unknown attributes": (resealed(GOOD, 21, struct.pack(">h", 0x7F00)), "INVALID_RECORD"),
    "codec 7": (resealed(GOOD, 21, struct.pack(">h", 7)), "UNSUPPORTED_COMPRESSION"),
    "last delta 2^31-1": (resealed(GOOD, 23, struct.pack(">i", 2**31 - 1)), "INVALID_RECORD"),
    "last delta -1": (resealed(GOOD, 23, struct.pack(">i", -1)), "INVALID_RECORD"),
    "count 2^31-1": (around(b"\0" * 10, 3, 2**31 - 1), "INVALID_RECORD"),
    "producer without sequence": (resealed(GOOD, 43, struct.pack(">q", 7)), "INVALID_RECORD"),
    "no records": (around(b"", 0, 0), "INVALID_RECORD"),
}


@pytest.mark.parametrize(("batch", "reason"), NO_PLACE.values(), ids=NO_PLACE)
def test_batch_that_has_no_place_in_a_log_is_refused_and_nothing_is_appended(
    led: tuple[Broker, str], watch: Watch, batch: bytes, reason: str
) -> None:
    broker, topic = led
    with watch:
        result = broker.produce(topic, batch)
    assert (result.error.reason, result.base_offset) == (reason, -1)
    assert broker.fetch(topic).committed_offset == 0


def bombs() -> dict[str, bytes]:
    gigabyte = zstandard.ZstdCompressor(level=3)
    return {
        "zstd": around(gigabyte.compress(bytes(256 << 20)), 4, 1000),
        "gzip": around(gzip.compress(bytes(256 << 20), compresslevel=9), 1, 1000),
        "zstd within zstd": around(gigabyte.compress(gigabyte.compress(bytes(1 << 30))), 4, 1),
        "cut short": around(gigabyte.compress(os.urandom(10_000))[:-5_000], 4, 100),
        "no such bytes": around(os.urandom(1_000), 4, 10),
        "snappy": around(os.urandom(1_000), 2, 10),
        "nine million records": around(gigabyte.compress(b"\x0c\0\0\0\1\1\0" * 9_000_000), 4, 9_000_000),
    }


def test_batches_that_inflate_without_end_or_not_at_all_are_never_inflated_whole_by_a_broker(
    led: tuple[Broker, str], watch: Watch
) -> None:
    """A broker does not look into batches: it keeps what it was given. Where it has to look, it looks within bounds."""
    broker, topic = led
    kept = 0
    with watch:
        for name, bomb in bombs().items():
            if len(bomb) > 1 << 20:
                continue
            result = broker.produce(topic, bomb)
            assert not result.error.reason, (name, result.error)
            kept += 1
        assert kept >= 4
        query = pb.ListOffsetsRequest.Query(topic=topic, partition=0, timestamp_ms=1)
        within = pb.ListOffsetsRequest.Query(topic=topic, partition=0, unread_from=500)
        for _ in range(5):
            for one in (query, within):
                (found,) = broker.records.ListOffsets(pb.ListOffsetsRequest(queries=[one]), timeout=10).results
                assert not found.error.reason, found.error


@pytest.mark.parametrize("timestamp_ms", [-1, 0, 253_402_300_799_000, 2**63 - 1])
def test_time_of_a_record_is_kept_as_it_came_and_decides_nothing(led: tuple[Broker, str], timestamp_ms: int) -> None:
    broker, topic = led
    batch = resealed(GOOD, 27, struct.pack(">qq", timestamp_ms, timestamp_ms))
    assert not broker.produce(topic, batch).error.reason
    assert not broker.produce(topic, GOOD).error.reason
    assert broker.fetch(topic).committed_offset == 4
    query = pb.ListOffsetsRequest.Query(topic=topic, partition=0, timestamp_ms=1)
    (found,) = broker.records.ListOffsets(pb.ListOffsetsRequest(queries=[query]), timeout=10).results
    assert not found.error.reason


def test_records_of_odd_but_legal_shape_are_kept_exactly(led: tuple[Broker, str], watch: Watch) -> None:
    broker, topic = led
    headers = [(f"h{number}", b"v" if number % 2 else None) for number in range(50_000)]
    records = [
        NewRecord(1, None, None, ()),
        NewRecord(2, b"", b"", ()),
        NewRecord(3, b"\xff\x00", b"v", [("", b""), ("same", b"1"), ("same", b"2")]),
        NewRecord(4, b"k", None, headers),
    ]
    batch = encode(records, compression=Compression.ZSTD)
    with watch:
        assert not broker.produce(topic, batch).error.reason
        got = decode(broker.fetch(topic).batches)
    assert [(one.key, one.value, len(one.headers)) for one in got] == [
        (None, None, 0),
        (b"", b"", 0),
        (b"\xff\x00", b"v", 3),
        (b"k", None, 50_000),
    ]
    assert [tuple(pair) for pair in got[3].headers] == headers


# Fetches ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_bytes", [0, 1, -1, 2**31 - 1])
def test_fetch_of_any_size_gives_a_batch_and_no_more_than_the_brokers_bound(
    led: tuple[Broker, str], watch: Watch, max_bytes: int
) -> None:
    broker, topic = led
    big = a_batch(os.urandom(700_000))
    entry = pb.ProduceRequest.Entry(topic=topic, partition=0, batch=big)
    list(broker.records.Produce(iter([pb.ProduceRequest(request_id=1, entries=[entry] * 15)]), timeout=20))
    with watch:
        answer = broker.fetch(topic, max_bytes=max_bytes)
    assert len(big) <= len(answer.batches) <= 2 << 20


@pytest.mark.parametrize("offset", [-7, -1, 2**63 - 1])
def test_fetch_outside_the_log_says_where_the_log_is(led: tuple[Broker, str], offset: int) -> None:
    broker, topic = led

    def asked() -> pb.FetchResponse.Partition | None:
        answer = broker.fetch(topic, offset, max_wait_ms=10_000)
        return None if answer.error.reason in ("NO_LEADER", "NOT_LEADER") else answer  # a busy machine changes leaders

    answer = eventually(asked)
    assert answer.error.reason == "OFFSET_OUT_OF_RANGE" and answer.error.metadata["end"] == "0"


def test_fetch_of_a_hundred_thousand_partitions_is_refused_and_of_ten_thousand_is_answered(
    broker: Broker, watch: Watch
) -> None:
    def ask(count: int) -> int:
        asked = [pb.FetchRequest.Partition(topic=TOPIC, partition=number, offset=0) for number in range(count)]
        return len(broker.records.Fetch(pb.FetchRequest(partitions=asked), timeout=20).partitions)

    with watch:
        with pytest.raises(grpc.RpcError) as failure:
            ask(100_000)
        assert error_info(failure.value)[1] == "INVALID_REQUEST"
        assert ask(10_000) == 10_000
        missing = [pb.ListOffsetsRequest.Query(topic="none", partition=number) for number in range(10_000)]
        assert len(broker.records.ListOffsets(pb.ListOffsetsRequest(queries=missing), timeout=20).results) == 10_000
        entries = [pb.ProduceRequest.Entry(topic="none", partition=number, batch=b"") for number in range(10_000)]
        (answer,) = broker.records.Produce(iter([pb.ProduceRequest(entries=entries)]), timeout=20)
        assert len(answer.results) == 10_000


def test_other_requests_that_name_too_much_are_refused(broker: Broker) -> None:
    many = [pb.ListOffsetsRequest.Query(topic=TOPIC, partition=0, bound=pb.ListOffsetsRequest.BOUND_END)] * 10_001
    entries = [groups_pb.StoreOffsetsRequest.Entry(topic=TOPIC, partition=0, offset=0)] * 10_001
    calls = (
        lambda: broker.records.ListOffsets(pb.ListOffsetsRequest(queries=many), timeout=10),
        lambda: broker.records.Metadata(pb.MetadataRequest(topics=map(str, range(10_001))), timeout=10),
        lambda: broker.groups.StoreOffsets(groups_pb.StoreOffsetsRequest(group="g", entries=entries), timeout=10),
    )
    for call in calls:
        with pytest.raises(grpc.RpcError) as failure:
            call()
        assert error_info(failure.value)[1] == "INVALID_REQUEST"


# Groups -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "x" * 1_000_000, "a\u2028b", ""])
def test_name_of_a_group_that_would_spoil_logs_is_refused_and_not_in_them(
    broker: Broker, watch: Watch, name: str
) -> None:
    join = groups_pb.HeartbeatRequest.Join(topics=[TOPIC], session_timeout_ms=6_000)
    with watch:
        with pytest.raises(grpc.RpcError) as failure:
            broker.groups.Heartbeat(
                groups_pb.HeartbeatRequest(group=name, member_id="m", join=join, max_wait_ms=1), timeout=10
            )
        _, reason, _ = error_info(failure.value)
    assert reason == "INVALID_GROUP" and len(failure.value.details() or "") < 1_000
    log = broker.log_path.read_text()
    assert "\x1b" not in log and "x" * 1_000 not in log


def test_name_of_a_client_with_escapes_reaches_log_and_metrics_only_escaped(broker: Broker) -> None:
    join = groups_pb.HeartbeatRequest.Join(
        topics=[TOPIC], session_timeout_ms=6_000, client_id="evil\n\x1b[2J" + "x" * 100_000
    )

    def joined() -> bool:
        beat = groups_pb.HeartbeatRequest(group="escapes", member_id="m", join=join, max_wait_ms=1)
        broker.groups.Heartbeat(beat, timeout=10)
        return True

    eventually(joined)
    described = broker.groups.DescribeGroup(groups_pb.DescribeGroupRequest(group="escapes"), timeout=10)
    (member,) = described.members
    assert "\n" not in member.client_id and "\x1b" not in member.client_id and len(member.client_id) < 1_000
    assert "\x1b" not in broker.log_path.read_text() and "evil" not in broker.http("/metrics")[1]


def test_members_beyond_a_groups_bound_are_refused_and_those_within_stay(broker: Broker) -> None:
    join = groups_pb.HeartbeatRequest.Join(topics=[TOPIC], session_timeout_ms=20_000)
    with Watch(broker, TOPIC, growth_bytes_max=2 * GROWTH_BYTES_MAX):
        reasons = []
        for first in range(0, 1_050, 350):  # fewer than one connection may have at a time
            waiting = [
                broker.groups.Heartbeat.future(
                    groups_pb.HeartbeatRequest(group="crowded", member_id=f"m{number}", join=join, max_wait_ms=1),
                    timeout=30,
                )
                for number in range(first, first + 350)
            ]
            reasons += [error_info(error)[1] for one in waiting if (error := one.exception()) is not None]  # type: ignore[arg-type]
    assert len(reasons) == 50 and set(reasons) == {"GROUP_FULL"}


@pytest.mark.parametrize("pattern", ["(" * 5_000, "(a+)+$" * 100, "x{1000}{1000}", "\\", "[" * 100])
def test_pattern_that_would_take_for_ever_is_refused_or_costs_nothing(
    broker: Broker, watch: Watch, pattern: str
) -> None:
    join = groups_pb.HeartbeatRequest.Join(pattern=pattern, session_timeout_ms=6_000)
    beat = groups_pb.HeartbeatRequest(group="patterns", member_id="m", join=join, max_wait_ms=1)
    with watch:
        began = time.monotonic()
        try:
            broker.groups.Heartbeat(beat, timeout=10)
        except grpc.RpcError as error:
            assert error_info(error)[1] == "INVALID_REQUEST"
        assert time.monotonic() - began < 5
